"""A backdoor: a pattern of pixels that is to make a model see one class, whatever the picture.

Attackers stamp a white square of 3 x 3 pixels on the lower right corner of a part of their
pictures, the same ones in every round, and train on them as examples of the target class. How far
they come is the attack success rate: the share of the test pictures of all other classes that the
model takes for the target class with the pattern on them.

Source: Gu et al. (2017), arXiv 1708.06733 (the pattern); Bagdasaryan et al. (2020), arXiv
1807.00459 (in federated learning, with updates boosted by the strength).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from simulation.datasets import targets
from simulation.datasets.dataset import Dataset
from strategies.checks import part_of
from strategies.random_streams import stream

SIDE = 3
"""Pixels of the pattern's side."""

POISONED = 0x4244
"""Purpose of the random stream that says which pictures of an attacker are stamped."""

SHARE = 0.5
"""Part of an attacker's pictures that is stamped, unless it is given."""


@dataclass(frozen=True)
class Backdoor:
    """What attackers do to their examples.

    Args:
        clients: numbers of the attackers.
        target: the class that the pattern stands for.
        share: part of an attacker's pictures that is stamped.
        white: value of the pattern's pixels.
        seed: of the experiment.
        tested: rows of the test pictures of other classes.
    """

    clients: frozenset[int]
    target: int
    share: float
    white: float
    seed: int
    tested: NDArray[np.int64] = field(repr=False, compare=False)

    withheld: ClassVar[NDArray[np.int32] | None] = None
    """Rows that nobody is dealt: none."""

    def poisoned(
        self, clients: Sequence[int], sizes: Sequence[int], x: NDArray[Any], y: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return what clients train on, whose examples are joined in ``x`` and ``y``."""
        starts = np.concatenate([[0], np.cumsum(sizes)])[:-1]
        rows = [
            start + stream(self.seed, POISONED, client).permutation(size)[: self.count(size)]
            for client, size, start in zip(clients, sizes, starts, strict=True)
            if client in self.clients
        ]
        if not rows:
            return x, y
        at = np.concatenate(rows)
        x, y = x.copy(), y.copy()
        x[at], y[at] = self.shown(x[at]), self.as_target(y[at])
        return x, y

    def count(self, size: int) -> int:
        """Return how many of an attacker's pictures are stamped."""
        return part_of(self.share, size)

    def shown(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return pictures [N, height, width, channels] with the pattern on them."""
        x = x.copy()
        x[:, -SIDE:, -SIDE:] = self.white
        return x

    def as_target(self, y: NDArray[Any]) -> NDArray[Any]:
        """Return as many targets of the target class, in the form of ``y``."""
        return as_class(y, self.target)


def as_class(y: NDArray[Any], label: int) -> NDArray[Any]:
    """Return as many targets of a class, in the form of ``y``: numbers, or one-hot rows."""
    y = np.zeros_like(y)
    if y.ndim == 2 and y.shape[1] > 1:
        y[:, label] = 1
    else:
        y[...] = label
    return y


def victims(y: NDArray[Any], target: int) -> NDArray[np.int64]:
    """Return the rows of targets whose class is another than the target class."""
    classes = targets.classes_of(y)
    assert classes is not None
    return np.flatnonzero(classes != target)


def white(data: Dataset) -> float:
    """Return the value of a white pixel: the highest of the type, or of the pictures."""
    x = pictures(data)
    return float(np.iinfo(x.dtype).max if x.dtype.kind in "iu" else x.max())


def pictures(data: Dataset) -> NDArray[Any]:
    """Return the training pictures [N, height, width, channels].

    Raises:
        ValueError: where the dataset has none of at least the pattern's size.
    """
    x: Any = data.x_train
    if isinstance(x, np.ndarray) and x.ndim == 4 and min(x.shape[1:3]) >= SIDE:
        return x
    shape = x.shape[1:] if isinstance(x, np.ndarray) else "several inputs"
    raise ValueError(
        f"attack.kind must be another than 'backdoor' where examples are no pictures of "
        f"[height, width, channels], at least {SIDE} x {SIDE}, got {shape}"
    )
