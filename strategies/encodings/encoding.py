"""An encoding: what a client sends in the place of its delta, and what the server reads from it.

Only the trained part of a delta, ``[T]``, is encoded; moving statistics travel as they are. Each
encoding has a format of bits whose length depends on the model's shapes alone, so that the bytes of
a round, and the time that they take, are known before anybody trains.

With **error feedback** a client keeps what it has not sent, and adds it to its next delta::

    v_t = delta_t + e_t,    the server reads C(v_t),    e_(t+1) = v_t - C(v_t)

Source: Stich et al. (2018), arXiv 1809.07599; Karimireddy et al. (2019), arXiv 1901.09847.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from strategies.encodings import bits
from strategies.encodings.bits import Field, Parts
from strategies.spec import Vector

Shapes = Sequence[tuple[int, ...]]
"""The shapes of the trained weights, in the order of the vector."""

Draw = Callable[[], np.random.Generator]
"""Returns the random stream of a client's message from its start, for the server likewise."""


class Encoding(ABC):
    """A way to send a vector [T] in fewer bytes: what is lost depends on it and on its draws."""

    feedback: bool = False
    """Whether a client keeps what it has not sent, for its next message."""

    @property
    def damping(self) -> float:
        """What C(v) is multiplied by where errors are kept that would grow otherwise, in (0, 1]."""
        return 1.0

    @abstractmethod
    def fields(self, shapes: Shapes) -> list[Field]:
        """Return what a message is made of."""

    @abstractmethod
    def parts(self, vector: Vector, shapes: Shapes, draw: Draw) -> Parts:
        """Return the numbers of the message for a finite vector [T], by field."""

    @abstractmethod
    def vector(self, parts: Parts, shapes: Shapes, draw: Draw) -> Vector:
        """Return the vector [T], float32, that the server reads from a message."""

    def length(self, shapes: Shapes) -> int:
        """Return how many bytes a message has."""
        return bits.length(self.fields(shapes))

    def encode(self, vector: Vector, shapes: Shapes, draw: Draw) -> bytes:
        """Return the message for a finite vector [T]."""
        return bits.pack(self.fields(shapes), self.parts(vector, shapes, draw))

    def decode(self, message: bytes, shapes: Shapes, draw: Draw) -> Vector:
        """Return the vector [T] that a message stands for."""
        return self.vector(bits.unpack(self.fields(shapes), message), shapes, draw)

    def sent(self, vector: Vector, shapes: Shapes, draw: Draw) -> Vector:
        """Return what the server reads: ``decode(encode(vector))``, without the bytes."""
        return self.vector(self.parts(vector, shapes, draw), shapes, draw)


def size_of(shapes: Shapes) -> int:
    """Return T."""
    return sum(prod(shape) for shape in shapes)


def split(vector: Vector, shapes: Shapes) -> list[Vector]:
    """Return the entries of each weight: views of a vector [T]."""
    ends = np.cumsum([prod(shape) for shape in shapes])[:-1]
    return np.split(vector, ends)


def spread(values: Vector, shapes: Shapes) -> Vector:
    """Return a number for each weight as one for each of its entries [T]."""
    return np.repeat(values, [prod(shape) for shape in shapes])
