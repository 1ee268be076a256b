"""Agnostic federated learning: clients weigh by what a game against the largest losses gives them.

The weights live on the server, one for each registered client. The reducer keeps a cohort's updates
until it is told them; the server rule, :class:`Agnostic`, moves them by the clients' losses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from strategies import checks
from strategies.algorithm import Algorithm
from strategies.geometry import average_of
from strategies.protocols import Round, State
from strategies.reducers import initial_loss
from strategies.robust import Combine, Kept, Robust
from strategies.schedules import Schedule, at_round
from strategies.server_state import ServerState
from strategies.servers import move
from strategies.spec import Vector
from strategies.updates import Mean, Update

LOSS = "agnostic loss"
"""Name of a client's loss [1] in the partial, and of its metric before the client's number."""


@dataclass(frozen=True, eq=False)
class AgnosticState(ServerState):
    """The clients' weights, which add up to 1.

    Args:
        seen: the clients that took part until now, uint64 [K].
        weights: theirs, float64 [K].
        others: that of each client that never did.
    """

    seen: NDArray[np.uint64]
    weights: NDArray[np.float64]
    others: float

    def by_client(self) -> dict[int, float]:
        """Return the weights of those who took part."""
        return dict(zip(self.seen.tolist(), self.weights.tolist(), strict=True))


@dataclass(frozen=True)
class AgnosticMean(Robust):
    """The mean with the server's weights: ``sum_i lambda_i delta_i / sum_i lambda_i``.

    A cohort of whom nobody weighs anything moves nothing. The losses of the received model go to
    the server rule as metrics.

    Args:
        known: the weights, given by :meth:`during`; without them all clients weigh alike.

    Raises:
        ValueError: if a client has no ``initial_loss``.

    Source: Mohri et al. (2019), arXiv 1902.00146, Algorithm 1.
    """

    known: AgnosticState | None = field(default=None, repr=False, compare=False)

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse server rules without such weights, and clients that do not measure losses."""
        if not isinstance(algorithm.server, Agnostic):
            return f"AgnosticMean's weights are those of Agnostic, got {algorithm.server}"
        if algorithm.client.initial_loss:
            return None
        return "AFL goes by initial_loss, which this client rule does not measure"

    def during(self, at: Round, state: State) -> AgnosticMean:
        """Return the reducer that knows the weights of a round."""
        return replace(self, known=AgnosticState.of(state))

    @override
    def lift(self, update: Update) -> Kept:
        return super().lift(_with_loss(update))

    @override
    def fold(self, partial: Kept | None, update: Update) -> Kept:
        return self.lift(update) if partial is None else super().fold(partial, _with_loss(update))

    def rule(self, cohort: Kept) -> Combine:
        """Return the weighted mean."""
        known = {} if self.known is None else self.known.by_client()
        others = 1.0 if self.known is None else float(self.known.others)
        weights = [known.get(client, others) for client in cohort.clients]
        if not any(weights):
            return lambda rows: np.zeros(len(rows[0]))
        return lambda rows: average_of(rows, weights)

    @override
    def finish(self, partial: Kept) -> Mean:
        mean = super().finish(replace(partial, extras={}))
        losses = zip(partial.clients, partial.extras[LOSS], strict=True)
        told = {f"{LOSS} {client}": float(loss[0]) for client, loss in losses}
        return replace(mean, metrics={**mean.metrics, **told})


def _with_loss(update: Update) -> Update:
    return replace(update, extras={LOSS: np.array([initial_loss(update)])})


@dataclass(frozen=True)
class Agnostic:
    """The server rule of agnostic federated learning.

    With the cohort S of N registered clients, of losses F_i of the received model::

        x <- x + lr * sum_S(lambda_i delta_i) / sum_S(lambda_i)
        lambda <- project(lambda + dual_rate * N / |S| * F_S)           lambda_0 = 1 / N

    where F_S is F_i for the clients of S and 0 for others, and ``project`` is the nearest point
    whose entries are >= 0 and add up to 1. With all clients in every round and one local step it is
    the paper's algorithm, but for the mean of all models, which the paper returns and this does
    not.

    Args:
        learning_rate: server learning rate, > 0.
        dual_rate: learning rate of the clients' weights, > 0.

    Raises:
        ValueError: if a rate is not positive.

    Source: Mohri et al. (2019), arXiv 1902.00146, Algorithm 1.
    """

    learning_rate: float | Schedule = 1.0
    dual_rate: float | Schedule = 0.01

    def __post_init__(self) -> None:
        checks.number("learning_rate", self.learning_rate, "> 0", schedule=True)
        checks.number("dual_rate", self.dual_rate, "> 0", schedule=True)

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse reducers that do not weigh by what this rule says."""
        if isinstance(algorithm.reducer, AgnosticMean):
            return None
        return f"AFL's server rule needs AgnosticMean, got {algorithm.reducer}"

    def init(self, model: Vector) -> AgnosticState:
        """Return equal weights: how many clients there are is known in the first round."""
        return AgnosticState(np.zeros(0, np.uint64), np.zeros(0), 1.0)

    def step(
        self, model: Vector, state: State, mean: Mean, at: Round
    ) -> tuple[Vector, AgnosticState]:
        """Return the next model and weights."""
        before = AgnosticState.of(state)
        others = float(before.others) if before.seen.size else 1 / at.population
        losses = {
            int(name.rpartition(" ")[2]): loss
            for name, loss in mean.metrics.items()
            if name.startswith(f"{LOSS} ")
        }
        rate = at_round(self.dual_rate, at.number) * at.population / len(losses)
        known = before.by_client()
        for client, loss in sorted(losses.items()):
            known[client] = known.get(client, others) + rate * loss
        # Clients that may have left keep their weights; those that never came have one in common.
        new = max(0, at.population - len(known))
        moved = on_simplex(np.array([*known.values(), *[others] * new]))
        seen = np.array(list(known), np.uint64)
        after = AgnosticState(seen, moved[: len(known)], float(moved[-1]) if new else 0.0)
        lr = at_round(self.learning_rate, at.number)
        return move(model, lr * mean.delta), after

    def share(self, state: State) -> Mapping[str, Any]:
        """Return nothing."""
        return {}


def on_simplex(point: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the nearest point [N] whose entries are >= 0 and add up to 1.

    Source: Duchi et al. (2008), Efficient projections onto the l1-ball, ICML, Figure 1.
    """
    ordered = np.sort(point)[::-1]
    above = np.cumsum(ordered) - 1
    last = np.flatnonzero(ordered * np.arange(1, point.size + 1) > above)[-1]
    found: NDArray[np.float64] = np.maximum(point - above[last] / (last + 1), 0.0)
    return found
