"""The learning rate of a round, as clients' updates show it: for both backends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulation.config.experiment import parse
from simulation.population.deal import prepare
from simulation.runs.run import make_strategy
from simulation.worker.executor import Executor
from simulation.worker.group_trainer import RoundInputs
from simulation.worker.setup import Setup
from strategies.reducers import FairMean

RATE, ROUNDS, FACTOR = 0.2, 6, 0.9
STRATEGIES = ("fedavg", "scaffold", "q-fedavg", "fednova")

BASE: dict[str, Any] = {
    "dataset": "fashion-mnist-mini", "model": "logistic", "clients": 6, "rounds": ROUNDS,
    "training": {
        "learning_rate": RATE, "batch_size": 6000,
        "decay": {"kind": "exponential", "factor": FACTOR},
    },
    "partition": {"alpha": 0.5}, "resources": {"engine": "inline"},
}  # fmt: skip


def check(library: str, strategy: str) -> None:
    """One step on all examples: the delta is the rate times a gradient that stays the same."""
    resources = {"engine": "inline", "backend": library}
    wanted = parse(BASE | {"strategy": strategy, "resources": resources})
    algorithm = make_strategy(wanted).algorithm  # type: ignore[attr-defined]
    executor = Executor(Setup(wanted, algorithm.client, algorithm.reducer), *prepare(wanted))
    trainer = executor.trainer
    shared = {"c": np.full(trainer.spec.trainable_size, 0.01, np.float32)}
    shared = shared if strategy == "scaffold" else {}
    start = trainer.info.initial

    def trained(round: int) -> Any:
        inputs = RoundInputs(round, trainer.place(start), shared)
        return executor.train_clients([2], inputs, [None])[0].update

    one = trained(1)
    assert one.learning_rate == pytest.approx(RATE, rel=1e-6)
    gradient = -np.asarray(one.delta) / one.learning_rate
    assert np.abs(gradient).max() > 1e-3
    for round in (2, 5):
        rate, found = RATE * FACTOR ** (round - 1), trained(round)
        assert found.learning_rate == pytest.approx(rate, rel=1e-6)
        delta = np.asarray(found.delta, np.float64)
        np.testing.assert_allclose(delta, -rate * gradient, atol=1e-6)
        if strategy == "scaffold":  # c_i+ = c_i - c + (x - y) / (K eta), of c_i = 0 and K = 1.
            (change,) = found.extras.values()
            np.testing.assert_allclose(change, -shared["c"] - delta / rate, atol=1e-6)
        if strategy == "q-fedavg":
            assert FairMean().constant(found) == pytest.approx(1 / rate, rel=1e-6)
