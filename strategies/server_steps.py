"""Server rules whose step has a size of its own: FedExP's grows, that of FedAMS is bounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from strategies import checks
from strategies.algorithm import Algorithm
from strategies.protocols import Round, State
from strategies.reducers import SQUARE, MeasuredMean
from strategies.schedules import Schedule, at_round
from strategies.server_state import ServerState
from strategies.servers import move
from strategies.spec import Vector
from strategies.stacked import squared_norm
from strategies.updates import Mean


@dataclass(frozen=True)
class Extrapolated:
    """Step further than the mean where the clients' updates point different ways.

    With M clients in the round and delta their plain mean::

        step = max(1, sum_i ||delta_i||^2 / (2 M (||delta||^2 + epsilon)))
        x <- x + step * delta

    The paper evaluates the mean of the last two models; here it is the last one.

    Args:
        epsilon: keeps the step small where the updates cancel out, > 0.

    Raises:
        ValueError: if epsilon is not positive.

    Source: FedExP, Jhunjhunwala et al. (2023), arXiv 2301.09604, Algorithm 1.
    """

    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        checks.number("epsilon", self.epsilon, "> 0")

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse reducers that do not measure the updates' norms, or weigh them."""
        if algorithm.reducer == MeasuredMean("uniform"):
            return None
        return (
            "FedExP goes by the norms of the updates, which only MeasuredMean('uniform') tells, "
            f"got {algorithm.reducer}"
        )

    def init(self, model: Vector) -> State:
        """Return the empty state."""
        return {}

    def step(self, model: Vector, state: State, mean: Mean, at: Round) -> tuple[Vector, State]:
        """Return the next model and the empty state."""
        step = max(1.0, mean.metrics[SQUARE] / (2 * (squared_norm(mean.delta) + self.epsilon)))
        return move(model, step * mean.delta), state

    def share(self, state: State) -> Mapping[str, Any]:
        """Return nothing."""
        return {}


@dataclass(frozen=True, eq=False)
class BoundedState(ServerState):
    """Both moments of the pseudo-gradient and the largest second one so far, float64 [T] each."""

    m: Vector
    v: Vector
    largest: Vector

    saved_as = MappingProxyType({"largest": "v_max"})


@dataclass(frozen=True)
class Bounded:
    """AMSGrad on the pseudo-gradient, with a floor under the second moment.

    ::

        m <- beta1 * m + (1 - beta1) * delta                          m_0 = 0
        v <- beta2 * v + (1 - beta2) * delta^2                        v_0 = 0
        u <- max(u, v, epsilon)                                       u_0 = epsilon
        x <- x + lr * m / sqrt(u)

    Args:
        learning_rate: server learning rate, > 0.
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1).
        epsilon: the floor, > 0: a coordinate moves by at most lr / sqrt(epsilon) times m.

    Raises:
        ValueError: if an option is out of its range.

    Source: FedAMS, Wang et al. (2022), arXiv 2205.02719, Algorithm 1, option 1 (max stabilisation).
    """

    learning_rate: float | Schedule = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-4

    def __post_init__(self) -> None:
        checks.number("learning_rate", self.learning_rate, "> 0", schedule=True)
        checks.number("beta1", self.beta1, "in [0, 1)")
        checks.number("beta2", self.beta2, "in [0, 1)")
        checks.number("epsilon", self.epsilon, "> 0")

    def init(self, model: Vector) -> BoundedState:
        """Return ``m = v = 0`` and ``u = epsilon``."""
        zeros = np.zeros(model.size)
        return BoundedState(zeros, zeros.copy(), np.full(model.size, self.epsilon))

    def step(
        self, model: Vector, state: State, mean: Mean, at: Round
    ) -> tuple[Vector, BoundedState]:
        """Return the next model and moments."""
        before = BoundedState.of(state)
        m = self.beta1 * before.m + (1 - self.beta1) * mean.delta
        v = self.beta2 * before.v + (1 - self.beta2) * mean.delta**2
        largest = np.maximum(before.largest, v)
        lr = at_round(self.learning_rate, at.number)
        return move(model, lr * m / np.sqrt(largest)), BoundedState(m, v, largest)

    def share(self, state: State) -> Mapping[str, Any]:
        """Return nothing."""
        return {}
