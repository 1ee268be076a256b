"""Groups with models of their own, trained in one call, have the bits of groups trained alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simulation.config.experiment import parse
from simulation.engines.calls import Train, TrainGroups
from simulation.population.deal import prepare
from simulation.training.tensorflow.trainer import TensorFlowTrainer
from simulation.worker.executor import Executor
from simulation.worker.setup import Setup
from strategies import catalog
from tests.simulation.rounds.test_clocked import BASE

GROUPS = [[3], [1, 4], [7], [0, 2, 5], [8]]


def made(strategy: str, **changes: Any) -> Executor:
    experiment = parse(BASE).replace(strategy=strategy, **changes)
    algorithm = catalog.build(strategy)
    return Executor(Setup(experiment, algorithm.client, algorithm.reducer), *prepare(experiment))


def calls(executor: Executor, shared: Any) -> list[Train]:
    """Groups of three versions of the model, in the order in which steps need them."""
    start = executor.trainer.initial
    models = [start + np.float32(0.01 * version) for version in range(3)]
    return [
        Train(
            round=1 + place % 3,
            node=np.array(clients),
            model=models[place % 3],
            shared=shared(place % 3),
            states=[None] * len(clients),
        )
        for place, clients in enumerate(GROUPS)
    ]


def same(found: Any, expected: Any) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine.partial.delta, theirs.partial.delta)
        assert mine.partial.squares == theirs.partial.squares
        assert mine.rows["client"].tolist() == theirs.rows["client"].tolist()
        np.testing.assert_array_equal(mine.rows["train_loss"], theirs.rows["train_loss"])


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many jobs the calls with several models had."""
    sizes: list[int] = []
    plain = TensorFlowTrainer.train_each

    def counting(self: TensorFlowTrainer, asked: Any) -> Any:
        sizes.append(len(asked))
        return plain(self, asked)

    monkeypatch.setattr(TensorFlowTrainer, "train_each", counting)
    return sizes


@pytest.mark.parametrize(
    ("strategy", "shared"),
    [
        ("fedavg", lambda version: {}),
        ("q-fedavg", lambda version: {}),
        ("fedprox-adaptive", lambda version: {"mu": 0.1 * version}),
        ("moon", lambda version: catalog.build("moon").client.share(1)),
    ],
    ids=["fedavg", "loss of the model", "a number for each version", "clients that keep something"],
)
def test_bits_do_not_depend_on_who_is_in_the_call(
    strategy: str, shared: Any, together: list[int]
) -> None:
    executor = made(strategy, **{"training.local_epochs": 2, "training.momentum": 0.9})
    groups = calls(executor, shared)
    alone = [executor.train(g.round, g.node, g.model, g.shared, g.states)[0] for g in groups]
    same(TrainGroups(groups=tuple(groups)).run(executor), alone)
    assert together == ([] if strategy == "moon" else [5])
    assert executor.mixed is None


def test_who_fails_is_no_others_fault(together: list[int]) -> None:
    executor = made("fedavg", **{"faults.on_client_error": "skip"})
    groups = calls(executor, lambda version: {})
    broken = np.full_like(groups[1].model, np.nan)
    groups[1] = replace(groups[1], model=broken)
    alone = [executor.train(g.round, g.node, g.model, g.shared, g.states)[0] for g in groups]
    found = TrainGroups(groups=tuple(groups)).run(executor)
    assert together == [5]
    assert [one.client for one in found[1].lost] == GROUPS[1] and found[1].partial is None
    same(found[:1] + found[2:], alone[:1] + alone[2:])


def test_models_at_hand_are_those_that_nobody_can_change(together: list[int]) -> None:
    executor = made("fedavg")
    groups = calls(executor, lambda version: {})
    kept = executor.trainer._several
    kept.clear()
    first = TrainGroups(groups=tuple(groups)).run(executor)
    assert not kept
    for group in groups:
        group.model.flags.writeable = False
    same(TrainGroups(groups=tuple(groups)).run(executor), first)
    placed = [tensor for _, tensor in kept.values()]
    assert len(placed) == 3
    same(TrainGroups(groups=tuple(groups)).run(executor), first)
    assert [id(tensor) for _, tensor in kept.values()] == [id(tensor) for tensor in placed]
    for version in range(2 * executor.trainer.together):
        other = executor.trainer.initial + np.float32(version)
        other.flags.writeable = False
        executor.trainer._apart(other)
    assert len(kept) == executor.trainer.together
    assert together == [5, 5, 5]
