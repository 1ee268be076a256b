"""Which runs of a study train in the same lanes."""

from __future__ import annotations

from typing import Any

import pytest

from simulation.config.experiment import Experiment, parse
from simulation.studies.groups import MOST_MEMBERS, groups

BASE: dict[str, Any] = {
    "dataset": "fashion-mnist-mini",
    "model": "logistic",
    "clients": 50,
    "cohort": 10,
    "training": {"learning_rate": 0.1},
    "resources": {"engine": "inline", "backend": "jax"},
}
OWN = {"model": "tests.simulation.same_bits:trainable"}


def plan(*changes: dict[str, Any]) -> dict[str, Experiment]:
    return {str(number): parse(BASE).replace(**one) for number, one in enumerate(changes)}


def found(runs: dict[str, Experiment], **how: Any) -> list[tuple[list[str], bool]]:
    return [(list(some), together) for some, together in groups(runs, runs, **how)]


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1}, {"training.learning_rate": 0.01}, {"cohort": 3}, {"partition": {"alpha": 1.0}},
        {"strategy": "fedadam"}, {"strategy": {"name": "fedavgm", "beta": 0.5}},
        {"rounds": 7}, {"training.local_epochs": 3}, {"strategy": "median"},
    ],
    ids=str,
)  # fmt: skip
def test_runs_that_differ_in_numbers_go_together(changes: dict[str, Any]) -> None:
    assert found(plan({}, changes)) == [(["0", "1"], True)]


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "mlp"}, {"training.batch_size": 16}, {"training.momentum": 0.9},
        {"training.learning_rate": None}, {"strategy": "fedprox"}, {"resources.lanes": 4},
        {"strategy": "scaffold"}, {"mode": "centralised"}, {"strategy": "fedper"},
        {"cohort": 40}, {"resources.engine": "flower"}, {"resources.lanes": 1},
        {"resources.backend": "tensorflow"},
    ],
    ids=str,
)  # fmt: skip
def test_others_go_by_themselves(changes: dict[str, Any]) -> None:
    assert found(plan({}, changes)) == [(["0"], False), (["1"], False)]


def test_numbers_of_a_client_rule_are_numbers() -> None:
    more = ({"strategy": {"name": "fedprox", "mu": mu}} for mu in (0.01, 1.0))
    assert found(plan(*more)) == [(["0", "1"], True)]


def test_a_function_of_ones_own_may_build_another_model_from_another_seed() -> None:
    rates = plan(OWN, {**OWN, "training.learning_rate": 0.01})
    assert found(rates) == [(["0", "1"], True)]
    assert [together for _, together in found(plan(OWN, {**OWN, "seed": 1}))] == [False, False]


def test_a_run_that_is_left_trains_as_it_did_among_others() -> None:
    runs = plan({}, {"seed": 1}, {"seed": 2})
    left = {"1": runs["1"]}
    assert list(groups(runs, left)) == [(left, True)]
    assert list(groups(left, left)) == [(left, False)]


def test_a_run_that_has_begun_by_itself_goes_on_so() -> None:
    runs = plan({}, {"seed": 1}, {"seed": 2})
    assert found(runs, apart={"1"}) == [(["0", "2"], True), (["1"], False)]


@pytest.mark.parametrize(
    ("runs", "how", "sizes"),
    [
        (MOST_MEMBERS, {}, [MOST_MEMBERS]),
        (MOST_MEMBERS + 2, {}, [9, 9]),
        (32, {"side_by_side": 4}, [8, 8, 8, 8]),
        (5, {"side_by_side": 4}, [3, 2]),
        (8, {"at_once": 4}, [4, 4]),
        (8, {"at_once": 4, "side_by_side": 4}, [2, 2, 2, 2]),
    ],
    ids=str,
)
def test_groups_are_of_about_one_size(runs: int, how: dict[str, int], sizes: list[int]) -> None:
    several = plan(*({"seed": seed} for seed in range(runs)))
    assert [len(some) for some, _ in found(several, **how)] == sizes
    assert sorted(name for some, _ in found(several, **how) for name in some) == sorted(several)


def test_one_at_a_time_is_one_at_a_time() -> None:
    assert found(plan({}, {"seed": 1}), at_once=1) == [(["0"], False), (["1"], False)]
