"""signSGD with majority vote: clients send signs, the server counts them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from typing_extensions import override

from strategies import checks
from strategies.encodings.bits import Field, Parts
from strategies.encodings.encoding import Draw, Encoding, Shapes, size_of
from strategies.spec import Vector
from strategies.sums import Streaming, Sums
from strategies.updates import Mean, Update


@dataclass(frozen=True)
class Signs(Encoding):
    """The sign of each entry, one bit; the sign of 0 is taken as +.

    Source: Bernstein et al. (2018), arXiv 1810.05291, Algorithm 1.
    """

    @override
    def fields(self, shapes: Shapes) -> list[Field]:
        return [Field("signs", size_of(shapes), "whole", 1)]

    @override
    def parts(self, vector: Vector, shapes: Shapes, draw: Draw) -> Parts:
        return {"signs": (vector >= 0).astype(np.uint8)}

    @override
    def vector(self, parts: Parts, shapes: Shapes, draw: Draw) -> Vector:
        return np.where(parts["signs"] == 1, 1.0, -1.0).astype(np.float32)


@dataclass(frozen=True)
class MajorityVote(Streaming):
    """The sign that more clients have sent, entry by entry, times a step.

    With s_i the signs of client i::

        delta = step * sign(sum_i s_i)

    Each client has one vote; where as many are for as against, nothing moves. Moving statistics
    are averaged, all clients alike.

    Args:
        step: how far an entry moves, > 0.

    Source: Bernstein et al. (2018), arXiv 1810.05291, Algorithm 1; there a vote is the sign of a
    gradient, here that of a client's delta.
    """

    step: float

    def __post_init__(self) -> None:
        checks.number("step", self.step, "> 0")

    @override
    def weigh(self, update: Update) -> float:
        return 1.0

    @override
    def finish(self, partial: Sums) -> Mean:
        mean, cut = super().finish(partial), partial.trainable
        delta = mean.delta.copy()
        delta[:cut] = self.step * np.sign(delta[:cut])
        return replace(mean, delta=delta)
