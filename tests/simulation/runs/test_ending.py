"""Runs that end early, and models that stay: as a run of so many rounds has them, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulation.config.errors import RunError
from simulation.config.experiment import Experiment
from simulation.records.models import read_best
from simulation.records.reading import read_json, read_rounds
from simulation.runs.run import Result, simulate
from tests.simulation.same_bits import StopAfter

ROUNDS = 5


@pytest.fixture(scope="module")
def wanted() -> Experiment:
    return Experiment(
        dataset="fashion-mnist-mini", model="logistic", clients=6, cohort=3, rounds=ROUNDS,
        partition={"alpha": 0.3}, training={"learning_rate": 0.1}, seed=3,
        resources={"engine": "inline"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(wanted: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return simulate(wanted, out=tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def target(whole: Result) -> float:
    """An accuracy that is reached before the last round, and not by the first."""
    accuracies = [record["server_accuracy"] for record in whole.rounds]
    found: float = sorted(accuracies[1:])[2]
    return found


def lines(path: Path) -> list[dict[str, Any]]:
    return [{**record, "seconds": 0} for record in read_rounds(path)]


def test_a_run_that_stops_is_one_of_so_many_rounds(
    wanted: Experiment, whole: Result, target: float, tmp_path: Path
) -> None:
    stopping = wanted.replace(stop={"accuracy": target})
    done = simulate(stopping, out=tmp_path / "stops")
    last = next(r["round"] for r in whole.rounds[1:] if r["server_accuracy"] >= target)
    assert 0 < last < ROUNDS and done.summary["rounds"] == last
    assert done.summary["status"] == "complete"
    assert done.summary["stopped"] == (
        f"server_accuracy {whole.rounds[last]['server_accuracy']:.6g} has reached {target:g} "
        f"in round {last}"
    )
    shorter = simulate(wanted.replace(rounds=last), out=tmp_path / "shorter")
    assert lines(tmp_path / "stops") == lines(tmp_path / "shorter") == lines(whole.path)[: last + 1]
    assert done.summary["weights_sha256"] == shorter.summary["weights_sha256"]
    for name in ("all_clients.parquet", "clients.parquet", "model.keras"):
        assert (tmp_path / "stops" / name).exists()
    # More rounds do not go on with it; one that was interrupted ends as it does.
    again = simulate(stopping.replace(rounds=9), out=tmp_path / "stops", resume=True)
    assert again.summary["rounds"] == last
    assert again.summary["weights_sha256"] == shorter.summary["weights_sha256"]
    with pytest.raises(KeyboardInterrupt):
        simulate(stopping, out=tmp_path / "cut", listener=StopAfter(last - 1))
    resumed = simulate(stopping, out=tmp_path / "cut", resume=True)
    assert resumed.summary["stopped"] == done.summary["stopped"]
    assert lines(tmp_path / "cut") == lines(tmp_path / "shorter")
    assert resumed.summary["weights_sha256"] == shorter.summary["weights_sha256"]


def test_models_of_some_rounds_and_the_best_stay(
    wanted: Experiment, whole: Result, tmp_path: Path
) -> None:
    import keras

    keeps = wanted.replace(save={"best": True, "every": 2, "metric": "loss"})
    with pytest.raises(KeyboardInterrupt):
        simulate(keeps, out=tmp_path / "keeps", listener=StopAfter(2))
    done = simulate(keeps, out=tmp_path / "keeps", resume=True)
    assert done.summary["weights_sha256"] == whole.summary["weights_sha256"]
    losses = [record["server_loss"] for record in whole.rounds[1:]]
    best = 1 + int(np.argmin(losses))
    short = simulate(wanted.replace(rounds=best), out=tmp_path / "short")
    assert done.summary["best"] == {
        "round": best, "server_loss": min(losses),
        "weights_sha256": short.summary["weights_sha256"],
    }  # fmt: skip
    found = read_best(done.path)
    assert found is not None and found[0] == best
    np.testing.assert_array_equal(found[1], short.weights)
    assert [p.name for p in sorted((done.path / "models").iterdir())] == [
        "round-000002.keras", "round-000004.keras",
    ]  # fmt: skip
    kept = keras.models.load_model(done.path / "best.keras", compile=False)
    flat = np.concatenate([np.ravel(w) for w in kept.get_weights()])
    np.testing.assert_array_equal(flat, short.weights)
    second = simulate(wanted.replace(rounds=2), out=tmp_path / "second")
    kept = keras.models.load_model(done.path / "models/round-000002.keras", compile=False)
    flat = np.concatenate([np.ravel(w) for w in kept.get_weights()])
    np.testing.assert_array_equal(flat, second.weights)
    # The best model is a start, too.
    begun = wanted.replace(rounds=1, init=done.path / "best.safetensors")
    first = simulate(begun, out=tmp_path / "begun").rounds[0]
    assert first["server_loss"] == pytest.approx(min(losses), rel=1e-6)


def test_a_best_model_that_is_gone_is_told(wanted: Experiment, tmp_path: Path) -> None:
    path = tmp_path / "run"
    keeps = wanted.replace(rounds=2, save={"best": True})
    simulate(keeps, out=path)
    (path / "best.safetensors").unlink()
    round = (read_json(path / "summary.json") or {})["best"]["round"]
    with pytest.raises(RunError) as caught:
        simulate(keeps.replace(rounds=3), out=path, resume=True)
    assert str(caught.value) == (
        f"resume: {path} must have the model of round {round} in best.safetensors, got none"
    )


def test_a_best_model_that_a_longer_run_would_not_measure(
    wanted: Experiment, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    keeps = wanted.replace(rounds=1, save={"best": True}, **{"evaluation.every": 2})
    simulate(keeps, out=path)
    with pytest.raises(RunError) as caught:
        simulate(keeps.replace(rounds=2), out=path, resume=True)
    assert str(caught.value) == (
        f"rounds must stay 1 in {path}, as its best model is that of round 1, which a longer run "
        "does not measure, got 2"
    )
