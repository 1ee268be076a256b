"""Strategies whose formulas are those of SGD: momentum is allowed for, other optimisers refused."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment, parse
from simulation.engines.cohort import train_cohort
from simulation.population.deal import prepare
from simulation.runs.run import make_strategy, simulate
from simulation.training.backend import ModelError
from simulation.worker.executor import Executor
from simulation.worker.setup import Setup
from strategies.steps import step_weight
from tests.simulation.tools import answering, messaging, train_one

BASE: dict[str, Any] = {
    "dataset": "synthetic(1,1)",
    "model": "logistic",
    "clients": 30,
    "cohort": 4,
    "rounds": 2,
    "partition": "natural",
    "training": {"learning_rate": 0.01, "momentum": 0.9, "batch_size": 10},
    "evaluation": {"clients": False, "server": False},
    "resources": {"engine": "inline"},
}
HERE = "tests.simulation.training.test_optimizers"


def compiled(optimizer: Any) -> keras.Model:
    model = keras.Sequential([keras.Input((60,)), keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    return model


def adam() -> keras.Model:
    return compiled(keras.optimizers.Adam(0.01))


def nesterov() -> keras.Model:
    return compiled(keras.optimizers.SGD(0.01, momentum=0.5, nesterov=True))


def accumulating() -> keras.Model:
    return compiled(keras.optimizers.SGD(0.01, gradient_accumulation_steps=2))


def scheduled() -> keras.Model:
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    return compiled(keras.optimizers.SGD(schedule))


def own_training(model: str) -> dict[str, Any]:
    return {"model": f"{HERE}:{model}", "training": {"batch_size": 10}}


@pytest.mark.parametrize(
    ("changes", "momentum"),
    [({}, (0.9, False)), (own_training("nesterov"), (0.5, True))],
)
def test_scaffold_divides_by_the_weight_of_the_steps(changes: Any, momentum: Any) -> None:
    wanted = parse(BASE | {"strategy": "scaffold"} | changes)
    algorithm = make_strategy(wanted).algorithm  # type: ignore[attr-defined]
    data, parts = prepare(wanted)
    executor = Executor(Setup(wanted, algorithm.client, algorithm.reducer), data, parts)
    rows, trainer = parts.train_rows(3), executor.trainer
    c = np.linspace(-1, 1, trainer.spec.trainable_size).astype(np.float32)
    done = train_one(
        trainer, 3, 1, trainer.initial, data.x_train[rows], data.y_train[rows], shared={"c": c}
    )
    update = done.update
    assert (update.momentum, update.nesterov) == momentum
    weight = step_weight(update.steps, *momentum)
    assert weight > 1.4 * update.steps > 20
    np.testing.assert_allclose(
        done.own["c"], -c - np.asarray(update.delta) / (weight * 0.01), rtol=1e-4, atol=1e-5
    )


def test_fednova_gets_the_momentum_by_messages_too() -> None:
    wanted = parse(BASE | {"strategy": "fednova"})
    finals = []
    for by_messages in (False, True):
        grid, strategy = answering(), make_strategy(wanted)
        algorithm = strategy.algorithm  # type: ignore[attr-defined]
        grid.start(Setup(wanted, algorithm.client, algorithm.reducer), *prepare(wanted))
        info = grid.info()
        model = info.initial
        if by_messages:
            strategy.spec = info.spec  # type: ignore[attr-defined]
            finals.append(messaging(strategy, grid, info.spec, wanted).train(1, model).model)
        else:
            cohort = strategy.cohort.sample(1, 30)  # type: ignore[attr-defined]
            total, rows, *_ = train_cohort(grid, 1, cohort, model, {})
            mean = algorithm.reducer.finish(total)
            tau = np.array([step_weight(int(s), 0.9) for s in rows["steps"]])
            p = rows["examples"] / rows["examples"].sum()
            assert mean.scale == pytest.approx((p * tau).sum() * (p / tau).sum(), rel=1e-12)
            finals.append(model + mean.scale * mean.delta)
    np.testing.assert_allclose(finals[1], finals[0], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        (
            {"strategy": "scaffold", "training": {"optimizer": "adam"}},
            ConfigError,
            "training.optimizer must be 'sgd' with SCAFFOLD, whose formulas are those of SGD, "
            "got 'adam'",
        ),
        (
            {"strategy": "fednova", "training": {"optimizer": "AdamW"}},
            ConfigError,
            "training.optimizer must be 'sgd' with FedNova, whose formulas are those of SGD, "
            "got 'AdamW'",
        ),
        (
            {"strategy": "scaffold", **own_training("adam")},
            ModelError,
            "optimizer must be SGD with SCAFFOLD, whose formulas are those of SGD, got Adam",
        ),
        (
            {"strategy": "fednova", **own_training("accumulating")},
            ModelError,
            "optimizer must be SGD with FedNova, whose formulas are those of SGD, got SGD that "
            "accumulates gradients or averages weights",
        ),
        (
            {"strategy": "scaffold", **own_training("scheduled")},
            ModelError,
            "learning rate of SGD must be one number with SCAFFOLD, got a schedule",
        ),
        (
            {"strategy": {"name": "fednova", "client_momentum": 0.5}},
            ModelError,
            "strategy.client_momentum must be left out, or be the clients' (0.9), got 0.5",
        ),
    ],
)
def test_what_the_formulas_do_not_hold_for_is_refused(
    changes: Any, error: type[Exception], text: str, tmp_path: Any
) -> None:
    with pytest.raises(error) as caught:
        simulate(parse(BASE | changes), out=tmp_path / "run")
    assert str(caught.value) == text
    assert not (tmp_path / "run").exists()


def test_others_take_any_optimizer() -> None:
    plan: Experiment = parse(BASE | {"strategy": "feddyn", "training": {"optimizer": "adam"}})
    assert make_strategy(plan)
