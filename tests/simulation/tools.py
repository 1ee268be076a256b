"""Short ways to train single clients, and to drive rounds by messages, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simulation.engines.calls import Train
from simulation.engines.engine import Engine
from simulation.engines.inline import InlineEngine
from simulation.flower.driver import MessagingDriver
from simulation.flower.executor import MessageExecutor
from simulation.flower.grid import MessageGrid
from simulation.training.measured import TrainedClient
from simulation.training.plan import Asked, Examples


def train_many(
    trainer: Any,
    clients: Sequence[int],
    sizes: Sequence[int],
    round: int,
    model: Any,
    x: Any,
    y: Any,
    own: Sequence[Mapping[str, Any]] | None = None,
    slots: Any = None,
    weights: Any = None,
    **asked: Any,
) -> list[TrainedClient]:
    """Train clients in one call; ``asked`` are the arguments of :class:`Asked`."""
    examples = Examples(x, y, weights)
    job = trainer.plan.job(clients, sizes, round, examples, Asked(**asked), own, slots)
    found: list[TrainedClient] = trainer.train(model, job)
    return found


def train_one(
    trainer: Any, client: int, round: int, model: Any, x: Any, y: Any,
    own: Mapping[str, Any] | None = None, **more: Any,
) -> TrainedClient:  # fmt: skip
    """Train one client."""
    states = None if own is None else [own]
    (trained,) = train_many(trainer, [client], [len(y)], round, model, x, y, states, **more)
    return trained


def training(clients: Any, model: Any, **more: Any) -> Train:
    """Return a call that trains a chunk in round 1."""
    ids = np.asarray(clients)
    more.setdefault("states", [None] * len(ids))
    return Train(round=1, node=ids, model=model, shared={}, **more)


def answering(progress: Any = None) -> InlineEngine:
    """Return an engine in this process whose executor answers messages too."""
    return InlineEngine(progress, MessageExecutor)


def messaging(strategy: Any, engine: Engine, spec: Any, experiment: Any) -> MessagingDriver:
    """Return a driver by messages on an engine, which folds where it can."""
    return MessagingDriver(strategy, MessageGrid(engine), spec, experiment, engine=engine)
