"""The layout of a model: one flat vector, and which slice of it belongs to which weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[Any]
"""A one-dimensional floating point array."""


@dataclass(frozen=True)
class Spec:
    """Names and shapes of a model's weights, in the order in which the flat vector holds them.

    Args:
        names: a unique path per weight (Keras' plain names repeat between layers).
        shapes: the shape of each weight.
        trainable: how many of them are trainable; these come first.
        of_classes: K and D, where clients tell a mean of D numbers for each of K classes (see
            :class:`~strategies.objective.Objective`).
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    trainable: int
    of_classes: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if len(self.names) != len(self.shapes):
            raise ValueError(f"{len(self.names)} names for {len(self.shapes)} shapes")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"names must be unique, got {list(self.names)}")

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries of each weight."""
        return tuple(prod(shape) for shape in self.shapes)

    @cached_property
    def size(self) -> int:
        """P, the length of the flat vector."""
        return sum(self.sizes)

    @cached_property
    def trainable_size(self) -> int:
        """T, the length of its leading trainable part."""
        return sum(self.sizes[: self.trainable])

    def ravel(self, arrays: Sequence[NDArray[Any]]) -> Vector:
        """Join ``arrays`` (in the spec's order) into one float32 vector of length P."""
        shapes = tuple(tuple(np.shape(a)) for a in arrays)
        if shapes != self.shapes:
            raise ValueError(f"weights have shapes {list(shapes)}, expected {list(self.shapes)}")
        if not arrays:
            return np.zeros(0, np.float32)
        return np.concatenate([np.asarray(a, np.float32).ravel() for a in arrays])

    def unravel(self, vector: Vector) -> list[NDArray[Any]]:
        """Return one view of ``vector`` per weight, in its shape."""
        if vector.shape != (self.size,):
            raise ValueError(f"vector has shape {vector.shape}, expected ({self.size},)")
        ends = np.cumsum(self.sizes)[:-1]
        parts = np.split(vector, ends)
        return [p.reshape(s) for p, s in zip(parts, self.shapes, strict=True)]
