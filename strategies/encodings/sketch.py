"""Sketches: every entry is added to a few counters, from which the large ones can be read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from strategies import checks
from strategies.encodings.bits import Field, Parts
from strategies.encodings.encoding import Draw, Encoding, Shapes, size_of
from strategies.encodings.sparse import entries_of
from strategies.spec import Vector


@dataclass(frozen=True)
class CountSketch(Encoding):
    """A table of ``rows`` by c counters, ``c = max(1, floor(fraction T / rows))``.

    In each row an entry of the vector is added to a counter drawn for it, with a sign drawn for it.
    The server draws the same, takes the median over the rows of an entry's counters times its
    signs for the entry, and of all entries those that are then largest in size: ``keep`` T. The
    client, which can read its own sketch, sends a factor for what is read along: the one that
    leaves least, ``<v, C(v)> / ||C(v)||^2``. So what it keeps is never more than there was.

    Args:
        fraction: counters, as a fraction of the entries, in (0, 1].
        rows: of the table, >= 1.
        keep: which fraction of the entries is read, in (0, 1].
        feedback: whether the client keeps what is not read for its next message.

    Raises:
        ValueError: for values out of range.

    Source: Charikar, Chen and Farach-Colton (2002), Finding Frequent Items in Data Streams; of
    gradients Rothchild et al. (2020), arXiv 2007.07682.
    """

    fraction: float = 0.1
    rows: int = 5
    keep: float = 0.01
    feedback: bool = True

    def __post_init__(self) -> None:
        checks.number("fraction", self.fraction, "in (0, 1]")
        checks.integer("rows", self.rows, ">= 1")
        checks.number("keep", self.keep, "in (0, 1]")

    def columns(self, size: int) -> int:
        """Return c for T entries."""
        return max(1, checks.part_of(self.fraction / self.rows, size))

    @override
    def fields(self, shapes: Shapes) -> list[Field]:
        counters = self.rows * self.columns(size_of(shapes))
        return [Field("counters", counters, "float"), Field("factor", 1, "float")]

    @override
    def parts(self, vector: Vector, shapes: Shapes, draw: Draw) -> Parts:
        size = vector.size
        columns, (places, signs) = self.columns(size), self._hashes(size, draw)
        table = [
            np.bincount(row, weights=sign * vector, minlength=columns)
            for row, sign in zip(places, signs, strict=True)
        ]
        counters = np.concatenate(table).astype(np.float32)
        read = self._read(counters, size, places, signs)
        square = read @ read
        factor = read @ vector / square if square > 0 else 0.0
        return {"counters": counters, "factor": np.array([factor], np.float32)}

    @override
    def vector(self, parts: Parts, shapes: Shapes, draw: Draw) -> Vector:
        size = size_of(shapes)
        found = self._read(parts["counters"], size, *self._hashes(size, draw))
        return (parts["factor"][0] * found).astype(np.float32)

    def _read(
        self, counters: NDArray[np.float32], size: int, places: NDArray[np.int64],
        signs: NDArray[np.float64],
    ) -> NDArray[np.float64]:  # fmt: skip
        table = np.reshape(counters, (self.rows, -1))
        found = np.median(signs * np.take_along_axis(table, places, 1), axis=0)
        count = entries_of(self.keep, size)
        largest = np.argpartition(np.abs(found), size - count)[-count:]
        whole = np.zeros(size)
        whole[largest] = found[largest]
        return whole

    def _hashes(self, size: int, draw: Draw) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return each entry's counter and sign in each row [rows, T]."""
        rng, shape = draw(), (self.rows, size)
        places = rng.integers(0, self.columns(size), shape)
        return places, 2.0 * rng.integers(0, 2, shape).astype(np.float64) - 1.0
