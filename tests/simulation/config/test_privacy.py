"""Differential privacy in runs: who takes part, what is recorded and told, what is refused."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simulation.config.experiment import parse
from simulation.listeners.listener import Listener
from simulation.population import behaviour
from simulation.runs.memory import shared_bytes
from simulation.runs.run import make_strategy, simulate
from simulation.worker.setup import Setup
from strategies import (
    Algorithm,
    Cohort,
    Federated,
    Median,
    WeightedMean,
    average,
    catalog,
    epsilon,
    plain,
)
from strategies.privacy import NOISE
from strategies.random_streams import stream
from tests.simulation.population.test_sampling import BASE
from tests.simulation.same_bits import StopAfter

pytest.importorskip("dp_accounting")

PRIVATE = BASE | {
    "strategy": {"name": "dp-fedavg", "noise_multiplier": 2.0, "norm": 0.5},
    "cohort": 1,
    "rounds": 8,
}
"""Cohorts of one client in the mean: some rounds have none."""


class Notes(Listener):
    """Keeps what a user is to read."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def note(self, text: str) -> None:
        """Keep it."""
        self.heard.append(text)


def batch_normal(shape: tuple[int, ...], classes: int) -> Any:
    """Return a model with moving statistics."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [keras.Input(shape), layers.BatchNormalization(), layers.Dense(classes)], name="normal"
    )


def test_noise_goes_with_poisson_cohorts_over_a_fixed_number_of_clients(tmp_path):
    told = Notes()
    result = simulate(parse(PRIVATE), out=tmp_path / "run", listener=told)
    cohort = Cohort(1, seed=0, sampling="poisson")
    cohorts = [cohort.sample(r, 30) for r in range(1, 9)]
    lines = result.rounds[1:]
    assert [line["clients"] for line in lines] == [len(c) for c in cohorts]
    assert {len(c) for c in cohorts} >= {0, 1, 2}
    table = pd.read_parquet(result.path / "clients.parquet")
    assert [table[table["round"] == r]["client"].tolist() for r in range(1, 9)] == cohorts
    # A round without clients moves the model by the noise, which is that of one client's norm.
    parameters = result.spec.size
    for number, line in enumerate(lines, 1):
        noise = stream(0, NOISE, number).normal(0.0, 2.0 * 0.5, parameters)
        if not line["clients"]:
            assert line["update_norm"] == pytest.approx(np.linalg.norm(noise), rel=1e-5)
            assert line["train_loss"] is None
    spent = [epsilon(2.0, 1 / 30, r, 30**-1.1) for r in range(1, 9)]
    assert [line["epsilon"] for line in lines] == spent
    record = {
        "epsilon": spent[-1],
        "delta": 30**-1.1,
        "rounds": 8,
        "noise_multiplier": 2.0,
        "sampling": "poisson",
        "sampling_rate": 1 / 30,
        "neighbours": "add or remove one client",
        "noise_to_clip": 2.0 * np.sqrt(parameters),
    }
    assert result.summary["privacy"] == pytest.approx(record)
    line = (
        f"privacy: epsilon {spent[-1]:.3g} at delta {30**-1.1:.3g} after 8 rounds, to add or "
        f"remove one client (poisson sampling); the noise is {2 * np.sqrt(parameters):.3g} times "
        "as long as the clipping norm"
    )
    assert told.heard.count(line) == 1
    assert line in (result.path / "run.log").read_text()
    with pytest.raises(KeyboardInterrupt):
        simulate(parse(PRIVATE), out=tmp_path / "cut", listener=StopAfter(3))
    resumed = simulate(parse(PRIVATE), out=tmp_path / "cut", resume=True)
    assert resumed.summary["weights_sha256"] == result.summary["weights_sha256"]


def test_a_fixed_cohort_is_accounted_for_by_replacing_a_client(tmp_path):
    wanted = parse(PRIVATE | {"sampling": "uniform", "cohort": 5, "rounds": 2})
    result = simulate(wanted, out=tmp_path / "run")
    assert [line["clients"] for line in result.rounds[1:]] == [5, 5]
    assert result.summary["privacy"]["neighbours"] == "replace one client"
    expected = epsilon(2.0, 5 / 30, 2, 30**-1.1, "uniform")
    assert result.rounds[-1]["epsilon"] == expected > epsilon(2.0, 5 / 30, 2, 30**-1.1)


def test_poisson_cohorts_without_noise_average_who_came(tmp_path):
    wanted = BASE | {"sampling": "poisson", "cohort": 1, "rounds": 3}
    result = simulate(parse(wanted), out=tmp_path / "run")
    sizes = [len(Cohort(1, sampling="poisson").sample(r, 30)) for r in range(1, 4)]
    assert sizes == [1, 0, 0]
    assert [line["clients"] for line in result.rounds[1:]] == sizes
    moved = [line["update_norm"] for line in result.rounds[1:]]
    assert moved[0] > 0 and moved[1:] == [0, 0]
    assert "privacy" not in result.summary


def test_stragglers_that_stay_do_not_change_who_takes_part():
    wanted = parse(
        PRIVATE | {"cohort": 3, "realism": {"stragglers": 0.9, "straggler_draws": "independent"}}
    )
    cohort = Cohort(3, sampling="poisson")
    for number in range(1, 9):
        drawn = cohort.sample(number, 30)
        who = behaviour.cast(wanted, number, 30, partial(lambda c, n, size: c, drawn), len)
        assert who.cohort == drawn and not who.absent


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"realism": {"dropout": 0.1}},
            "realism.dropout must be left out with noise for differential privacy, whose account "
            "takes every client as equally likely to take part, got 0.1",
        ),
        (
            {"realism": {"availability": 0.5}},
            "realism.availability must be left out with noise for differential privacy, whose "
            "account takes every client as equally likely to take part, got 0.5",
        ),
        (
            {"realism": {"over_selection": 0.3}},
            "realism.over_selection must be left out with noise for differential privacy, whose "
            "account takes every client as equally likely to take part, got 0.3",
        ),
        (
            {"realism": {"stragglers": 0.5}},
            "realism.straggler_draws must be 'independent' with noise for differential privacy, as "
            "a client changes who else is in an exact share, got 'exact'",
        ),
        (
            {"realism": {"stragglers": 1.0, "drop_stragglers": True}},
            "realism.drop_stragglers must be left out with noise for differential privacy, whose "
            "account takes every client as equally likely to take part, got True",
        ),
        (
            {"mode": "centralised"},
            "mode must be 'federated' with noise for differential privacy, got 'centralised'",
        ),
        (
            {"sampling": "round-robin"},
            "sampling must be 'poisson' or 'uniform' with noise for differential privacy, whose "
            "account takes every client as equally likely, got 'round-robin'",
        ),
        (
            {"strategy": "fedavg", "sampling": "poisson", "realism": {"over_selection": 0.3}},
            "realism.over_selection must be 0 with the sampling 'poisson', whose cohorts have no "
            "fixed size, got 0.3",
        ),
    ],
)
def test_what_changes_who_takes_part_is_refused(changes, text):
    with pytest.raises(ValueError) as caught:
        make_strategy(parse(PRIVATE | changes))
    assert str(caught.value) == text


def test_a_model_with_moving_statistics_is_refused_before_a_folder_is_made(tmp_path):
    wanted = parse(PRIVATE | {"model": "tests.simulation.config.test_privacy:batch_normal"})
    with pytest.raises(ValueError) as caught:
        simulate(wanted, out=tmp_path / "run")
    assert str(caught.value) == (
        "model must have trainable weights only with noise for differential privacy, which makes "
        "moving variances negative (use GroupNormalization or LayerNormalization), got "
        "normal/batch_normalization/moving_mean and 1 more"
    )
    assert not (tmp_path / "run").exists()


def test_a_strategy_object_is_accounted_for_too():
    strategy = Federated(catalog.build("dp-fedavg", target_epsilon=5.0), Cohort(3))
    ready = make_strategy(parse(BASE), strategy)
    assert ready.cohort.kind == "poisson"
    assert ready.notes(8)["epsilon"] == pytest.approx(5.0, rel=1e-3)
    assert strategy.notes(8) == {}
    with pytest.raises(ValueError) as caught:
        make_strategy(parse(BASE), Federated(strategy.algorithm, Cohort(3), seeded_noise=False))
    assert str(caught.value) == (
        "seeded_noise must be left out in a simulation, whose rounds can be repeated, got False"
    )


def test_only_runs_with_noise_have_another_identity():
    fedavg = BASE | {"strategy": "norm-clipping"}
    assert parse(fedavg).digest() == parse(fedavg | {"sampling": "uniform"}).digest()
    assert "sampling" not in parse(fedavg).decisive()
    assert "revised" not in parse(fedavg).decisive()
    fixed = parse(PRIVATE | {"sampling": "uniform"})
    for wanted in (parse(PRIVATE), fixed):
        assert wanted.decisive()["revised"] == ["private cohorts"]
    assert fixed.digest() != parse(PRIVATE).digest()


def test_memory_is_asked_for_the_largest_cohort_that_may_come():
    fixed, varying = (
        parse(BASE | {"clients": 1000, "sampling": s}) for s in ("uniform", "poisson")
    )
    setup = Setup(fixed, plain(), Algorithm("m", plain(), Median(), average()).reducer)
    largest = 5 + int(np.ceil(6 * np.sqrt(5)))
    assert shared_bytes(10, fixed, setup) == 4 * 10 * 5
    assert shared_bytes(10, varying, setup) == 4 * 10 * largest


def test_models_that_clients_in_flight_have_are_counted():
    small = parse(BASE | {"clients": 20})
    plan = {"devices": "lognormal", "schedule": {"kind": "buffered", "concurrency": 7}}
    setup = Setup(small, reducer=WeightedMean())
    assert shared_bytes(10, small, setup) == 0
    assert shared_bytes(10, small.replace(cohort=7, **plan), setup) == 4 * 10 * 7
