"""Cohorts by what clients reported and how long they take: formulas, resumed runs, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulation.config.errors import ConfigError
from simulation.config.experiment import parse
from simulation.population.availability import Always
from simulation.population.clock import World
from simulation.population.devices import Work, fleet_of
from simulation.population.guided import Oort, Tiers, ranked
from simulation.runs.run import simulate
from tests.simulation.rounds.test_clocked import BASE, SLOW, events
from tests.simulation.same_bits import StopAfter

MANY = 40
OORT = {"kind": "oort", "pace": 2, "preferred": 50.0}
TIFL = {"kind": "tifl", "tiers": 4, "adapt": 2}


def made(kind: type[Any], sampling: dict[str, Any], **changes: Any) -> Any:
    said = {"clients": MANY, "cohort": 10, "rounds": 12, "devices": {"kind": "lognormal"}}
    experiment = parse(BASE | said | {"sampling": sampling} | changes)
    assert experiment.devices is not None
    fleet, sizes = fleet_of(experiment.devices, MANY, 0), np.arange(1, MANY + 1)
    work = Work(np.ones(MANY, np.int64), sizes)
    return kind(experiment, World(fleet, Always(), work, 1, sizes, 0, 0))


def test_oort_weighs_loss_time_and_how_long_ago_by_the_formula() -> None:
    oort, rng = made(Oort, OORT), np.random.default_rng(1)
    losses, last = rng.uniform(0.1, 3.0, MANY), rng.integers(1, 6, MANY)
    oort.losses, oort.last = losses, last
    ids = np.array([3, 5, 8, 13, 21, 34])
    gain = np.arange(1, MANY + 1)[ids] * losses[ids]
    gain = np.minimum(gain, np.percentile(gain, 95))
    scaled = (gain - gain.min()) / (gain.max() - gain.min()) + np.sqrt(0.1 * np.log(7) / last[ids])
    preferred = np.percentile(oort.seconds, 50)
    slow = np.where(oort.seconds[ids] > preferred, (preferred / oort.seconds[ids]) ** 2, 1.0)
    np.testing.assert_allclose(oort.worth(7, ids), scaled * slow, rtol=1e-12)
    assert (slow < 1).any() and (slow == 1).any()


def test_oort_explores_less_and_less_and_takes_the_best_of_those_it_knows() -> None:
    oort, everybody = made(Oort, OORT), np.arange(MANY)
    first = oort.choose(1, everybody, 10)
    assert len(set(first.tolist())) == 10  # Nobody is known yet.
    oort.losses[:], oort.last[:20] = 1.0, 1
    found = oort.choose(30, everybody, 10)
    share = max(0.2, 0.9 * 0.98**29)
    assert (found >= 20).sum() == np.rint(10 * share)
    known = found[found < 20]
    worth = oort.worth(30, np.arange(20))
    enough = 0.95 * np.sort(worth)[::-1][len(known) - 1]
    assert (worth[known] >= enough).all() and len(set(found.tolist())) == 10
    # Where too few are new, more of the known ones are asked, and the other way round.
    assert len(oort.choose(2, np.arange(22), 10)) == 10
    assert len(oort.choose(2, np.arange(18, MANY), 20)) == 20


def test_oort_draws_new_clients_in_proportion_to_their_speed() -> None:
    oort, speed = made(Oort, OORT), np.zeros(MANY)
    for round in range(1, 4001):
        speed[oort.choose(round, np.arange(MANY), 1)] += 1
    wanted = (1 / oort.seconds) / (1 / oort.seconds).sum()
    np.testing.assert_allclose(speed / 4000, wanted, atol=4 * 0.5 / np.sqrt(4000))


def test_oort_takes_more_time_where_less_is_gained() -> None:
    oort, ids = made(Oort, OORT), np.array([0, 1])
    for round, loss in enumerate((3.0, 3.0, 2.0, 2.0, 2.5, 2.5), 1):
        oort.hear(round, ids, np.full(2, loss))
        # It grows after round 4, whose two rounds brought less, and not after round 6.
        assert oort.percentile == (50.0 if round < 4 else 55.0)


def test_tiers_are_of_like_time_and_likelier_the_more_they_lose() -> None:
    tifl, everybody = made(Tiers, TIFL), np.arange(MANY)
    order = np.argsort(tifl.seconds, kind="stable")
    assert [tifl.tier[order[k]] for k in range(MANY)] == [k // 10 for k in range(MANY)]
    seen = set()
    for round in range(1, 13):
        cohort = tifl.choose(round, everybody, 6)
        assert {*tifl.tier[cohort].tolist()} == {tifl.current}
        assert len(set(cohort.tolist())) == 6
        seen.add(tifl.current)
    assert len(seen) > 1
    left = np.array([True, True, False, True])
    np.testing.assert_allclose(
        ranked(np.array([1.0, 3.0, 9.0, 2.0]), left), [1 / 6, 3 / 6, 0.0, 2 / 6]
    )


def test_tiers_that_no_longer_improve_change_the_chances_and_credits_end() -> None:
    tifl, everybody = made(Tiers, {**TIFL, "credits": 3}), np.arange(MANY)
    for place in range(4):
        tifl.losses[tifl.tier == place], tifl.last[tifl.tier == place] = place + 1.0, 1
    tifl.hear(2, np.array([], np.int64), np.array([]))
    np.testing.assert_allclose(tifl.chances, np.full(4, 1 / 4))  # The first look: all improved.
    tifl.hear(3, np.array([], np.int64), np.array([]))
    np.testing.assert_allclose(tifl.chances, np.full(4, 1 / 4))
    tifl.hear(4, np.array([], np.int64), np.array([]))
    np.testing.assert_allclose(tifl.chances, [0.1, 0.2, 0.3, 0.4])
    chosen = []
    for round in range(5, 17):
        tifl.choose(round, everybody, 6)
        chosen.append(tifl.current)
    assert np.bincount(chosen).tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize("sampling", [OORT, TIFL], ids=lambda plan: plan["kind"])
def test_a_resumed_run_equals_one_that_went_through(
    sampling: dict[str, Any], tmp_path: Path
) -> None:
    changes = {"sampling": sampling, "cohort": 3, "rounds": 8, "devices": SLOW}
    late = {"kind": "deadline", "deadline": "70%"}
    wanted = parse(BASE).replace(**changes, schedule=late)
    whole = simulate(wanted, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        simulate(wanted, out=tmp_path / "half", listener=StopAfter(5))
    resumed = simulate(wanted, out=tmp_path / "half", resume=True)
    assert resumed.weights.tobytes() == whole.weights.tobytes()
    ids = [events(path)["client"].tolist() for path in (resumed.path, whole.path)]
    assert ids[0] == ids[1] and len(set(ids[0])) > 3
    plain = simulate(wanted.replace(sampling="uniform"), out=tmp_path / "plain")
    assert events(plain.path)["client"].tolist() != ids[0]


BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"sampling": "oort", "devices": None},
        "sampling must be another without devices, which say how long clients take, got 'oort'",
    ),
    (
        {"sampling": "oort", "schedule": "buffered"},
        "sampling must be 'uniform' or 'by-size' with the schedule 'buffered', which has no "
        "cohorts, got 'oort'",
    ),
    (
        {"sampling": "tifl", "schedule": {"kind": "hierarchical", "edges": 2}},
        "sampling must be another with the schedule 'hierarchical', which does not wait for what a "
        "cohort reports, got 'tifl'",
    ),
    (
        {"sampling": {"kind": "tifl", "tiers": 3}},
        "sampling.tiers must leave each tier as many clients as a cohort has (6): at most 2 of 12 "
        "clients, got 3",
    ),
    (
        {"sampling": {"kind": "tifl", "tiers": 2, "credits": 1}},
        "sampling.credits must be enough for all rounds, at least 2 for each of 2 tiers, got 1",
    ),
    (
        {"sampling": {"kind": "tifl", "penalty": 1.0}},
        "sampling.penalty must be left out for the sampling 'tifl', got 1.0",
    ),
    (
        {"sampling": {"candidates": 9}},
        "sampling.candidates must be left out for the sampling 'uniform', got 9",
    ),
    (
        {"sampling": {"kind": "oort", "exploration": 0.1}},
        "sampling.exploration_least must be at most sampling.exploration (0.1), got 0.2",
    ),
]


@pytest.mark.parametrize(("changes", "line"), BAD, ids=lambda value: str(value)[:60])
def test_bad_samplings_are_one_line(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(BASE | {"devices": "equal"} | changes)
    assert str(caught.value) == line


def test_noise_has_no_account_of_guided_cohorts(tmp_path: Path) -> None:
    private = {"name": "dp-fedavg", "noise_multiplier": 1.0}
    plan = parse(BASE).replace(devices="equal", sampling="oort", strategy=private)
    with pytest.raises(ConfigError) as caught:
        simulate(plan, out=tmp_path / "run")
    assert str(caught.value) == (
        "sampling must be 'poisson' or 'uniform' with noise for differential privacy, whose "
        "account takes every client as equally likely, got 'oort'"
    )
