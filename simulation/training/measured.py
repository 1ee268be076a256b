"""What workers tell of a model and of an evaluation: plain values, which the driver reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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


def segment_sums(values: NDArray[Any], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the sum of each run of ``sizes[i]`` neighbouring values."""
    ends = np.cumsum(sizes)
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    return sums[ends] - sums[ends - sizes]
