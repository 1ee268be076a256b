"""Algorithms against client drift whose client and server rules belong together.

SCAFFOLD and FedDyn both keep a vector per client that corrects its gradients, and one on the
server. Neither makes sense without the other half, and an :class:`Algorithm` of one half is
refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from strategies import checks
from strategies.algorithm import Algorithm
from strategies.client_rule import ClientRule, Local
from strategies.optional_protocols import WeighsClients
from strategies.protocols import Round, State
from strategies.schedules import Schedule, at_round
from strategies.server_state import ServerState
from strategies.servers import move
from strategies.spec import Vector
from strategies.steps import step_weight
from strategies.updates import Mean


def control_variate() -> ClientRule:
    """Correct every gradient by the control variates: ``g' = g - c_i + c`` (SCAFFOLD).

    After local steps of learning rate lr that weigh ||a||_1 together (option II)::

        c_i' = c_i - c - delta / (||a||_1 * lr)

    With plain SGD ||a||_1 is the number of steps K, as in the paper. With momentum it is more: see
    :func:`~strategies.steps.step_weight`; dividing by K would then make the control variates some
    1 / (1 - momentum) times too large, and the model diverges. Other optimisers are refused.

    The client keeps c_i' as its ``c`` and uploads ``c_i' - c_i`` as the extra ``c``.

    Raises:
        ValueError: in training, if the client's optimiser has no single learning rate > 0.

    Source: Karimireddy et al. (2020), arXiv 1910.06378, Algorithm 1; ||a||_1 of Wang et al. (2020),
    arXiv 2007.07481.
    """
    return ClientRule(
        name="control variate",
        hook=_control_hook,
        after=_control_after,
        own=("c",),
        uploads=("c",),
        uses=("c",),
        sgd=True,
    )


def _control_hook(
    g: Any, w: Any, w0: Any, shared: Mapping[str, Any], own: Mapping[str, Any]
) -> Any:
    return g - own["c"] + shared["c"]


def _control_after(
    delta: Vector, shared: Mapping[str, Any], own: Mapping[str, Vector], local: Local
) -> tuple[Mapping[str, Vector], Mapping[str, Vector]]:
    return control_after("SCAFFOLD", delta, shared, own, local)


def control_after(
    name: str,
    delta: Vector,
    shared: Mapping[str, Any],
    own: Mapping[str, Vector],
    local: Local,
) -> tuple[Mapping[str, Vector], Mapping[str, Vector]]:
    """Return the change of a client's control variate, and the next one, both as ``c``.

    Raises:
        ValueError: naming the algorithm, where the client has no single learning rate > 0.
    """
    if not local.steps:
        return {"c": np.zeros_like(own["c"])}, {"c": own["c"]}
    if not local.learning_rate > 0:
        raise ValueError(
            f"learning_rate of the clients must be one number > 0 for {name}, "
            f"got {local.learning_rate}"
        )
    weight = step_weight(local.steps, local.momentum, local.nesterov)
    change = -shared["c"] - delta / (weight * local.learning_rate)
    return {"c": change}, {"c": own["c"] + change}


@dataclass(frozen=True, eq=False)
class ScaffoldState(ServerState):
    """The server's control variate c, float64 [T]."""

    c: Vector


@dataclass(frozen=True)
class Scaffold:
    """The server rule of SCAFFOLD.

    With the cohort S of N registered clients::

        x <- x + lr * mean_S(delta)
        c <- c + |S| / N * mean_S(c_i' - c_i)           c_0 = 0

    Args:
        learning_rate: server learning rate, > 0.

    Raises:
        ValueError: if it is not positive.

    Source: Karimireddy et al. (2020), arXiv 1910.06378, Algorithm 1.
    """

    learning_rate: float | Schedule = 1.0

    def __post_init__(self) -> None:
        checks.number("learning_rate", self.learning_rate, "> 0", schedule=True)

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse clients without control variates, and means that are not uniform."""
        if algorithm.client.uploads != ("c",) or algorithm.client.own != ("c",):
            return (
                "SCAFFOLD's server rule needs the client rule 'control variate', "
                f"got {algorithm.client.name!r}"
            )
        return not_uniform("SCAFFOLD", algorithm)

    def init(self, model: Vector) -> ScaffoldState:
        """Return ``c = 0``."""
        return ScaffoldState(c=np.zeros(model.size))

    def step(
        self, model: Vector, state: State, mean: Mean, at: Round
    ) -> tuple[Vector, ScaffoldState]:
        """Return the next model and control variate."""
        lr = at_round(self.learning_rate, at.number)
        c = ScaffoldState.of(state).c + mean.clients / at.population * mean.extras["c"]
        return move(model, lr * mean.delta), ScaffoldState(c)

    def share(self, state: State) -> Mapping[str, Any]:
        """Return the server's control variate c."""
        return {"c": ScaffoldState.of(state).c}


def dynamic() -> ClientRule:
    """Regularise dynamically: ``g' = g - g_i + alpha * (w - w0)`` (FedDyn).

    After local training the client keeps ``g_i' = g_i - alpha * delta``; alpha comes from the
    server rule, :class:`Dynamic`.

    Source: Acar et al. (2021), arXiv 2111.04263, Algorithm 1.
    """
    return ClientRule(
        name="dynamic regulariser",
        hook=_dynamic_hook,
        after=_dynamic_after,
        own=("g",),
        uses=("alpha",),
    )


def _dynamic_hook(
    g: Any, w: Any, w0: Any, shared: Mapping[str, Any], own: Mapping[str, Any]
) -> Any:
    return g - own["g"] + shared["alpha"] * (w - w0)


def _dynamic_after(
    delta: Vector, shared: Mapping[str, Any], own: Mapping[str, Vector], local: Local
) -> tuple[Mapping[str, Vector], Mapping[str, Vector]]:
    return {}, {"g": own["g"] - shared["alpha"] * delta}


@dataclass(frozen=True, eq=False)
class DynamicState(ServerState):
    """The sum h of what clients moved, times alpha, over all rounds and clients, float64 [T]."""

    h: Vector


@dataclass(frozen=True)
class Dynamic:
    """The server rule of FedDyn.

    With the cohort S of N registered clients::

        h <- h - alpha * |S| / N * mean_S(delta)        h_0 = 0
        x <- x + mean_S(delta) - h / alpha

    Args:
        alpha: strength of the regulariser, > 0; the paper uses 0.1, 0.01 and 0.001.

    Raises:
        ValueError: if alpha is not positive.

    Source: Acar et al. (2021), arXiv 2111.04263, Algorithm 1.
    """

    alpha: float = 0.01

    def __post_init__(self) -> None:
        checks.number("alpha", self.alpha, "> 0")

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse clients without the dynamic regulariser, and means that are not uniform."""
        if "alpha" not in algorithm.client.uses:
            return (
                "FedDyn's server rule needs the client rule 'dynamic regulariser', "
                f"got {algorithm.client.name!r}"
            )
        return not_uniform("FedDyn", algorithm)

    def init(self, model: Vector) -> DynamicState:
        """Return ``h = 0``."""
        return DynamicState(h=np.zeros(model.size))

    def step(
        self, model: Vector, state: State, mean: Mean, at: Round
    ) -> tuple[Vector, DynamicState]:
        """Return the next model and h."""
        before = DynamicState.of(state).h
        h = before - self.alpha * mean.clients / at.population * mean.delta
        return move(model, mean.delta - h / self.alpha), DynamicState(h)

    def share(self, state: State) -> Mapping[str, Any]:
        """Return alpha, which the clients need as well."""
        return {"alpha": self.alpha}


def not_uniform(name: str, algorithm: Algorithm) -> str | None:
    """Return why an algorithm that corrects the plain mean does not go with another one."""
    reducer = algorithm.reducer
    if isinstance(reducer, WeighsClients) and reducer.by == "uniform":
        return None
    return (
        f"{name} corrects the plain mean over clients, which only WeightedMean('uniform') gives, "
        f"got {algorithm.reducer}"
    )
