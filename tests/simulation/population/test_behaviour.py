"""Dropout, stragglers, availability and over-selection: seeded, and alike for all strategies."""

from __future__ import annotations

import math
from builtins import round as round_
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from flwr.serverapp import strategy as flower

from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment
from simulation.engines.cohort import train_cohort
from simulation.population import behaviour
from simulation.population.deal import prepare
from simulation.runs.run import make_strategy, simulate
from simulation.worker.setup import Setup
from strategies import Cohort, WeightedMean
from strategies.random_streams import stream
from tests.simulation.tools import answering, messaging


def trained(path: Path) -> dict[int, list[int]]:
    table = pq.read_table(path / "clients.parquet").to_pydict()
    found: dict[int, list[int]] = {}
    for round, client in zip(table["round"], table["client"], strict=True):
        found.setdefault(round, []).append(client)
    return found


def cast(experiment: Experiment, round: int, speed: Any = None) -> behaviour.Cast:
    def sample(clients: Any, size: int | None) -> list[int]:
        wanted = experiment.cohort_size if size is None else size
        return Cohort(size=wanted, seed=experiment.seed).sample(round, clients)

    work = speed or (lambda clients: np.ones(len(clients)))
    return behaviour.cast(experiment, round, experiment.clients, sample, work)


def stragglers(asked: list[int], share: float, round: int) -> dict[int, float]:
    """The exact share with the smallest draws, and which part of its work each does."""
    draws = {c: stream(0, behaviour.STRAGGLER, round, c).random(2) for c in asked}
    slow = sorted(asked, key=lambda c: draws[c][0])[: len(asked) - round_(len(asked) * (1 - share))]
    return {c: draws[c][1] for c in slow}


def test_nothing_simulated_is_the_plain_cohort(small: Experiment) -> None:
    plain = small.replace(cohort=5)
    assert cast(plain, 3) == behaviour.Cast(Cohort(size=5).sample(3, 12), 5)


def test_clients_drop_out(small: Experiment, tmp_path: Path) -> None:
    wanted = small.replace(**{"realism.dropout": 0.4})
    result = simulate(wanted, out=tmp_path / "run")
    silent = {
        round: [c for c in range(12) if stream(0, behaviour.DROPOUT, round, c).random() < 0.4]
        for round in (1, 2)
    }
    assert silent[1] != silent[2] and all(silent.values())
    assert trained(tmp_path / "run") == {
        round: [c for c in range(12) if c not in silent[round]] for round in (1, 2)
    }
    for round in (1, 2):
        assert result.rounds[round]["clients_absent"] == len(silent[round])
        assert result.rounds[round]["clients_lost"] == 0


def test_dropout_has_its_probability(small: Experiment) -> None:
    many = small.replace(clients=4000, **{"realism.dropout": 0.3})
    absent = len(cast(many, 1).absent)
    assert abs(absent - 1200) < 4 * math.sqrt(4000 * 0.3 * 0.7)


def test_the_same_clients_straggle_for_every_strategy(small: Experiment) -> None:
    wanted = small.replace(
        **{"training.local_epochs": 3, "training.batch_size": 8, "realism.stragglers": 0.5}
    )
    data, parts = prepare(wanted)
    whole = 3 * -(-parts.train_sizes.astype(int) // 8)
    slow = stragglers(list(range(12)), 0.5, 2)
    assert len(slow) == 6 and cast(wanted, 2).parts == slow
    expected = [max(1, math.ceil(slow.get(c, 1.0) * whole[c])) for c in range(12)]
    for name in ("fedavg", "fedprox"):
        chosen_strategy = make_strategy(wanted.replace(strategy=name))
        grid = answering()
        rule = chosen_strategy.algorithm.client  # type: ignore[attr-defined]
        grid.start(Setup(wanted, rule, WeightedMean()), data, parts)
        shared = chosen_strategy.algorithm.share({}, 2)  # type: ignore[attr-defined]
        rows = train_cohort(grid, 2, range(12), grid.info().initial, shared, parts=slow).rows
        assert rows["steps"].tolist() == expected


def test_stragglers_are_dropped_for_the_strategies_named(small: Experiment, tmp_path: Path) -> None:
    world = {"realism.stragglers": 0.5, "realism.drop_stragglers": ["fedavg"]}
    slow = {round: stragglers(list(range(12)), 0.5, round) for round in (1, 2)}
    for name in ("fedavg", "fedprox"):
        simulate(small.replace(strategy=name, **world), out=tmp_path / name)
    assert trained(tmp_path / "fedprox") == {r: list(range(12)) for r in (1, 2)}
    assert trained(tmp_path / "fedavg") == {
        r: [c for c in range(12) if c not in slow[r]] for r in (1, 2)
    }


def test_an_exact_share_of_each_cohort_straggles(small: Experiment) -> None:
    """round(K (1 - share)) keep up, as with Li et al.; with independent draws 35% of the rounds of
    FedAvg, which drops stragglers, are empty at 90%."""
    world = {"realism.stragglers": 0.9, "realism.drop_stragglers": ["fedavg"]}
    exact = small.replace(clients=30, cohort=10, **world)
    independent = exact.replace(**{"realism.straggler_draws": "independent"})
    sizes = [len(cast(exact, round).cohort) for round in range(1, 201)]
    assert sizes == [1] * 200
    empty = [not cast(independent, round).cohort for round in range(1, 1001)]
    assert np.mean(empty) == pytest.approx(0.9**10, abs=0.04)
    for cohort, share, left in ((10, 0.5, 5), (3, 0.5, 2), (7, 0.25, 5), (4, 1.0, 0)):
        some = small.replace(
            clients=30,
            cohort=cohort,
            **{"realism.stragglers": share, "realism.drop_stragglers": True},
        )
        assert len(cast(some, 1).cohort) == left == round_(cohort * (1 - share))
    # Which of them straggle is each client's own draw: the cohort decides only how many.
    parts = behaviour.parts_of(exact, 4, list(range(30)))
    assert parts == stragglers(list(range(30)), 0.9, 4)
    assert all(parts[c] == p for c, p in behaviour.parts_of(exact, 4, list(range(9, 19))).items())
    one_by_one = behaviour.parts_of(independent, 4, list(range(30)))
    expected = {c: stream(0, behaviour.STRAGGLER, 4, c).random(2) for c in range(30)}
    assert one_by_one == {c: part for c, (draw, part) in expected.items() if draw < 0.9}


def test_messages_slow_stragglers_down_too(small: Experiment) -> None:
    """Whether the workers fold or answer messages: the same clients take as many steps."""
    world = {"training.local_epochs": 2, "training.batch_size": 8, "realism.stragglers": 0.5}
    wanted = small.replace(**world)
    models = []
    for ours in (flower.FedAvg(), flower.FedAvg()):
        grid, data = answering(), prepare(wanted)
        folds = not models
        grid.start(Setup(wanted, reducer=WeightedMean() if folds else None), *data)
        info = grid.info()
        driver = messaging(ours, grid, info.spec, wanted)
        models.append(driver.train(1, info.initial).model)
    np.testing.assert_allclose(models[0], models[1], atol=1e-6)
    grid, (data, parts) = answering(), prepare(wanted)
    grid.start(Setup(wanted, reducer=WeightedMean()), data, parts)
    slow = stragglers(list(range(12)), 0.5, 1)
    total, rows, *_ = train_cohort(grid, 1, range(12), grid.info().initial, {}, parts=slow)
    mean = WeightedMean().finish(total)
    np.testing.assert_allclose(grid.info().initial + mean.delta, models[0], atol=1e-6)
    whole = 2 * -(-parts.train_sizes.astype(int) // 8)
    assert (rows["steps"] < whole).sum() >= 3


def test_a_new_share_is_a_new_identity_and_independent_draws_have_the_old(
    small: Experiment,
) -> None:
    slow = small.replace(**{"realism.stragglers": 0.5})
    old = slow.replace(**{"realism.straggler_draws": "independent"})
    assert slow.decisive()["revised"] == ["exact stragglers"]
    assert "revised" not in old.decisive()
    assert "straggler_draws" not in {**slow.decisive()["realism"], **old.decisive()["realism"]}
    both = slow.replace(**{"realism.over_selection": 0.5})
    assert both.decisive()["revised"] == ["deadline", "exact stragglers"]
    silent = small.replace(**{"realism.dropout": 0.5})
    assert "revised" not in silent.decisive()
    assert small.replace(**{"realism.straggler_draws": "independent"}).digest() == small.digest()


def test_stragglers_come_after_all_that_finish_before_the_deadline(small: Experiment) -> None:
    """Taken by the work they do they would be the fastest: their share rose from .50 to .71."""
    wanted = small.replace(
        clients=200, cohort=20, **{"realism.stragglers": 0.5, "realism.over_selection": 0.5}
    )
    shares = []
    for round in range(1, 101):
        found = cast(wanted, round)
        asked = Cohort(size=30).sample(round, 200)
        slow = stragglers(asked, 0.5, round)
        assert set(asked) - set(slow) <= set(found.cohort)  # 15 keep up, and count first
        assert found.parts == {c: slow[c] for c in found.cohort if c in slow}
        shares.append(len(found.parts) / 20)
    assert set(shares) == {0.25}


def test_power_of_choice_asks_those_that_are_there(small: Experiment, tmp_path: Path) -> None:
    """As many candidates as clients, of whom not all are there; and more asked than count."""
    wanted = small.replace(
        cohort=3,
        sampling={"kind": "power-of-choice", "candidates": 12},
        **{"realism.availability": 0.8, "realism.over_selection": 0.5},
    )
    result = simulate(wanted, out=tmp_path / "run")
    there = [
        np.flatnonzero(stream(0, behaviour.AVAILABLE, r).random(12) < 0.8).tolist() for r in (1, 2)
    ]
    cohorts = trained(tmp_path / "run")
    for round in (1, 2):
        here = there[round - 1]
        assert len(cohorts[round]) == min(3, len(here)) and set(cohorts[round]) <= set(here)
        assert result.rounds[round]["clients_absent"] == max(0, min(5, len(here)) - 3)
    # Who has reported no loss yet is asked first.
    new = set(there[1]) - set(cohorts[1])
    assert len(set(cohorts[2]) & new) == min(3, len(new))


def test_only_available_clients_are_asked(small: Experiment) -> None:
    wanted = small.replace(clients=200, cohort=20, **{"realism.availability": 0.3})
    there = np.flatnonzero(stream(0, behaviour.AVAILABLE, 5).random(200) < 0.3).tolist()
    found = cast(wanted, 5)
    assert found.cohort == Cohort(size=20).sample(5, there)
    assert found.asked == 20 and not found.absent
    few = small.replace(clients=20, cohort=10, **{"realism.availability": 0.05})
    there = np.flatnonzero(stream(0, behaviour.AVAILABLE, 1).random(20) < 0.05).tolist()
    assert cast(few, 1).cohort == there


def test_the_fastest_of_an_over_selection_count(small: Experiment) -> None:
    wanted = small.replace(clients=100, cohort=20, **{"realism.over_selection": 0.5})
    asked = Cohort(size=30).sample(2, 100)
    work = {c: 1 + c % 7 for c in asked}
    time = {c: work[c] * behaviour.slowness(0, 2, c) for c in asked}
    found = cast(wanted, 2, lambda clients: np.array([work[c] for c in clients], float))
    assert found.cohort == sorted(sorted(asked, key=time.__getitem__)[:20])
    assert found.asked == 30
    assert found.absent == {c: "too slow" for c in asked if c not in found.cohort}


def test_clients_keep_their_own_speed() -> None:
    """Over clients, log-speeds of two rounds correlate as their variances say."""
    logs = np.log([[behaviour.slowness(0, r, c) for r in (1, 2)] for c in range(2000)])
    own, luck = behaviour.SIGMA**2, (behaviour.SIGMA / 2) ** 2
    assert np.corrcoef(logs.T)[0, 1] == pytest.approx(own / (own + luck), abs=0.03)
    assert logs.var() == pytest.approx(own + luck, rel=0.1)


def test_the_centralised_baseline_knows_no_clients(small: Experiment) -> None:
    world = {"realism.dropout": 0.99, "realism.stragglers": 1}
    pooled = small.replace(mode="centralised", **world)
    assert behaviour.cast(pooled, 1, 1, lambda n, size: [0], len).cohort == [0]
    assert behaviour.parts_of(pooled, 1, [0]) == {}


def test_a_flower_strategy_asks_in_vain(small: Experiment, tmp_path: Path) -> None:
    world = small.replace(rounds=1, **{"realism.dropout": 0.4})
    simulate(world, flower.FedAvg(), out=tmp_path / "run")
    silent = [c for c in range(12) if stream(0, behaviour.DROPOUT, 1, c).random() < 0.4]
    assert trained(tmp_path / "run") == {1: [c for c in range(12) if c not in silent]}


@pytest.mark.parametrize(
    ("changes", "strategy", "text"),
    [
        (
            {"realism.over_selection": 0.5},
            flower.FedAvg(),
            "realism.over_selection must be 0 with a Flower strategy, which draws its own "
            "cohort, got 0.5",
        ),
        (
            {"realism.dropout": 0.5, "resources.engine": "flower"},
            None,
            "realism must be left out with resources.engine 'flower'",
        ),
    ],
)
def test_what_cannot_be_simulated(
    changes: dict[str, Any], strategy: Any, text: str, small: Experiment, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        simulate(small.replace(**changes), strategy, out=tmp_path / "run")
    assert str(caught.value) == text
    assert not (tmp_path / "run").exists()
