"""Several global models, of which each client trains the one that fits its data best: IFCA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from strategies import checks
from strategies.algorithm import Algorithm
from strategies.client_rule import ClientRule
from strategies.protocols import Round, State
from strategies.random_streams import stream
from strategies.reducers import WeightedMean
from strategies.schedules import Schedule, at_round
from strategies.servers import move
from strategies.spec import Spec, Vector
from strategies.sums import DRIFT, Sums
from strategies.updates import Mean, Update
from strategies.weights import Weights, check_weights, weight_of

CLUSTER = "cluster"
"""The metric of an update that tells which model was trained: 0 is the server's first."""

SIGNS = 0x4943
"""Purpose of the random stream that makes further models of the first."""


def names_of(clusters: int) -> tuple[str, ...]:
    """Return the names of the models beside the first one."""
    return tuple(f"model{k}" for k in range(2, clusters + 1))


def best_of(clusters: int) -> ClientRule:
    """Train the one of several models that has the least loss on all of the client's examples.

    Args:
        clusters: how many models there are, >= 2.

    Raises:
        ValueError: for fewer.

    Source: IFCA, Ghosh et al. (2020), arXiv 2006.04088, Algorithm 1 with model averaging.
    """
    _check(clusters)
    names = names_of(clusters)
    return ClientRule("best of several", uses=names, candidates=names)


def _check(clusters: int) -> None:
    checks.integer("clusters", clusters, ">= 1")
    if clusters < 2:
        raise ValueError(f"clusters must be >= 2, got {clusters}")


@dataclass(frozen=True)
class ClusteredMean:
    """The weighted mean of the updates of each model.

    The first one's is the ``delta``, the others' are extras by the models' names; of a model that
    nobody trained it is 0. Moving statistics are averaged over all clients.

    Args:
        clusters: how many models there are.
        by: as :class:`~strategies.reducers.WeightedMean`'s.
    """

    clusters: int
    by: Weights = None

    def __post_init__(self) -> None:
        _check(self.clusters)
        check_weights(self.by)

    def weigh(self, update: Update) -> float:
        """Return the client's number of examples, or 1."""
        return weight_of(update.examples, self.by)

    def lift(self, update: Update) -> tuple[Sums | None, ...]:
        """Return sums of which one model's are this client's."""
        return self.fold(None, update)

    def fold(self, partial: tuple[Sums | None, ...] | None, update: Update) -> Any:
        """Add an update to its model's sums."""
        at = int(update.metrics.get(CLUSTER, 0))
        sums = list(partial or (None,) * self.clusters)
        sums[at] = WeightedMean(self.by).fold(sums[at], update)
        return tuple(sums)

    def merge(self, a: tuple[Sums | None, ...], b: tuple[Sums | None, ...]) -> Any:
        """Join two partials, model by model."""
        plain = WeightedMean(self.by)
        return tuple(
            two if one is None else one if two is None else plain.merge(one, two)
            for one, two in zip(a, b, strict=True)
        )

    def finish(self, partial: tuple[Sums | None, ...]) -> Mean:
        """Return the means."""
        there = [sums for sums in partial if sums is not None]
        weight = sum(sums.weight for sums in there)
        if not weight > 0:
            raise ValueError("weights must have a sum > 0, got 0")
        size, cut = there[0].delta.size, there[0].trainable
        means = [
            np.zeros(size) if sums is None or not sums.weight else sums.delta / sums.weight
            for sums in partial
        ]
        delta = means[0].copy()
        delta[cut:] = sum(sums.delta[cut:] for sums in there) / weight
        extras = {
            name: mean[:cut] for name, mean in zip(names_of(self.clusters), means[1:], strict=True)
        }
        apart = self._drift([sums for sums in there if sums.weight > 0])
        clients = sum(sums.clients for sums in there)
        return Mean(delta, extras, weight, clients, metrics={DRIFT: apart})

    def _drift(self, there: Sequence[Sums]) -> float:
        """Return the root mean square distance of clients from the mean of their model's."""
        squares = [WeightedMean(self.by).finish(sums).metrics[DRIFT] ** 2 for sums in there]
        weights = [(sums if sums.moved is None else sums.moved).weight for sums in there]
        total = sum(weights)
        return sqrt(np.dot(weights, squares) / total) if total > 0 else 0.0


@dataclass(frozen=True)
class Clusters:
    """The server rule of IFCA: ``x_j <- x_j + lr * mean of the deltas of who trained x_j``.

    Models after the first begin as the first one with signs of their own for the entries of
    weights with two axes or more: draws from the same distribution, where that is symmetric.

    Args:
        clusters: how many models there are, >= 2.
        learning_rate: > 0; 1 is averaging.

    Raises:
        ValueError: for values out of range.

    Source: Ghosh et al. (2020), arXiv 2006.04088, Algorithm 1 with model averaging.
    """

    clusters: int
    learning_rate: float | Schedule = 1.0

    def __post_init__(self) -> None:
        _check(self.clusters)
        checks.number("learning_rate", self.learning_rate, "> 0", schedule=True)

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse clients and means of another number of models."""
        names = names_of(self.clusters)
        if algorithm.client.candidates != names:
            return f"IFCA's server rule needs clients that choose among {self.clusters} models"
        if getattr(algorithm.reducer, "clusters", None) == self.clusters:
            return None
        return f"IFCA's server rule needs a mean of each of {self.clusters} models"

    def init(self, model: Vector) -> State:
        """Return the models beside the first one: its copies."""
        return {name: model.astype(np.float64) for name in names_of(self.clusters)}

    def init_laid_out(self, spec: Spec, model: Vector) -> State:
        """Return the models beside the first one [T], with signs of their own."""
        matrices = np.repeat(
            [len(shape) >= 2 for shape in spec.shapes[: spec.trainable]],
            spec.sizes[: spec.trainable],
        )
        found = dict[str, Vector]()
        for place, (name, whole) in enumerate(self.init(model).items()):
            signs = stream(SIGNS, place).choice([-1.0, 1.0], whole.size)
            found[name] = np.where(matrices, signs * whole, whole)
        return found

    def step(self, model: Vector, state: State, mean: Mean, at: Round) -> tuple[Vector, State]:
        """Return the next models."""
        rate = at_round(self.learning_rate, at.number)
        names = names_of(self.clusters)
        others = {name: state[name] + rate * mean.extras[name] for name in names}
        return move(model, rate * mean.delta), others

    def share(self, state: State) -> Mapping[str, Any]:
        """Return the models beside the first one."""
        return {name: state[name] for name in names_of(self.clusters)}
