"""Centred clipping: updates are clipped around what the cohort did in the round before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Any

import numpy as np

from strategies import checks
from strategies.algorithm import Algorithm
from strategies.optional_protocols import innermost, refusal
from strategies.protocols import Round, ServerRule, State
from strategies.robust import Combine, Kept, Robust
from strategies.server_state import WrapperState
from strategies.spec import Vector
from strategies.stacked import squared_norm
from strategies.sums import add_scaled
from strategies.updates import Mean

CENTRE = "centre"
"""Name of the last mean in the server's state."""


@dataclass(frozen=True)
class CentredClipping(Robust):
    """The mean of updates that are clipped around the last round's mean.

    From v_0, the mean of the round before (0 in the first), ``iterations`` times over n clients::

        v <- v + (1 / n) sum_i (delta_i - v) * min(1, tau / ||delta_i - v||)

    The norm is that of the trainable part; moving statistics are clipped around 0, by the same
    factors. The server rule must be :class:`Recalling`, which keeps the mean.

    Args:
        tau: how far an update may lie from the centre, > 0.
        iterations: how often it is clipped, >= 1.
        centre: v_0 over the trainable part, float64 [T]; None is 0. :meth:`during` gives it.

    Raises:
        ValueError: if an option is out of its range.

    Source: Karimireddy, He and Jaggi (2021), arXiv 2012.10333, Algorithm 2. There clients send
    gradients with momentum; a client's update in its place moves on by its steps and their rate, so
    that tau, 10 in the paper, is to be chosen for them.
    """

    tau: float = 1.0
    iterations: int = 1
    centre: Vector | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        checks.number("tau", self.tau, "> 0")
        checks.integer("iterations", self.iterations, ">= 1")

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse server rules that forget the mean."""
        if isinstance(algorithm.server, Recalling):
            return None
        return f"centred clipping needs the server rule Recalling, got {algorithm.server}"

    def during(self, at: Round, state: State) -> CentredClipping:
        """Return the reducer with the centre that the server keeps."""
        return replace(self, centre=state[CENTRE])

    def rule(self, cohort: Kept) -> Combine:
        """Return the mean with the weights that the clipping comes to."""
        heads = cohort.heads()
        start = np.zeros(heads[0].size) if self.centre is None else self.centre
        clients, keeps = len(heads), 1.0
        weights, v = np.zeros(clients), start
        for _ in range(self.iterations):
            away = [sqrt(squared_norm(head - v)) for head in heads]
            part = np.array([min(1.0, self.tau / d) if d > 0 else 1.0 for d in away]) / clients
            stays = 1.0 - float(part.sum())
            keeps, weights = keeps * stays, stays * weights + part
            v = keeps * start
            add_scaled(v, heads, weights.tolist())

        def combine(rows: Any) -> Vector:
            total = np.zeros(rows[0].size)
            if rows is cohort.deltas:
                total[: start.size] = keeps * start
            for row, weight in zip(rows, weights.tolist(), strict=True):
                add_scaled(total, [row], [weight])
            return total

        return combine


@dataclass(frozen=True, eq=False)
class RecallingState(WrapperState):
    """The mean of the last round, float64 [T]."""

    centre: Vector


@dataclass(frozen=True)
class Recalling:
    """A server rule that keeps the cohort's mean for the next round, and moves by another rule.

    Args:
        server: moves the model.
    """

    server: ServerRule

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse reducers that do not clip around the mean, and what the rule inside refuses."""
        if not isinstance(innermost(algorithm.reducer), CentredClipping):
            return f"Recalling keeps a mean for CentredClipping alone, got {algorithm.reducer}"
        return refusal(self.server, algorithm)

    def init(self, model: Vector) -> RecallingState:
        """Return the state of the rule inside, and a mean of 0."""
        return RecallingState(self.server.init(model), np.zeros(model.size))

    def step(
        self, model: Vector, state: State, mean: Mean, at: Round
    ) -> tuple[Vector, RecallingState]:
        """Return the next model, and the state with this round's mean."""
        model, inner = self.server.step(model, RecallingState.of(state).server, mean, at)
        return model, RecallingState(inner, np.array(mean.delta, np.float64))

    def share(self, state: State) -> Mapping[str, Any]:
        """Return what the rule inside shares: clients need no centre."""
        return self.server.share(RecallingState.of(state).server)
