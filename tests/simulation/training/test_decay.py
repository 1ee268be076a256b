"""The clients' learning rate by round: the formulas, and who sees the rate as it is."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulation.config.decay import Decay
from simulation.config.errors import ConfigError, RunError
from simulation.config.experiment import Experiment, parse
from simulation.population.deal import prepare
from simulation.runs.run import simulate
from simulation.training.backend import ModelError
from simulation.worker.executor import Executor
from simulation.worker.setup import Setup
from tests.simulation.same_bits import Seeing
from tests.simulation.training.decay_cases import BASE, RATE, ROUNDS, STRATEGIES, check
from tests.simulation.training.test_optimizers import HERE

CASES: list[tuple[dict[str, Any], Callable[[int], float]]] = [
    ({"kind": "exponential", "factor": 0.9}, lambda r: 0.9 ** (r - 1)),
    ({"kind": "step", "factor": 0.5, "every": 2}, lambda r: 0.5 ** ((r - 1) // 2)),
    ({"kind": "cosine"}, lambda r: (1 + cos(pi * (r - 1) / ROUNDS)) / 2),
    (
        {"kind": "cosine", "end": 0.1, "rounds": 4},
        lambda r: 0.1 + 0.9 * (1 + cos(pi * min(1, (r - 1) / 4))) / 2,
    ),
    ({"kind": "inverse-sqrt", "scale": 3}, lambda r: 1 / sqrt(1 + (r - 1) / 3)),
    ({"warmup": 3}, lambda r: min(1.0, r / 4)),
    (
        {"kind": "cosine", "warmup": 2},
        lambda r: r / 3 if r <= 2 else (1 + cos(pi * (r - 3) / (ROUNDS - 2))) / 2,
    ),
]


@pytest.mark.parametrize(("decay", "formula"), CASES, ids=[str(decay) for decay, _ in CASES])
def test_formulas(decay: dict[str, Any], formula: Callable[[int], float]) -> None:
    factors = Decay(**decay).factors(ROUNDS)
    found = [factors(round) for round in range(1, ROUNDS + 1)]
    np.testing.assert_allclose(found, [formula(r) for r in range(1, ROUNDS + 1)], rtol=1e-12)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_sees_the_rate_of_the_round(strategy: str) -> None:
    check("tensorflow", strategy)


def test_the_same_on_the_workers_and_by_messages(tmp_path: Path) -> None:
    wanted = parse(BASE | {"rounds": 2, "cohort": 3})
    folded = simulate(wanted, out=tmp_path / "folded")
    sent = simulate(parse(BASE | {"rounds": 2}), Seeing(fraction_train=0.5), out=tmp_path / "sent")
    assert sent.rounds[2]["learning_rate"] == folded.rounds[2]["learning_rate"]
    both = simulate(parse(BASE | {"rounds": 2, "clients": 3}), out=tmp_path / "three")
    told = simulate(parse(BASE | {"rounds": 2, "clients": 3}), Seeing(), out=tmp_path / "told")
    np.testing.assert_allclose(told.weights, both.weights, atol=1e-6)
    rates = [record["learning_rate"] for record in folded.rounds[1:]]
    np.testing.assert_allclose(rates, [RATE, RATE * 0.9], rtol=1e-6)
    steady = {k: v for k, v in BASE["training"].items() if k != "decay"}
    plain = simulate(parse(BASE | {"rounds": 2, "cohort": 3, "training": steady}))
    assert "learning_rate" not in plain.rounds[1]
    assert plain.summary["weights_sha256"] != folded.summary["weights_sha256"]


def test_what_cannot_decay_is_refused(tmp_path: Path) -> None:
    wanted = parse(BASE | {"model": f"{HERE}:scheduled", "dataset": "synthetic(1,1)"})
    wanted = wanted.replace(
        clients=30, partition="natural", training={"decay": {"warmup": 2}, "batch_size": 10}
    )
    with pytest.raises(ModelError) as caught:
        Executor(Setup(wanted), *prepare(wanted))
    assert str(caught.value) == (
        "training.decay must be left out for a model whose optimizer has a schedule for a learning "
        "rate, got 'constant'"
    )
    short = parse(BASE | {"rounds": 1, "training": {"decay": "cosine"}})
    simulate(short, out=tmp_path / "run")
    with pytest.raises(RunError) as error:
        simulate(short.replace(rounds=2), out=tmp_path / "run", resume=True)
    assert str(error.value) == (
        f"rounds must stay 1 in {tmp_path / 'run'}, as the learning rate falls along a cosine over "
        "that many (training.decay.rounds says over how many), got 2"
    )


BAD: list[tuple[Any, str]] = [
    ("linear", "training.decay.kind must be one of constant, exponential, step, cosine, "
     "inverse-sqrt, got 'linear'; did you mean 'cosine'?"),
    ("exponential", "training.decay.factor must be given for the decay 'exponential', got none"),
    ({"kind": "step", "factor": 0.5}, "training.decay.every must be given for the decay 'step', "
     "got none"),
    ({"kind": "cosine", "every": 3}, "training.decay.every must be left out for the decay "
     "'cosine', got 3"),
    ({"kind": "exponential", "factor": 0}, "training.decay.factor must be > 0, got 0"),
    ({}, "training.decay must have a kind (exponential, step, cosine, inverse-sqrt) or a warmup, "
     "got neither"),
    ({"warmup": 10}, "training.decay.warmup must be less than rounds (10), got 10"),
    ({"kind": "cosine", "rounds": 5}, "training.decay must leave the clients a finite learning "
     "rate > 0 in every round, got 0 times it in round 10"),
    ({"kind": "exponential", "factor": 1e60}, "training.decay must leave the clients a finite "
     "learning rate > 0 in every round, got inf times it in round 10"),
    ({"kind": "cosine", "warm_up": 1}, "training.decay.warm_up: unknown key; did you mean "
     "'training.decay.warmup'?"),
]  # fmt: skip


@pytest.mark.parametrize(("decay", "line"), BAD, ids=str)
def test_bad_decays(decay: Any, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"training": {"decay": decay}})
    assert str(caught.value) == line


def test_a_run_without_decay_keeps_its_identity() -> None:
    assert "decay" not in Experiment().decisive()["training"]
    assert parse({"training": {"decay": "cosine"}}).digest() != Experiment().digest()
