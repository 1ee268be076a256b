"""Sweeps: which values keys take, what runs that gives, and what each misuse is told."""

from __future__ import annotations

import math
from typing import Any

import pytest

from simulation.config.errors import ConfigError
from simulation.config.experiment import parse
from simulation.studies.study import expand, parse_study
from simulation.studies.sweep import counted, points

BASE: dict[str, Any] = {"dataset": "fashion-mnist-mini", "model": "logistic", "clients": 10}


def study(**given: Any) -> Any:
    return parse_study({"experiment": BASE, "strategies": ["fedavg"], **given})


def test_lists_are_crossed_and_pairs_move_together() -> None:
    table = {
        "partition": {"alpha": [0.1, 1.0]},
        "training.momentum": [0.0, 0.9],
        "paired": [{"rounds": [4, 2], "training.local_epochs": [1, 2]}],
    }
    assert points(table) == [
        {
            "partition.alpha": alpha,
            "training.momentum": momentum,
            "rounds": rounds,
            "training.local_epochs": 4 // rounds,
        }
        for alpha in (0.1, 1.0)
        for momentum in (0.0, 0.9)
        for rounds in (4, 2)
    ]
    assert points({}) == [{}]


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ({"start": 0.1, "stop": 0.5, "num": 5}, [0.1 + 0.1 * i for i in range(5)]),
        ({"start": 0.1, "stop": 0.5, "step": 0.1}, [0.1 + 0.1 * i for i in range(5)]),
        ({"start": 0.5, "stop": 0.9, "step": 0.3}, [0.5, 0.8]),
        (
            {"start": 0.01, "stop": 1.0, "num": 5, "log": True},
            [10 ** (i / 2 - 2) for i in range(5)],
        ),
        ({"start": 0.5, "stop": 5.0, "step": 2.0, "log": True}, [0.5, 1.0, 2.0, 4.0]),
        ({"start": 10, "stop": 1000, "num": 3, "log": True}, [10, 100, 1000]),
        ({"start": 1, "stop": 10, "num": 3, "log": True}, [1, round(math.sqrt(10)), 10]),
        ({"start": 2, "stop": 8, "step": 3}, [2, 5, 8]),
    ],
)
def test_ranges(table: dict[str, Any], values: list[float]) -> None:
    found = counted("key", table)
    assert found == pytest.approx(values, rel=1e-11)
    whole = isinstance(table["start"], int)
    assert all(isinstance(value, int if whole else float) for value in found)


def test_every_strategy_takes_every_value_with_every_seed() -> None:
    plan = expand(
        study(
            strategies=["fedavg", {"name": "fedprox", "mu": 0.1}],
            sweep={"partition": {"alpha": [0.1, 1.0]}},
            seeds=[3, 5],
        )
    )
    expected = {}
    for seed in (3, 5):
        for alpha in (0.1, 1.0):
            for strategy, name in (
                ("fedavg", "fedavg"),
                ({"name": "fedprox", "mu": 0.1}, "fedprox-mu-0.1"),
            ):
                expected[f"{name}-alpha-{alpha:g}-seed{seed}"] = parse(
                    {**BASE, "partition": {"alpha": alpha}, "strategy": strategy, "seed": seed}
                )
    assert plan == expected
    assert list(plan) == list(expected)
    assert len({e.digest() for e in plan.values()}) == len(plan)


def test_names_say_as_much_of_a_key_as_is_needed() -> None:
    plan = expand(
        study(sweep={"attack": {"kind": ["noise"]}, "sampling": {"kind": ["round-robin"]}})
    )
    assert list(plan) == ["fedavg-attack-kind-noise-sampling-kind-round-robin-seed0"]
    plan = expand(study(sweep={"training": {"local_epochs": [1, 2]}}))
    assert list(plan) == ["fedavg-local-epochs-1-seed0", "fedavg-local-epochs-2-seed0"]


def test_options_of_strategies_go_to_those_that_have_them_and_leave_them_open() -> None:
    plan = expand(
        study(
            strategies=["fedavg", "fedprox", {"name": "fedprox", "mu": 5.0}],
            sweep={"strategy.mu": [0.1, 1.0], "clients": [10, 20]},
        )
    )
    assert sorted(plan) == sorted(
        f"{name}-clients-{clients}-seed0"
        for name in ("fedavg", "fedprox-mu-0.1", "fedprox-mu-1.0", "fedprox-mu-5.0")
        for clients in (10, 20)
    )


def test_baselines_run_once_for_what_they_do_not_depend_on() -> None:
    def plan(alphas: list[float]) -> Any:
        return expand(
            study(
                sweep={"partition.alpha": alphas, "training.learning_rate": [0.1, 0.2]},
                baselines=["centralised"],
            )
        )

    first = plan([1.0, 0.1])
    pooled = {n: e for n, e in first.items() if e.mode == "centralised"}
    assert list(pooled) == [f"centralised-learning-rate-{rate}-seed0" for rate in (0.1, 0.2)]
    # The same runs, whatever the order of the lists.
    assert {n: e.digest() for n, e in plan([0.1, 1.0]).items()} == {
        n: e.digest() for n, e in first.items()
    }


def test_a_sweep_of_a_whole_table() -> None:
    kinds = ["iid", {"kind": "dirichlet", "alpha": 0.3}]
    plan = expand(study(sweep={"partition": kinds}))
    assert [(n, e.partition.kind, e.partition.alpha) for n, e in plan.items()] == [
        ("fedavg-partition-iid-seed0", "iid", None),
        ("fedavg-partition-kind-dirichlet-alpha-0.3-seed0", "dirichlet", 0.3),
    ]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"clients": 5}, "sweep.clients must be a list or a range, got 5"),
        ({"clients": []}, "sweep.clients must have at least one value, got []"),
        ({"clients": [5, 5]}, "sweep.clients must name nothing twice, got [5, 5]"),
        ({"partition": {}}, "sweep.partition must be a list or a range, got {}"),
        ({"seed": [1, 2]}, "sweep.seed must be left out: a study has 'seeds' for it"),
        ({"strategy": ["a"]}, "sweep.strategy must be left out: a study has 'strategies' for it"),
        (
            {"clients": {"start": 1, "stop": 2}},
            "sweep.clients must have num or step, got {'start': 1, 'stop': 2}",
        ),
        (
            {"clients": {"start": 1, "num": 2}},
            "sweep.clients.stop must be given, got {'start': 1, 'num': 2}",
        ),
        (
            {"clients": {"start": 3, "stop": 2, "num": 2}},
            "sweep.clients.stop must be > start (3), got 2",
        ),
        (
            {"clients": {"start": 0, "stop": 2, "num": 2, "log": True}},
            "sweep.clients.start must be > 0 with log, got 0",
        ),
        (
            {"clients": {"start": 1, "stop": 2, "num": 2, "log": 1}},
            "sweep.clients.log must be true or false, got 1",
        ),
        (
            {"clients": {"start": 1, "stop": 2, "steps": 1}},
            "sweep.clients.steps: unknown key; known keys: log, num, start, step, stop",
        ),
        (
            {"clients": {"start": 1, "stop": 2, "num": 1}},
            "sweep.clients.num must be a whole number from 2 to 100000, got 1",
        ),
        (
            {"clients": {"start": 1, "stop": 2, "step": 0}},
            "sweep.clients.step must be > 0, got 0",
        ),
        (
            {"clients": {"start": 1, "stop": 2, "num": 3}},
            "sweep.clients must have different whole numbers (write 1.0 for fractions), "
            "got {'start': 1, 'stop': 2, 'num': 3}",
        ),
        (
            {"paired": {"clients": [1, 2], "rounds": [1]}},
            "sweep.paired must have lists of equal length, got 2 of clients, 1 of rounds",
        ),
        (
            {"paired": {"clients": [1, 2]}},
            "sweep.paired must have two keys or more that move together, got ['clients']",
        ),
        ({"paired": [3]}, "sweep.paired must be a table of lists, or several, got [3]"),
        (
            {"clients": [1], "paired": {"clients": [1, 2], "rounds": [1, 2]}},
            "sweep.clients must stand in one place, got it twice",
        ),
        (
            {"partition": ["iid"], "partition.alpha": [1.0]},
            "sweep.partition.alpha must be left out where sweep.partition is swept whole",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_misuse(table: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as error:
        study(sweep=table)
    assert str(error.value) == text


@pytest.mark.parametrize(
    ("table", "given", "text"),
    [
        ({"client": [1]}, {}, "client: unknown key; did you mean 'clients'?"),
        ({"clients": [0, 10]}, {}, "clients must be >= 1, got 0"),
        (
            {"strategy.mu": [1.0]},
            {},
            "sweep.strategy.mu must be an option that a strategy of the study has and leaves "
            "open, got ['fedavg']",
        ),
        (
            {"partition.alpha": [1.0]},
            {"partition.alpha": 0.5},
            "partition.alpha must be left out where the study sweeps it, got 0.5",
        ),
        (
            {"training.learning_rate": [0.1, 0.1 + 1e-15]},
            {},
            "sweep must give runs different names, got 'fedavg-learning-rate-0.1-seed0' twice",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_values_that_no_experiment_takes(
    table: dict[str, Any], given: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError) as error:
        expand(study(sweep=table), given)
    assert str(error.value) == text
