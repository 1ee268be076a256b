"""Steps along gradients at other points than the weights, and with a second model beside them.

A :class:`Direction` asks for gradients of a step's batch at points of its choice, and says what the
client's optimiser takes for the gradient. It may move a second model along, and numbers of the
client's. It is written in plain operators on :class:`Pieces`, and in the array functions that it is
given (``keras.ops`` in a client, NumPy in a test), so that one text runs on every backend.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SECOND = "second"
"""Name of the second model and the client's numbers [T + N], among the client's states."""


class Pieces:
    """All trained weights, or as many numbers, as arrays of the weights' shapes.

    Operators go piece by piece; the other side is of the same shapes, or a number.

    Args:
        parts: the arrays.
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = list(parts)

    def map(self, function: Callable[[Any], Any]) -> Pieces:
        """Return a function of each array."""
        return Pieces([function(part) for part in self.parts])

    def with_(self, function: Callable[[Any, Any], Any], other: Any) -> Pieces:
        """Return a function of each array and its like."""
        others = other.parts if isinstance(other, Pieces) else [other] * len(self.parts)
        return Pieces([function(a, b) for a, b in zip(self.parts, others, strict=True)])

    def dot(self, ops: Any, other: Pieces) -> Any:
        """Return the inner product, a number."""
        each = [ops.sum(a * b) for a, b in zip(self.parts, other.parts, strict=True)]
        return sum(each[1:], each[0])

    def norm(self, ops: Any) -> Any:
        """Return the Euclidean norm over all pieces, a number."""
        return ops.sqrt(self.dot(ops, self))

    def __add__(self, other: Any) -> Pieces:
        """Return the sum."""
        return self.with_(operator.add, other)

    def __sub__(self, other: Any) -> Pieces:
        """Return the difference."""
        return self.with_(operator.sub, other)

    def __mul__(self, other: Any) -> Pieces:
        """Return the product, entry by entry."""
        return self.with_(operator.mul, other)

    def __truediv__(self, other: Any) -> Pieces:
        """Return the quotient, entry by entry."""
        return self.with_(operator.truediv, other)

    __radd__, __rmul__ = __add__, __mul__


@dataclass(frozen=True)
class Place:
    """Where a client stands at a step.

    Args:
        w: its weights.
        w0: the received ones.
        second: its second model; None where it has none.
        numbers: the client's own, by name.
        first: whether it is the first step of the round.
        rate: the learning rate of the client's optimiser.
        shared: numbers that the server shares, by name.
        inner: the direction's.
    """

    w: Pieces
    w0: Pieces
    second: Pieces | None
    numbers: Mapping[str, Any]
    first: Any
    rate: Any
    shared: Mapping[str, Any]
    inner: int = 1


@dataclass(frozen=True)
class Way:
    """What a step makes of it: the gradient that the optimiser takes, and what else has moved."""

    gradient: Pieces
    second: Pieces | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)


Gradient = Callable[[Pieces], Pieces]
"""The gradient of the step's batch at a point. What is measured of the batch (loss, accuracy) and
what moves along with it (moving statistics) are those of the first point that is asked for."""


@dataclass(frozen=True)
class Direction:
    """How a client makes the gradient that its optimiser takes.

    Args:
        step: ``step(ops, gradient, at) -> way``, at module level.
        second: whether it moves a second model, which begins as the received one.
        lasts: whether the second model goes on in the client's next round from where it was.
        numbers: the client's numbers and what they begin as; they last as the second model does.
        model: ``model(w, second, numbers, shared) -> own``: the client's own model [T] at the end
            of a round, which is kept and measured; None where it has none.
        inner: how many gradients a step takes within, where that is a setting.
        gradients: how many a step takes in all.
    """

    step: Callable[[Any, Gradient, Place], Way]
    second: bool = False
    lasts: bool = False
    numbers: Mapping[str, float] = field(default_factory=dict)
    model: Callable[..., Any] | None = None
    inner: int = 1
    gradients: int = 1

    def size(self, trainable: int) -> int:
        """Return how many numbers second model and numbers are, of T trained weights."""
        return trainable + len(self.numbers) if self.second else 0
