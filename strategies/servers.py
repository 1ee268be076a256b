"""Server rules: how the cohort's mean update moves the model.

The mean delta is the negative pseudo-gradient: every rule adds it. All arithmetic is float64;
the next model has the dtype of the model that came in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from strategies import checks
from strategies.protocols import Round, State
from strategies.schedules import Schedule, at_round
from strategies.server_state import ServerState
from strategies.spec import Vector
from strategies.updates import Mean


def average(learning_rate: float | Schedule = 1.0) -> Average:
    """Return the rule of FedAvg, ``x <- x + lr * delta``; see :class:`Average`."""
    return Average(learning_rate)


def momentum(
    learning_rate: float | Schedule = 1.0, beta: float = 0.9, nesterov: bool = False
) -> Momentum:
    """Return the rule of FedAvgM, ``x <- x + lr * v``; see :class:`Momentum`."""
    return Momentum(learning_rate, beta, nesterov)


def adam(
    learning_rate: float | Schedule = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.99,
    tau: float = 1e-3,
) -> Adaptive:
    """Return the rule of FedAdam, ``x <- x + lr * m / (sqrt(v) + tau)``; see :class:`Adaptive`."""
    return Adaptive("adam", learning_rate, beta1, beta2, tau)


def yogi(
    learning_rate: float | Schedule = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.99,
    tau: float = 1e-3,
) -> Adaptive:
    """Return the rule of FedYogi, where v moves additively; see :class:`Adaptive`."""
    return Adaptive("yogi", learning_rate, beta1, beta2, tau)


def adagrad(
    learning_rate: float | Schedule = 0.1, beta1: float = 0.0, tau: float = 1e-3
) -> Adaptive:
    """Return the rule of FedAdagrad, where v sums the squares; see :class:`Adaptive`."""
    return Adaptive("adagrad", learning_rate, beta1, 0.0, tau)


@dataclass(frozen=True)
class Average:
    """Add the mean update: ``x <- x + lr * delta``.

    Args:
        learning_rate: server learning rate, > 0; 1 replaces the model by the clients' mean.

    Raises:
        ValueError: if the learning rate is not positive.

    Source: McMahan et al. (2017), arXiv 1602.05629; lr as in Reddi et al. (2021), Algorithm 1.
    """

    learning_rate: float | Schedule = 1.0

    def __post_init__(self) -> None:
        checks.number("learning_rate", self.learning_rate, "> 0", schedule=True)

    def init(self, model: Vector) -> State:
        """Return the empty state."""
        return {}

    def step(self, model: Vector, state: State, mean: Mean, at: Round) -> tuple[Vector, State]:
        """Return ``model + lr * delta`` and the empty state."""
        rate = at_round(self.learning_rate, at.number)
        return move(model, mean.delta if rate == 1.0 else rate * mean.delta), state

    def share(self, state: State) -> Mapping[str, Any]:
        """Return nothing."""
        return {}


@dataclass(frozen=True, eq=False)
class MomentumState(ServerState):
    """The velocity v, float64 [T]."""

    v: Vector


@dataclass(frozen=True)
class Momentum:
    """Server momentum on the pseudo-gradient.

    ::

        v <- beta * v + delta                           v_0 = 0
        x <- x + lr * v                                 or, with Nesterov's look-ahead,
        x <- x + lr * (beta * v + delta)

    Args:
        learning_rate: server learning rate, > 0.
        beta: momentum, in [0, 1).
        nesterov: look ahead.

    Raises:
        ValueError: if an option is out of its range.

    Source: FedAvgM, Hsu et al. (2019), arXiv 1909.06335, section 3.3.
    """

    learning_rate: float | Schedule = 1.0
    beta: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        checks.number("learning_rate", self.learning_rate, "> 0", schedule=True)
        checks.number("beta", self.beta, "in [0, 1)")
        checks.boolean("nesterov", self.nesterov)

    def init(self, model: Vector) -> MomentumState:
        """Return ``v = 0``."""
        return MomentumState(v=np.zeros(model.size))

    def step(
        self, model: Vector, state: State, mean: Mean, at: Round
    ) -> tuple[Vector, MomentumState]:
        """Return the next model and velocity."""
        v = self.beta * MomentumState.of(state).v + mean.delta
        direction = self.beta * v + mean.delta if self.nesterov else v
        return move(model, at_round(self.learning_rate, at.number) * direction), MomentumState(v)

    def share(self, state: State) -> Mapping[str, Any]:
        """Return nothing."""
        return {}


@dataclass(frozen=True, eq=False)
class AdaptiveState(ServerState):
    """Both moments of the pseudo-gradient, m and v, float64 [T] each."""

    m: Vector
    v: Vector


@dataclass(frozen=True)
class Adaptive:
    """Adagrad, Adam or Yogi on the pseudo-gradient, without bias correction.

    ::

        m <- beta1 * m + (1 - beta1) * delta                          m_0 = 0
        v <- v + delta^2                                              adagrad
        v <- beta2 * v + (1 - beta2) * delta^2                        adam
        v <- v - (1 - beta2) * delta^2 * sign(v - delta^2)            yogi;  v_0 = tau^2
        x <- x + lr * m / (sqrt(v) + tau)

    Args:
        kind: ``"adagrad"``, ``"adam"`` or ``"yogi"``.
        learning_rate: server learning rate, > 0.
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1); Adagrad has none.
        tau: degree of adaptivity, > 0: larger is closer to plain momentum.

    Raises:
        ValueError: if an option is out of its range.

    Source: Reddi et al. (2021), arXiv 2003.00295, Algorithm 2.
    """

    kind: Literal["adagrad", "adam", "yogi"]
    learning_rate: float | Schedule
    beta1: float
    beta2: float
    tau: float

    def __post_init__(self) -> None:
        checks.one_of("kind", self.kind, ("adagrad", "adam", "yogi"))
        checks.number("learning_rate", self.learning_rate, "> 0", schedule=True)
        checks.number("beta1", self.beta1, "in [0, 1)")
        checks.number("beta2", self.beta2, "in [0, 1)")
        checks.number("tau", self.tau, "> 0")

    def init(self, model: Vector) -> AdaptiveState:
        """Return ``m = 0`` and ``v = tau^2``."""
        return AdaptiveState(m=np.zeros(model.size), v=np.full(model.size, self.tau**2))

    def step(
        self, model: Vector, state: State, mean: Mean, at: Round
    ) -> tuple[Vector, AdaptiveState]:
        """Return the next model and both moments."""
        before = AdaptiveState.of(state)
        m = self.beta1 * before.m + (1 - self.beta1) * mean.delta
        v = self._second(before.v, mean.delta**2)
        lr = at_round(self.learning_rate, at.number)
        return move(model, lr * m / (np.sqrt(v) + self.tau)), AdaptiveState(m, v)

    def _second(self, v: Vector, square: Vector) -> Vector:
        if self.kind == "adagrad":
            return v + square
        if self.kind == "adam":
            return self.beta2 * v + (1 - self.beta2) * square
        return np.asarray(v - (1 - self.beta2) * square * np.sign(v - square))

    def share(self, state: State) -> Mapping[str, Any]:
        """Return nothing."""
        return {}


def move(model: Vector, by: Vector) -> Vector:
    """Return ``model + by``, added in float64, in the model's dtype."""
    moved = np.empty_like(model)
    np.add(model, by, out=moved, dtype=np.float64, casting="same_kind")
    return moved
