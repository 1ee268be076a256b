"""Models of clients' own, trained in phases, in runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulation.config.errors import ConfigError
from simulation.config.experiment import parse
from simulation.config.local_work import LocalWork
from simulation.population.clock import world_of
from simulation.runs import preflight
from simulation.runs.run import make_strategy, simulate
from tests.simulation.same_bits import StopAfter

BASE: dict[str, Any] = {
    "dataset": "fashion-mnist-mini",
    "model": "logistic",
    "clients": 10,
    "cohort": 5,
    "rounds": 3,
    "partition": {"kind": "pathological", "classes_per_client": 2, "validation": 0.3},
    "resources": {"engine": "inline"},
}
ENCODED = {"compression": {"kind": "top-k", "fraction": 0.1, "error_feedback": True}}


@pytest.fixture(scope="module")
def ditto(tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("ditto") / "run"
    return simulate(parse(BASE | ENCODED | {"strategy": "ditto"}), out=out)


def test_what_is_sent_is_what_fedavgs_clients_send(ditto: Any, tmp_path: Any) -> None:
    plain = simulate(parse(BASE | ENCODED), out=tmp_path / "plain")
    assert ditto.summary["weights_sha256"] == plain.summary["weights_sha256"]
    for one, other in zip(ditto.rounds, plain.rounds, strict=True):
        for name in ("server_accuracy", "bytes_up", "train_loss"):
            assert one[name] == other[name], name
    last, before = ditto.rounds[-1]["client_accuracy"], plain.rounds[-1]["client_accuracy"]
    assert last > before + 0.1


def test_a_resumed_run_knows_the_clients_models(ditto: Any, tmp_path: Any) -> None:
    wanted = parse(BASE | ENCODED | {"strategy": "ditto"})
    with pytest.raises(KeyboardInterrupt):
        simulate(wanted, out=tmp_path / "cut", listener=StopAfter(2))
    resumed = simulate(wanted, out=tmp_path / "cut", resume=True)
    assert resumed.summary["weights_sha256"] == ditto.summary["weights_sha256"]
    assert resumed.rounds[-1]["client_accuracy"] == ditto.rounds[-1]["client_accuracy"]


def test_the_clock_counts_every_phase() -> None:
    sizes = np.array([70, 0, 32])
    wanted = parse(BASE | {"clients": 3, "cohort": 3, "devices": "equal"})
    phases = (LocalWork(2, 32), LocalWork(1, 32))
    world = world_of(wanted, sizes, False, 0, 0, phases)
    assert world.work.steps.tolist() == [9, 0, 3]
    assert world.work.examples.tolist() == [210, 0, 96]
    steps, examples = world.done([0, 2], {0: 0.5})
    # Half of six steps and half of three, rounded up: an epoch of 3 steps, and 2 steps of 32.
    assert steps.tolist() == [5, 3] and examples.tolist() == [70 + 64, 96]


def test_the_clock_counts_a_gradient_on_all_examples() -> None:
    """As MimeLite's clients measure one before they train; a straggler does, too."""
    sizes = np.array([70, 0, 32])
    wanted = parse(BASE | {"clients": 3, "cohort": 3, "devices": "equal"})
    phases = (LocalWork(1, None), LocalWork(2, 32))
    world = world_of(wanted, sizes, False, 0, 0, phases)
    assert world.work.steps.tolist() == [1 + 6, 0, 1 + 2]
    assert world.work.examples.tolist() == [70 + 140, 0, 32 + 64]
    steps, examples = world.done([0, 2], {0: 0.5})
    assert steps.tolist() == [1 + 3, 3] and examples.tolist() == [70 + 70, 96]


def test_the_clock_counts_every_gradient_of_a_step() -> None:
    sizes = np.array([70, 32])
    wanted = parse(BASE | {"clients": 2, "cohort": 2, "devices": "equal"})
    one, two = (world_of(wanted, sizes, False, 0, 0, (), n).durations([0, 1]) for n in (1, 2))
    np.testing.assert_allclose(two.compute, 2 * one.compute)


def test_models_are_tuned_where_they_are_measured(tmp_path: Any) -> None:
    """FedBABU: the head stays what it was, and does not travel; all clients have models."""
    wanted = parse(
        BASE | {"strategy": "fedbabu", "model": "mlp", "evaluation": {"all_clients": True}}
    )
    plain = simulate(wanted.replace(strategy="fedavg"), out=tmp_path / "plain")
    found = simulate(wanted, out=tmp_path / "run")
    head = 10 * (200 + 1)
    assert 4 * 5 * head == plain.rounds[-1]["bytes_up"] - found.rounds[-1]["bytes_up"]
    start = found.weights[-head:]
    short = simulate(wanted.replace(rounds=1), out=tmp_path / "short")
    np.testing.assert_array_equal(short.weights[-head:], start)
    assert found.rounds[-1]["client_accuracy"] > plain.rounds[-1]["client_accuracy"] + 0.1
    assert found.rounds[-1]["server_accuracy"] is not None


def test_clients_find_the_model_that_fits_them(tmp_path: Any) -> None:
    """IFCA on two kinds of clients: half of them have other labels for the same pictures."""
    wanted = parse(BASE | {
        "dataset": f"{__name__}:two_kinds", "strategy": "ifca", "rounds": 6, "cohort": 8,
        "clients": 8, "partition": {"kind": "natural", "validation": 0.3},
        "training": {"learning_rate": 0.3, "local_epochs": 3, "batch_size": 10},
        "evaluation": {"all_clients": True},
    })  # fmt: skip
    found = simulate(wanted, out=tmp_path / "ifca")
    plain = simulate(wanted.replace(strategy="fedavg"), out=tmp_path / "plain")
    assert plain.rounds[-1]["client_accuracy"] < 0.75 < 0.9 < found.rounds[-1]["client_accuracy"]
    assert [line["server_accuracy"] for line in found.rounds[1:]] == [None] * 6
    one, other = found.rounds[-1], plain.rounds[-1]
    assert one["bytes_up"] == other["bytes_up"]
    assert one["bytes_down"] == 2 * other["bytes_down"]
    with pytest.raises(KeyboardInterrupt):
        simulate(wanted, out=tmp_path / "cut", listener=StopAfter(2))
    resumed = simulate(wanted, out=tmp_path / "cut", resume=True)
    assert resumed.summary["weights_sha256"] == found.summary["weights_sha256"]
    assert resumed.rounds[-1]["client_accuracy"] == one["client_accuracy"]


def two_kinds() -> Any:
    """Two classes of points; clients of odd numbers call them by each other's names."""
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, 400)
    x = (rng.normal(size=(400, 4)) + 3.0 * y[:, None]).astype(np.float32)
    client = np.arange(400) % 8
    return {
        "x_train": x, "y_train": np.where(client % 2, 1 - y, y), "owners": client,
        "x_test": x[:40], "y_test": y[:40],
    }  # fmt: skip


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"mode": "centralised"},
     "strategy must be one whose clients have no models of their own in the mode 'centralised', "
     "whose one client has all data, got 'Ditto'"),
    ({"devices": "equal", "schedule": {"kind": "deadline", "deadline": 3.0, "late": "partial"}},
     "schedule.late must be 'drop' with Ditto, whose clients train in phases, which late ones "
     "would have to leave out, got 'partial'"),
    ({"devices": "equal", "schedule": "asynchronous"},
     "strategy must be another with the schedule 'asynchronous', as clients keep something from "
     "round to round, which would go by another model, got 'Ditto'"),
    ({"strategy": "mimelite",
      "devices": "equal", "schedule": {"kind": "deadline", "deadline": 3.0, "late": "partial"}},
     "schedule.late must be 'drop' with MimeLite, whose clients measure a gradient on all that "
     "they have before they train, got 'partial'"),
    ({"strategy": "fedproto", "mode": "centralised"},
     "strategy must be one whose clients have no models of their own in the mode 'centralised', "
     "whose one client has all data, got 'FedProto'"),
    ({"strategy": "fedproto", "attack": {"kind": "sign-flip", "fraction": 0.3}},
     "attack.kind must be 'label-flip' with FedProto, whose clients send no updates, got "
     "'sign-flip'"),
    ({"strategy": "ifca", "attack": {"kind": "alie", "fraction": 0.3}},
     "attack.kind must be that of clients which act alone with IFCA, whose clients' updates are of "
     "several models, got 'alie'"),
    ({"strategy": "ifca", "devices": "equal", "schedule": "asynchronous"},
     "schedule must be one of rounds without edges with IFCA, whose clients' updates are of "
     "several models, got 'asynchronous'"),
    ({"strategy": "ifca", "evaluation.personal": True},
     "evaluation.personal must be false with IFCA, whose clients choose among the server's "
     "models, got True"),
    ({"strategy": "ifca", "compression": "sign"},
     "compression must be left out with IFCA, whose clients send updates of one of several "
     "models, got 'sign'"),
    ({"strategy": "fedbabu", "evaluation.personal": True},
     "evaluation.personal must be false with FedBABU, whose clients' models are made where they "
     "are measured, each on its client's data, got True"),
    ({"resources.engine": "flower", "evaluation.personal": True},
     "evaluation.personal must be false with the engine 'flower', which does not give out what "
     "clients keep, got True"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "line"), REFUSED, ids=lambda v: str(v)[:20])
def test_what_does_not_fit_is_refused(changes: dict[str, Any], line: str) -> None:
    plain = {key: value for key, value in changes.items() if "." not in key}
    wanted = parse(BASE | {"strategy": "ditto"} | plain)
    wanted = wanted.replace(**{key: value for key, value in changes.items() if "." in key})
    with pytest.raises(ConfigError) as caught:
        preflight.check_devices(wanted, make_strategy(wanted))
    assert str(caught.value) == line
