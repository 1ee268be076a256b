"""Sparse encodings: a few entries of the vector, all others stay with the client."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from strategies import checks
from strategies.encodings.bits import Field, Parts
from strategies.encodings.encoding import Draw, Encoding, Shapes, size_of
from strategies.spec import Vector


def entries_of(fraction: float, size: int) -> int:
    """Return how many entries a fraction of T is, at least 1."""
    return max(1, checks.part_of(fraction, size))


@dataclass(frozen=True)
class TopK(Encoding):
    """The k entries that are largest in size, ``k = max(1, floor(fraction T))``.

    The message holds their values and their places: k numbers of ``ceil(log2 T)`` bits, or one bit
    for each entry where that is shorter.

    Args:
        fraction: of the entries, in (0, 1].
        feedback: whether the client keeps the others for its next message.

    Source: Aji and Heafield (2017), arXiv 1704.05021; with memory Stich et al. (2018), arXiv
    1809.07599.
    """

    fraction: float = 0.01
    feedback: bool = True

    def __post_init__(self) -> None:
        checks.number("fraction", self.fraction, "in (0, 1]")

    @override
    def fields(self, shapes: Shapes) -> list[Field]:
        size = size_of(shapes)
        count, width = entries_of(self.fraction, size), max(1, (size - 1).bit_length())
        where = Field("places", count, "whole", width)
        if where.bits > size:
            where = Field("chosen", size, "whole", 1)
        return [where, Field("values", count, "float")]

    @override
    def parts(self, vector: Vector, shapes: Shapes, draw: Draw) -> Parts:
        count = entries_of(self.fraction, vector.size)
        places = np.sort(np.argpartition(np.abs(vector), vector.size - count)[-count:])
        chosen = np.zeros(vector.size, np.uint8)
        chosen[places] = 1
        return {"places": places, "chosen": chosen, "values": vector[places]}

    @override
    def vector(self, parts: Parts, shapes: Shapes, draw: Draw) -> Vector:
        places = parts["places"] if "places" in parts else np.flatnonzero(parts["chosen"])
        return _at(places, parts["values"], size_of(shapes))


@dataclass(frozen=True)
class RandomK(Encoding):
    """k entries drawn for each message, ``k = max(1, floor(fraction T))``.

    The server draws the same places from the same seed, so the message holds values alone. Without
    error feedback they are multiplied by ``T / k``, which makes the mean over the draws the vector.

    Args:
        fraction: of the entries, in (0, 1].
        feedback: whether the client keeps the others for its next message.

    Source: Konecny et al. (2016), arXiv 1610.05492, section 3 (subsampling); with memory Stich
    et al. (2018), arXiv 1809.07599.
    """

    fraction: float = 0.01
    feedback: bool = True

    def __post_init__(self) -> None:
        checks.number("fraction", self.fraction, "in (0, 1]")

    @override
    def fields(self, shapes: Shapes) -> list[Field]:
        return [Field("values", entries_of(self.fraction, size_of(shapes)), "float")]

    @override
    def parts(self, vector: Vector, shapes: Shapes, draw: Draw) -> Parts:
        places = self._places(vector.size, draw)
        scale = 1.0 if self.feedback else vector.size / len(places)
        return {"values": (vector[places] * scale).astype(np.float32)}

    @override
    def vector(self, parts: Parts, shapes: Shapes, draw: Draw) -> Vector:
        size = size_of(shapes)
        return _at(self._places(size, draw), parts["values"], size)

    def _places(self, size: int, draw: Draw) -> NDArray[np.int64]:
        return np.sort(draw().choice(size, entries_of(self.fraction, size), replace=False))


def _at(places: NDArray[np.int64], values: Vector, size: int) -> Vector:
    whole = np.zeros(size, np.float32)
    whole[places] = values
    return whole
