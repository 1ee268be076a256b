"""Counts that metrics by name are made of: they add up over batches, clients and pieces.

With ``t``, ``p`` and ``c`` the examples that are of a class, are predicted to be, and both::

    recall = c / t    precision = c / p    f1 = 2 c / (t + p)

For two classes they are those of the second one; for more, means over the classes that occur.
``auc`` is that of one class against the rest, ``P(s+ > s-) + P(s+ = s-) / 2`` of scores in 256
bins.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from simulation.training.keras.metric_rows import Rows

BINS = 256
"""Of scores from 0 to 1, for the area under a curve."""

Floats = NDArray[np.float64]


class Counts(ABC):
    """Counts of one kind, as a vector [S] that adds up.

    Args:
        width: K classes, or D numbers of an example.
    """

    def __init__(self, width: int) -> None:
        self.width = width

    @property
    @abstractmethod
    def size(self) -> int:
        """S."""

    @abstractmethod
    def of(self, rows: Rows) -> Any:
        """Return what a batch adds [S]."""

    @abstractmethod
    def values(self, sums: Floats) -> dict[str, Floats]:
        """Return values [N] by name, for sums [N, S]."""


class OfClasses(Counts):
    """Counts of classes.

    Args:
        width: K classes.
        second: whether a value is that of the last class, as with two; else a mean over classes.
    """

    def __init__(self, width: int, second: bool) -> None:
        super().__init__(width)
        self.second = second

    def _whole(self, values: Floats) -> Floats:
        return values[:, -1] if self.second else _mean(values)


class Table(OfClasses):
    """Of each class: examples that are of it, are predicted to be, and both."""

    @property
    def size(self) -> int:
        """S."""
        return 3 * self.width

    def of(self, rows: Rows) -> Any:
        """Return what a batch adds."""
        weight = rows.weight[:, None]
        parts = [rows.truth, rows.chosen, rows.truth * rows.chosen]
        return ops.concatenate([ops.sum(part * weight, 0) for part in parts])

    def values(self, sums: Floats) -> dict[str, Floats]:
        """Return values by name."""
        true, predicted, both = np.split(sums, 3, axis=1)
        occurs, recall = true > 0, _ratio(both, true)
        # A class that occurs and is never predicted is one that no prediction gets right.
        precision = np.where(occurs, np.where(predicted > 0, _ratio(both, predicted), 0.0), np.nan)
        f1 = np.where(occurs, _ratio(2 * both, true + predicted), np.nan)
        found = {
            "recall": self._whole(recall),
            "precision": self._whole(precision),
            "f1": self._whole(f1),
            "balanced_accuracy": _mean(recall),
        }
        return found | {f"per_class_{k}": recall[:, k] for k in range(self.width)}


class Confusion(Counts):
    """Of each pair of classes: examples of the one that are taken for the other."""

    @property
    def size(self) -> int:
        """S."""
        return max(2, self.width) ** 2

    def of(self, rows: Rows) -> Any:
        """Return what a batch adds."""
        truth, chosen = rows.truth, rows.chosen
        if self.width == 1:  # One score tells the second class from the first.
            truth, chosen = (ops.concatenate([1 - part, part], 1) for part in (truth, chosen))
        counted = ops.matmul(ops.transpose(truth * rows.weight[:, None]), chosen)
        return ops.reshape(counted, (-1,))

    def values(self, sums: Floats) -> dict[str, Floats]:
        """Return values by name: of class i taken for class j."""
        classes = max(2, self.width)
        pairs = [(i, j) for i in range(classes) for j in range(classes)]
        return {f"confusion_{i}_{j}": sums[:, n] for n, (i, j) in enumerate(pairs)}


class Top(Counts):
    """Examples whose class is among the k of the highest scores, and examples."""

    def __init__(self, width: int, k: int) -> None:
        super().__init__(width)
        self.k = k

    @property
    def size(self) -> int:
        """S."""
        return 2

    def of(self, rows: Rows) -> Any:
        """Return what a batch adds."""
        own = ops.sum(rows.truth * rows.score, 1, keepdims=True)
        better = ops.sum(ops.cast(rows.score > own, "float32"), 1)
        hits = ops.cast(better < self.k, "float32") * rows.weight
        return ops.stack([ops.sum(hits), ops.sum(rows.weight)])

    def values(self, sums: Floats) -> dict[str, Floats]:
        """Return values by name."""
        return {f"top{self.k}": _ratio(sums[:, 0], sums[:, 1])}


class Curve(OfClasses):
    """Of each class and bin of scores: examples of it, and others."""

    @property
    def size(self) -> int:
        """S."""
        return 2 * self.width * BINS

    def of(self, rows: Rows) -> Any:
        """Return what a batch adds."""
        place = ops.cast(ops.clip(ops.floor(rows.score * BINS), 0, BINS - 1), "int32")
        place = place + BINS * ops.arange(self.width, dtype="int32")
        weight = rows.weight[:, None]
        many, flat = self.width * BINS, ops.reshape(place, (-1,))
        parts = [rows.truth * weight, (1 - rows.truth) * weight]
        return ops.concatenate(
            [ops.segment_sum(ops.reshape(part, (-1,)), flat, num_segments=many) for part in parts]
        )

    def values(self, sums: Floats) -> dict[str, Floats]:
        """Return values by name."""
        shaped = sums.reshape(len(sums), 2, self.width, BINS)
        positive, negative = shaped[:, 0], shaped[:, 1]
        below = np.cumsum(negative, axis=-1) - negative
        right = (positive * (below + negative / 2)).sum(-1)
        each = _ratio(right, positive.sum(-1) * negative.sum(-1))
        return {"auc": self._whole(each)}


class Errors(Counts):
    """Of numbers: how many, sums of errors and of targets, plain and squared, for each of D.

    Args:
        width: D.
        centre: means of all targets [D], from which they are counted: of large numbers that differ
            little the squares would say nothing.
    """

    def __init__(self, width: int, centre: NDArray[np.float32]) -> None:
        super().__init__(width)
        self.centre = centre

    @property
    def size(self) -> int:
        """S."""
        return 1 + 4 * self.width

    def of(self, rows: Rows) -> Any:
        """Return what a batch adds."""
        weight = rows.weight[:, None]
        error, target = rows.score - rows.truth, rows.truth - self.centre
        parts = [ops.abs(error), ops.square(error), target, ops.square(target)]
        sums = [ops.sum(part * weight, 0) for part in parts]
        return ops.concatenate([ops.reshape(ops.sum(rows.weight), (1,)), *sums])

    def values(self, sums: Floats) -> dict[str, Floats]:
        """Return values by name; of several numbers, means over them."""
        count = sums[:, :1]
        absolute, squared, target, squares = np.split(sums[:, 1:], 4, axis=1)
        spread = squares - _ratio(target**2, count)
        with np.errstate(invalid="ignore", divide="ignore"):
            fit = np.where(spread > 0, 1 - squared / spread, np.nan)
        mse = _ratio(squared, count).mean(1)
        return {
            "mae": _ratio(absolute, count).mean(1),
            "mse": mse,
            "rmse": np.sqrt(mse),
            "r2": fit.mean(1),
        }


def _ratio(part: Floats, whole: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, np.nan)


def _mean(values: Floats) -> Floats:
    """Return means over the last axis of what there is; NaN for nothing."""
    known = np.isfinite(values)
    return _ratio(np.where(known, values, 0.0).sum(-1), known.sum(-1).astype(np.float64))
