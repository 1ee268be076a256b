"""Dropout, stragglers, availability and over-selection: seeded, and alike for all strategies."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from flwr.serverapp import strategy as flower

from simulation import realism
from simulation.experiment import ConfigError, Experiment
from simulation.inline import InlineGrid
from simulation.run import make_strategy, prepare, simulate
from simulation.work import Setup
from strategies import Cohort, WeightedMean
from strategies.core import stream


def trained(path: Path) -> dict[int, list[int]]:
    table = pq.read_table(path / "clients.parquet").to_pydict()
    found: dict[int, list[int]] = {}
    for round, client in zip(table["round"], table["client"], strict=True):
        found.setdefault(round, []).append(client)
    return found


def cast(experiment: Experiment, round: int, speed: Any = None) -> realism.Cast:
    def sample(clients: Any, size: int | None) -> list[int]:
        wanted = experiment.cohort_size if size is None else size
        return Cohort(size=wanted, seed=experiment.seed).sample(round, clients)

    work = speed or (lambda clients: np.ones(len(clients)))
    return realism.cast(experiment, round, experiment.clients, sample, work)


def test_nothing_simulated_is_the_plain_cohort(small: Experiment) -> None:
    plain = small.replace(cohort=5)
    assert cast(plain, 3) == realism.Cast(Cohort(size=5).sample(3, 12), 5)


def test_clients_drop_out(small: Experiment, tmp_path: Path) -> None:
    wanted = small.replace(**{"realism.dropout": 0.4})
    result = simulate(wanted, out=tmp_path / "run")
    silent = {
        round: [c for c in range(12) if stream(0, realism.DROPOUT, round, c).random() < 0.4]
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
    expected = []
    for client in range(12):
        chosen, part = stream(0, realism.STRAGGLER, 2, client).random(2)
        expected.append(max(1, math.ceil(part * whole[client])) if chosen < 0.5 else whole[client])
    assert 2 <= sum(e < w for e, w in zip(expected, whole, strict=True)) <= 10
    for name in ("fedavg", "fedprox"):
        chosen_strategy = make_strategy(wanted.replace(strategy=name))
        grid = InlineGrid()
        rule = chosen_strategy.algorithm.client  # type: ignore[attr-defined]
        grid.start(Setup(wanted, rule, WeightedMean()), data, parts)
        shared = chosen_strategy.algorithm.share({}, 2)  # type: ignore[attr-defined]
        _, rows = grid.train(2, range(12), grid.info().initial, shared)
        assert rows["steps"].tolist() == expected


def test_stragglers_are_dropped_for_the_strategies_named(small: Experiment, tmp_path: Path) -> None:
    world = {"realism.stragglers": 0.5, "realism.drop_stragglers": ["fedavg"]}
    slow = {
        round: [c for c in range(12) if stream(0, realism.STRAGGLER, round, c).random() < 0.5]
        for round in (1, 2)
    }
    for name in ("fedavg", "fedprox"):
        simulate(small.replace(strategy=name, **world), out=tmp_path / name)
    assert trained(tmp_path / "fedprox") == {r: list(range(12)) for r in (1, 2)}
    assert trained(tmp_path / "fedavg") == {
        r: [c for c in range(12) if c not in slow[r]] for r in (1, 2)
    }


def test_only_available_clients_are_asked(small: Experiment) -> None:
    wanted = small.replace(clients=200, cohort=20, **{"realism.availability": 0.3})
    there = np.flatnonzero(stream(0, realism.AVAILABLE, 5).random(200) < 0.3).tolist()
    found = cast(wanted, 5)
    assert found.cohort == Cohort(size=20).sample(5, there)
    assert found.asked == 20 and not found.absent
    few = small.replace(clients=20, cohort=10, **{"realism.availability": 0.05})
    there = np.flatnonzero(stream(0, realism.AVAILABLE, 1).random(20) < 0.05).tolist()
    assert cast(few, 1).cohort == there


def test_the_fastest_of_an_over_selection_count(small: Experiment) -> None:
    wanted = small.replace(clients=100, cohort=20, **{"realism.over_selection": 0.5})
    asked = Cohort(size=30).sample(2, 100)
    work = {c: 1 + c % 7 for c in asked}
    time = {c: work[c] * realism.slowness(0, 2, c) for c in asked}
    found = cast(wanted, 2, lambda clients: np.array([work[c] for c in clients], float))
    assert found.cohort == sorted(sorted(asked, key=time.__getitem__)[:20])
    assert found.asked == 30
    assert found.absent == {c: "too slow" for c in asked if c not in found.cohort}


def test_clients_keep_their_own_speed() -> None:
    """Over clients, log-speeds of two rounds correlate as their variances say."""
    logs = np.log([[realism.slowness(0, r, c) for r in (1, 2)] for c in range(2000)])
    own, luck = realism.SIGMA**2, (realism.SIGMA / 2) ** 2
    assert np.corrcoef(logs.T)[0, 1] == pytest.approx(own / (own + luck), abs=0.03)
    assert logs.var() == pytest.approx(own + luck, rel=0.1)


def test_the_centralised_baseline_knows_no_clients(small: Experiment) -> None:
    world = {"realism.dropout": 0.99, "realism.stragglers": 1}
    pooled = small.replace(mode="centralised", **world)
    assert realism.cast(pooled, 1, 1, lambda n, size: [0], len).cohort == [0]
    assert realism.steps_of(pooled, 1, 0, 50) == 50


def test_a_flower_strategy_asks_in_vain(small: Experiment, tmp_path: Path) -> None:
    world = small.replace(rounds=1, **{"realism.dropout": 0.4})
    simulate(world, flower.FedAvg(), out=tmp_path / "run")
    silent = [c for c in range(12) if stream(0, realism.DROPOUT, 1, c).random() < 0.4]
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
