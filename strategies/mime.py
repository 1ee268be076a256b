"""MimeLite: clients step along a momentum of full gradients, which stays fixed while they train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from strategies import checks
from strategies.algorithm import Algorithm
from strategies.client_rule import GRADIENT, ClientRule
from strategies.drift import not_uniform
from strategies.protocols import Round, State
from strategies.schedules import Schedule, at_round
from strategies.server_state import ServerState
from strategies.servers import move
from strategies.spec import Vector
from strategies.updates import Mean


def fixed_momentum() -> ClientRule:
    """Step along the server's momentum: ``g' = (1 - beta) * g + beta * m``.

    Momentum and beta come from the server rule, :class:`Mime`. Clients also upload the gradient of
    the received model on all of their examples, which the server takes its next momentum from.

    Source: MimeLite, Karimireddy et al. (2020), arXiv 2008.03606, Algorithm 1, with the base
    algorithm SGD with momentum.
    """
    return ClientRule(
        name="fixed momentum",
        hook=_fixed_hook,
        uploads=(GRADIENT,),
        uses=("m", "beta"),
        gradient=True,
        sgd=True,
    )


def _fixed_hook(g: Any, w: Any, w0: Any, shared: Mapping[str, Any], own: Mapping[str, Any]) -> Any:
    return (1 - shared["beta"]) * g + shared["beta"] * shared["m"]


@dataclass(frozen=True, eq=False)
class MimeState(ServerState):
    """The momentum m of full gradients, float64 [T]."""

    m: Vector


@dataclass(frozen=True)
class Mime:
    """The server rule of MimeLite.

    With the cohort S and the full gradients of the model that it received::

        x <- x + lr * mean_S(delta_i)
        m <- (1 - beta) * mean_S(grad f_i(x)) + beta * m        m_0 = 0

    Args:
        beta: momentum, in [0, 1); 0 is the plain mean.
        learning_rate: server learning rate, > 0; the paper's is 1.

    Raises:
        ValueError: if an option is out of its range.

    Source: MimeLite, Karimireddy et al. (2020), arXiv 2008.03606, Algorithm 1.
    """

    beta: float = 0.9
    learning_rate: float | Schedule = 1.0

    def __post_init__(self) -> None:
        checks.number("beta", self.beta, "in [0, 1)")
        checks.number("learning_rate", self.learning_rate, "> 0", schedule=True)

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse clients without the momentum or the gradients, and means that are not uniform."""
        rule = algorithm.client
        if not rule.gradient or "m" not in rule.uses:
            return (
                f"MimeLite's server rule needs the client rule 'fixed momentum', got {rule.name!r}"
            )
        return not_uniform("MimeLite", algorithm)

    def init(self, model: Vector) -> MimeState:
        """Return ``m = 0``."""
        return MimeState(np.zeros(model.size))

    def step(self, model: Vector, state: State, mean: Mean, at: Round) -> tuple[Vector, MimeState]:
        """Return the next model and momentum."""
        m = (1 - self.beta) * mean.extras[GRADIENT] + self.beta * MimeState.of(state).m
        return move(model, at_round(self.learning_rate, at.number) * mean.delta), MimeState(m)

    def share(self, state: State) -> Mapping[str, Any]:
        """Return the momentum m, and beta, which the clients need as well."""
        return {"m": MimeState.of(state).m, "beta": self.beta}
