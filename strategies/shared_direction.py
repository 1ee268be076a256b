"""Algorithms whose clients step along what all of them did before: FedCM and FedDC.

FedCM mixes the last round's mean direction into every gradient. FedDC corrects gradients as
SCAFFOLD does, and pulls a client to where it would be without its own drift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from strategies import checks
from strategies.algorithm import Algorithm
from strategies.client_rule import ClientRule, Local
from strategies.drift import control_after, not_uniform
from strategies.protocols import Round, State
from strategies.reducers import PATH, MeasuredMean
from strategies.schedules import Schedule, at_round
from strategies.server_state import ServerState
from strategies.servers import move
from strategies.spec import Vector
from strategies.updates import Mean


def client_momentum(alpha: float | Schedule) -> ClientRule:
    """Mix the clients' last mean direction into every gradient: ``g' = a * g + (1 - a) * m``.

    The direction m comes from the server rule, :class:`ClientMomentum`. Clients train with SGD,
    from whose steps it is found.

    Args:
        alpha: weight of the client's own gradient, in (0, 1]; 1 is plain training.

    Raises:
        ValueError: if alpha is out of its range.

    Source: FedCM, Xu et al. (2021), arXiv 2106.10874, Algorithm 1.
    """
    checks.number("alpha", alpha, "in (0, 1]", schedule=True)
    return ClientRule(
        name="client momentum",
        hook=_momentum_hook,
        scalars={"alpha": alpha},
        uses=("m",),
        sgd=True,
    )


def _momentum_hook(
    g: Any, w: Any, w0: Any, shared: Mapping[str, Any], own: Mapping[str, Any]
) -> Any:
    return shared["alpha"] * g + (1 - shared["alpha"]) * shared["m"]


@dataclass(frozen=True, eq=False)
class DirectionState(ServerState):
    """The clients' mean direction of the last round, m, float64 [T]."""

    m: Vector


@dataclass(frozen=True)
class ClientMomentum:
    """The server rule of FedCM.

    With the cohort S, whose clients took steps that weigh ||a_i||_1 together (K with plain SGD)::

        m <- -mean_S(delta_i) / mean_S(||a_i||_1 * lr_i)              m_0 = 0
        x <- x + lr * mean_S(delta_i)

    The paper's server rate is lr times K times the clients' rate.

    Args:
        learning_rate: server learning rate, > 0.

    Raises:
        ValueError: if it is not positive; in ``step`` if no client reports a learning rate.

    Source: FedCM, Xu et al. (2021), arXiv 2106.10874, Algorithm 1; ||a||_1 of Wang et al. (2020),
    arXiv 2007.07481.
    """

    learning_rate: float | Schedule = 1.0

    def __post_init__(self) -> None:
        checks.number("learning_rate", self.learning_rate, "> 0", schedule=True)

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse clients without the momentum, and means that do not measure their paths."""
        if "m" not in algorithm.client.uses:
            return (
                "FedCM's server rule needs the client rule 'client momentum', "
                f"got {algorithm.client.name!r}"
            )
        if isinstance(algorithm.reducer, MeasuredMean):
            return None
        return (
            "FedCM takes a direction from the clients' paths, which only MeasuredMean tells, "
            f"got {algorithm.reducer}"
        )

    def init(self, model: Vector) -> DirectionState:
        """Return ``m = 0``."""
        return DirectionState(np.zeros(model.size))

    def step(
        self, model: Vector, state: State, mean: Mean, at: Round
    ) -> tuple[Vector, DirectionState]:
        """Return the next model and direction."""
        if PATH not in mean.metrics:
            raise ValueError(
                "FedCM must have clients that take steps, with one learning rate > 0, got none"
            )
        m = -mean.delta / mean.metrics[PATH]
        return move(model, at_round(self.learning_rate, at.number) * mean.delta), DirectionState(m)

    def share(self, state: State) -> Mapping[str, Any]:
        """Return the direction m."""
        return {"m": DirectionState.of(state).m}


def decoupled() -> ClientRule:
    """Correct gradients, and pull to where a client belongs: ``g - c_i + c + a (w - x + h_i)``.

    After local training the client adds its update to its drift, ``h_i' = h_i + delta``, and
    changes c_i as :func:`~strategies.control_variate` does, whose change it uploads. The weight a
    of the pull comes from the server rule, :class:`Decoupled`.

    Source: FedDC, Gao et al. (2022), arXiv 2203.11751, Algorithm 1, with the gradient correction of
    the authors' code.
    """
    return ClientRule(
        name="decoupled drift",
        hook=_decoupled_hook,
        after=_decoupled_after,
        own=("c", "h"),
        uploads=("c",),
        uses=("c", "alpha"),
        sgd=True,
    )


def _decoupled_hook(
    g: Any, w: Any, w0: Any, shared: Mapping[str, Any], own: Mapping[str, Any]
) -> Any:
    return g - own["c"] + shared["c"] + shared["alpha"] * (w - w0 + own["h"])


def _decoupled_after(
    delta: Vector, shared: Mapping[str, Any], own: Mapping[str, Vector], local: Local
) -> tuple[Mapping[str, Vector], Mapping[str, Vector]]:
    extras, kept = control_after("FedDC", delta, shared, own, local)
    return extras, {**kept, "h": own["h"] + delta}


@dataclass(frozen=True, eq=False)
class DecoupledState(ServerState):
    """The server's control variate c and the mean h of all clients' drifts, float64 [T] each."""

    c: Vector
    h: Vector

    saved_as = MappingProxyType({"h": "mean_drift"})


@dataclass(frozen=True)
class Decoupled:
    """The server rule of FedDC.

    With the cohort S of N registered clients::

        h <- h + |S| / N * mean_S(delta)                h_0 = 0
        c <- c + |S| / N * mean_S(c_i' - c_i)           c_0 = 0
        x <- x + mean_S(delta) + h

    h is the mean of all clients' drifts h_i, as in the authors' code.

    Args:
        alpha: strength of the clients' pull, > 0.

    Raises:
        ValueError: if alpha is not positive.

    Source: FedDC, Gao et al. (2022), arXiv 2203.11751, Algorithm 1.
    """

    alpha: float = 0.01

    def __post_init__(self) -> None:
        checks.number("alpha", self.alpha, "> 0")

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse clients that keep no drift, and means that are not uniform."""
        if algorithm.client.own != ("c", "h"):
            return (
                "FedDC's server rule needs the client rule 'decoupled drift', "
                f"got {algorithm.client.name!r}"
            )
        return not_uniform("FedDC", algorithm)

    def init(self, model: Vector) -> DecoupledState:
        """Return ``c = h = 0``."""
        return DecoupledState(np.zeros(model.size), np.zeros(model.size))

    def step(
        self, model: Vector, state: State, mean: Mean, at: Round
    ) -> tuple[Vector, DecoupledState]:
        """Return the next model, control variate and mean drift."""
        before, part = DecoupledState.of(state), mean.clients / at.population
        after = DecoupledState(before.c + part * mean.extras["c"], before.h + part * mean.delta)
        return move(model, mean.delta + after.h), after

    def share(self, state: State) -> Mapping[str, Any]:
        """Return the control variate c, and alpha, which the clients need as well."""
        return {"c": DecoupledState.of(state).c, "alpha": self.alpha}
