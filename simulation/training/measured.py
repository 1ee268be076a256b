"""What workers tell of a model, of training and of an evaluation: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategies.spec import Spec, Vector
from strategies.updates import Update


@dataclass(frozen=True)
class Described:
    """What a run says of its model, for the screen and ``config.json``.

    Args:
        loss: the loss in words; None for a model that only adds losses by itself.
        chosen: whether Sunflower chose it, as the model is not compiled with one.
        accuracy: name of the accuracy; None where there is none.
        alias: a further name under which the model reports it; empty for none.
        metrics: names of what else the model reports.
        scale: what inputs are multiplied by in front of the model; for several inputs one for each.
    """

    loss: str | None
    chosen: bool
    accuracy: str | None
    alias: str
    metrics: tuple[str, ...]
    scale: Any


@dataclass(frozen=True)
class Measured:
    """An evaluation of K segments of examples.

    Args:
        loss: sums of the examples' losses [K].
        right: sums of what is right [K]; NaN where there is no such notion.
        count: sums of what counts for the accuracy [K].
        states: variables of the model's own metrics [K, S].
    """

    loss: NDArray[np.float64]
    right: NDArray[np.float64]
    count: NDArray[np.float64]
    states: NDArray[np.float32]


@dataclass(frozen=True)
class ModelInfo:
    """What the server must know of the model: its layout and its initial weights [P].

    ``lanes``: how many clients a worker trains side by side.
    """

    spec: Spec
    initial: Vector
    learning_rate: float
    described: Described
    lanes: int = 1


@dataclass(frozen=True)
class TrainedClient:
    """An update, and what the client keeps: its rule's state and its optimiser's slots.

    ``counted``: what its accuracy counts, in examples; ``states``: variables [S] of the model's own
    metrics, which add up over clients; ``local``: weights that stay on the client; ``error``: what
    it has not sent so far [T], where updates are encoded with error feedback; ``parts``: the
    numbers of its encoded message.
    """

    update: Update
    own: Mapping[str, Vector]
    slots: Vector | None
    counted: float = 0.0
    states: Vector | None = None
    local: Vector | None = None
    error: Vector | None = None
    parts: Mapping[str, NDArray[Any]] | None = None


def with_metrics(trained: TrainedClient, more: Mapping[str, float]) -> TrainedClient:
    """Return what a client's training gave, with more metrics, by name."""
    update = trained.update
    return replace(trained, update=replace(update, metrics={**update.metrics, **more}))


def segment_sums(values: NDArray[Any], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the sum of each run of ``sizes[i]`` neighbouring values."""
    ends = np.cumsum(sizes)
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    return sums[ends] - sums[ends - sizes]
