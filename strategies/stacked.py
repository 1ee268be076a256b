"""Vectors that are no arrays yet: computed when they are read, or summed where they are.

A cohort's deltas are by far the most of what a round moves. Where they are only ever summed up,
nobody need write them, or fetch them from the device that has computed them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from strategies.spec import Vector


class Computed(np.lib.mixins.NDArrayOperatorsMixin, ABC):
    """A vector that becomes an array when it is asked for; all but sums take it for that array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    ndim = 1

    @property
    def size(self) -> int:
        """P, how many entries there are."""
        return self.shape[0]

    @abstractmethod
    def whole(self) -> Vector:
        """Return the array."""

    @abstractmethod
    def head(self, size: int) -> Computed:
        """Return the leading entries, without computing the others."""

    def __len__(self) -> int:
        """Return P."""
        return self.size

    def __getitem__(self, at: Any) -> Any:
        """Return an entry, or an array of some."""
        return self.whole()[at]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Vector:
        """Return the whole vector."""
        return np.asarray(self.whole(), dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Apply a ufunc to the whole vector."""
        arrays = [i.whole() if isinstance(i, Computed) else i for i in inputs]
        return getattr(ufunc, method)(*arrays, **options)

    def __reduce__(self) -> Any:
        """Travel as the whole vector."""
        return np.asarray, (np.asarray(self),)


class Difference(Computed):
    """The vector ``end - start``, computed when it is asked for.

    A client's delta is read once, block by block, where updates stream
    (:func:`~strategies.sums.add_scaled`): it is then never written.

    Args:
        end: the weights after training [P].
        start: the weights before [P], of the same dtype.
    """

    def __init__(self, end: Vector, start: Vector) -> None:
        if end.shape != start.shape:
            raise ValueError(f"end has shape {end.shape}, expected {start.shape}")
        self.end, self.start = end, start
        self.shape, self.dtype = end.shape, end.dtype

    @override
    def whole(self) -> Vector:
        difference: Vector = self.end - self.start
        return difference

    @override
    def head(self, size: int) -> Difference:
        return Difference(self.end[:size], self.start[:size])

    @override
    def __getitem__(self, at: Any) -> Any:
        return self.end[at] - self.start[at]


class Stack(Protocol):
    """The vectors [C, P] of several clients, all in one place that can sum them up."""

    def vectors(self) -> NDArray[np.float32]:
        """Return them in NumPy's memory [C, P]."""

    def squares(self, size: int) -> NDArray[np.float64]:
        """Return the squared norm of the first ``size`` entries of each [C], summed in float64."""

    def total(
        self, rows: Sequence[Row], weights: Sequence[float], measured: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the weighted sum of rows of equal length, and each one's squared norm.

        The sum is in float64, one after the other: a row more changes nothing but what it adds.

        Args:
            rows: of this stack, or of several.
            weights: of each.
            measured: of how many leading entries the norms are, without weights.
        """


class Row(Computed):
    """One client's vector in a :class:`Stack`, or a multiple of it.

    Args:
        stack: of vectors.
        place: which one of them.
        size: how many of its leading entries.
        factor: what they are multiplied by.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, stack: Stack, place: int, size: int, factor: float = 1.0) -> None:
        self.stack, self.place, self.factor = stack, place, factor
        self.shape = (size,)

    @override
    def whole(self) -> Vector:
        vector = self.stack.vectors()[self.place, : self.size]
        if self.factor != 1:
            return np.multiply(vector, self.factor, dtype=np.float64)
        vector.flags.writeable = False
        return vector

    @override
    def head(self, size: int) -> Row:
        return Row(self.stack, self.place, size, self.factor)

    def times(self, factor: float) -> Row:
        """Return a multiple of it."""
        return Row(self.stack, self.place, self.size, self.factor * factor)

    def squared_norm(self) -> float:
        """Return its squared norm."""
        return float(self.stack.squares(self.size)[self.place]) * self.factor**2


def head_of(vector: Any, size: int) -> Any:
    """Return the leading entries of a vector, without computing those of others."""
    return vector.head(size) if isinstance(vector, Computed) else vector[:size]


def times(vector: Any, factor: float) -> Any:
    """Return a multiple of a vector: an array of float64, or one that is still to be computed."""
    if isinstance(vector, Row):
        return vector.times(factor)
    return np.multiply(vector, factor, dtype=np.float64)


def squared_norm(vector: Any) -> float:
    """Return ``||vector||^2`` summed in float64."""
    if isinstance(vector, Row):
        return vector.squared_norm()
    # Not by BLAS: its threads would compete with the other workers' for the cores.
    return float(np.einsum("i,i->", vector, vector, dtype=np.float64))
