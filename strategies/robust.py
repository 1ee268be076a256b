"""Reducers that withstand byzantine clients. They keep the updates until ``finish``.

Clients are weighed equally, as in the papers, unless said otherwise. ``finish`` first sorts by
client, so that no grouping changes a bit of the result. Whatever is decided from the deltas (who
is selected, with which weight) holds for the extras as well; statistics of coordinates are taken
of each extra on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategies import checks
from strategies.geometry import average_of, by_columns, median_weights, squared_distances
from strategies.spec import Vector
from strategies.stacked import squared_norm
from strategies.sums import DRIFT, add_scaled, drift, same_extras
from strategies.updates import Mean, Update
from strategies.weights import Weights, check_weights, weight_of

Combine = Callable[[Sequence[Vector]], Vector]


@dataclass
class Kept:
    """The partial of a robust reducer: the updates themselves.

    Args:
        clients: numbers of the clients.
        examples: their numbers of examples.
        deltas: their deltas, [P] each.
        extras: their extras by name, [T] each.
        trainable: T; None means all entries of the deltas.
        moved: deltas before encoding and clipping, where they were clipped, [P] each.
    """

    clients: list[int] = field(default_factory=list)
    examples: list[int] = field(default_factory=list)
    deltas: list[Vector] = field(default_factory=list)
    extras: dict[str, list[Vector]] = field(default_factory=dict)
    trainable: int | None = None
    moved: list[Vector] = field(default_factory=list)

    def heads(self) -> list[Vector]:
        """Return the trainable part of each delta, [T]."""
        return [delta[: self.trainable] for delta in self.deltas]

    def in_order(self) -> Kept:
        """Return the same in the order of the clients' numbers."""
        order = sorted(range(len(self.clients)), key=self.clients.__getitem__)

        def pick(values: list[Any]) -> list[Any]:
            return [values[i] for i in order]

        extras = {name: pick(rows) for name, rows in self.extras.items()}
        return replace(
            self,
            clients=pick(self.clients),
            examples=pick(self.examples),
            deltas=pick(self.deltas),
            extras=extras,
            moved=pick(self.moved) if self.moved else [],
        )

    def drift(self) -> float:
        """Return how far the clients are apart after local training, as :func:`drift` says."""
        heads = [delta[: self.trainable] for delta in self.moved or self.deltas]
        shares = np.asarray(self.examples, np.float64) / max(1, sum(self.examples))
        squares = sum(p * squared_norm(head) for p, head in zip(shares, heads, strict=True))
        middle = np.zeros(len(heads[0]))
        add_scaled(middle, heads, shares.tolist())
        return drift(squares, middle, len(heads))


class Robust:
    """A reducer that sees all updates at once; a subclass says how they become one."""

    def rule(self, cohort: Kept) -> Combine:
        """Return the function that makes one vector of the cohort's, given in its order."""
        raise NotImplementedError

    def lift(self, update: Update) -> Kept:
        """Return one client's update, as it is."""
        extras = {name: [extra] for name, extra in update.extras.items()}
        moved = [] if update.moved is None else [update.moved]
        own = ([update.client], [update.examples], [update.delta])
        return Kept(*own, extras, update.trainable, moved)

    def merge(self, a: Kept, b: Kept) -> Kept:
        """Return the updates of both groups."""
        same_extras(a.extras, b.extras)
        return Kept(
            a.clients + b.clients,
            a.examples + b.examples,
            a.deltas + b.deltas,
            {name: a.extras[name] + b.extras[name] for name in a.extras},
            a.trainable,
            a.moved + b.moved,
        )

    def fold(self, partial: Kept | None, update: Update) -> Kept:
        """Add a client to ``partial``."""
        if partial is None:
            return self.lift(update)
        same_extras(partial.extras, update.extras)
        partial.clients.append(update.client)
        partial.examples.append(update.examples)
        partial.deltas.append(update.delta)
        if update.moved is not None:
            partial.moved.append(update.moved)
        for name, extra in update.extras.items():
            partial.extras[name].append(extra)
        return partial

    def finish(self, partial: Kept) -> Mean:
        """Combine the updates, in the order of the clients' numbers."""
        cohort = partial.in_order()
        combine = self.rule(cohort)
        extras = {name: combine(rows) for name, rows in cohort.extras.items()}
        weight = float(sum(cohort.examples))
        apart = {DRIFT: cohort.drift()}
        return Mean(combine(cohort.deltas), extras, weight, len(cohort.clients), metrics=apart)


@dataclass(frozen=True)
class Median(Robust):
    """The median of every coordinate, ``delta_j = median_i delta_ij``.

    Source: Yin et al. (2018), arXiv 1803.01498, Algorithm 1, option I.
    """

    def rule(self, cohort: Kept) -> Combine:
        """Return the coordinate-wise median."""
        return lambda rows: by_columns(rows, lambda block: np.median(block, axis=0))


@dataclass(frozen=True)
class TrimmedMean(Robust):
    """The mean of every coordinate without its ``floor(beta * n)`` lowest and highest values.

    Args:
        beta: share cut off at each end, in [0, 0.5).

    Raises:
        ValueError: if beta is out of its range.

    Source: Yin et al. (2018), arXiv 1803.01498, Algorithm 1, option II.
    """

    beta: float = 0.2

    def __post_init__(self) -> None:
        checks.number("beta", self.beta, "in [0, 0.5)")

    def rule(self, cohort: Kept) -> Combine:
        """Return the coordinate-wise trimmed mean."""
        clients = len(cohort.clients)
        cut = checks.part_of(self.beta, clients)

        def trimmed(block: NDArray[np.float64]) -> Vector:
            return np.asarray(np.sort(block, axis=0)[cut : clients - cut].mean(axis=0))

        return lambda rows: by_columns(rows, trimmed)


@dataclass(frozen=True)
class Krum(Robust):
    """The ``select`` updates that lie closest to their neighbours, averaged.

    Of n clients, f of them byzantine, client i scores the sum of squared distances to its
    n - f - 2 nearest others; the lowest scores are selected.

    Args:
        byzantine: f, as a whole number >= 1 or as a share of the cohort in [0, 0.5).
        select: how many updates to average; 1 is Krum, more is Multi-Krum, None means n - f.

    Raises:
        ValueError: if an option is out of its range; in ``finish`` unless n >= 2f + 3 (or f = 0)
            and select <= n.

    Source: Blanchard et al. (2017), arXiv 1703.02757, sections 3 and 6.
    """

    byzantine: float = 0.2
    select: int | None = 1

    def __post_init__(self) -> None:
        checks.count_or_share("byzantine", self.byzantine)
        if self.select is not None:
            checks.integer("select", self.select, ">= 1")

    def rule(self, cohort: Kept) -> Combine:
        """Return the mean of the selected clients."""
        clients = len(cohort.clients)
        f = tolerated("Krum", self.byzantine, clients, 2, 3)
        select = clients - f if self.select is None else self.select
        if select > clients:
            raise ValueError(f"select must be <= the cohort's {clients} clients, got {select}")
        scores = krum_scores(squared_distances(cohort.deltas), f)
        chosen = sorted(np.argsort(scores, kind="stable")[:select].tolist())
        return lambda rows: average_of([rows[i] for i in chosen])


@dataclass(frozen=True)
class GeometricMedian(Robust):
    """The point with the least sum of distances, by the smoothed Weiszfeld algorithm (RFA).

    Starting at the mean, until v stays where it is, with n_i examples::

        b_i = n_i / max(nu, ||v - delta_i||)
        v <- sum_i b_i delta_i / sum_i b_i

    Args:
        iterations: how often, >= 1; None: until a step is 1e-8 of the mean distance, at most 1,000.
            The paper uses 3, as each costs it a round of communication: few against updates blown
            up by attackers.
        nu: smoothing, > 0.
        by: ``"examples"``, or ``"uniform"``: every n_i is 1. None: see
            :func:`~strategies.weights.weighed`.

    Raises:
        ValueError: if an option is out of its range; in ``finish`` if no client has any examples.

    Source: Pillutla et al. (2022), arXiv 1912.13445, Algorithm 2.
    """

    iterations: int | None = None
    nu: float = 1e-6
    by: Weights = None

    def __post_init__(self) -> None:
        if self.iterations is not None:
            checks.integer("iterations", self.iterations, ">= 1")
        checks.number("nu", self.nu, "> 0")
        check_weights(self.by)

    def rule(self, cohort: Kept) -> Combine:
        """Return the mean with the weights of the last iteration."""
        own = [weight_of(n, self.by) for n in cohort.examples]
        if not sum(own) > 0:
            raise ValueError(f"total examples of the cohort must be > 0, got {cohort.examples}")
        if self.iterations is None:
            found = median_weights(cohort.deltas, own, self.nu)
            return lambda rows: average_of(rows, found)
        weights = own
        for _ in range(self.iterations):
            centre = average_of(cohort.deltas, weights)
            away = [sqrt(squared_norm(centre - delta)) for delta in cohort.deltas]
            weights = [n / max(self.nu, d) for n, d in zip(own, away, strict=True)]
        return lambda rows: average_of(rows, weights)


@dataclass(frozen=True)
class Bulyan(Robust):
    """Krum's choice of n - 2f clients, then of every coordinate the values around the median.

    Krum selects one client at a time among those left. Of the theta = n - 2f selected, every
    coordinate averages the theta - 2f values closest to its median.

    Args:
        byzantine: f, as a whole number >= 1 or as a share of the cohort in [0, 0.5).

    Raises:
        ValueError: if byzantine is out of its range; in ``finish`` unless n >= 4f + 3 (or f = 0).

    Source: El Mhamdi et al. (2018), arXiv 1802.07927, section 4. When fewer than f + 3 clients
    are left, Krum scores them by their nearest neighbour alone.
    """

    byzantine: float = 0.1

    def __post_init__(self) -> None:
        checks.count_or_share("byzantine", self.byzantine)

    def rule(self, cohort: Kept) -> Combine:
        """Return the mean around the median of the selected clients."""
        clients = len(cohort.clients)
        f = tolerated("Bulyan", self.byzantine, clients, 4, 3)
        distances = squared_distances(cohort.deltas)
        left = list(range(clients))
        chosen: list[int] = []
        while len(chosen) < clients - 2 * f:
            best = int(np.argmin(krum_scores(distances[np.ix_(left, left)], f)))
            chosen.append(left.pop(best))
        chosen.sort()
        keep = len(chosen) - 2 * f

        def around_median(block: NDArray[np.float64]) -> Vector:
            # Sorted first: ties between equally near values then fall the same way for any order.
            values = np.sort(block, axis=0)
            nearest = np.argsort(np.abs(values - np.median(values, axis=0)), axis=0, kind="stable")
            return np.asarray(np.take_along_axis(values, nearest[:keep], axis=0).mean(axis=0))

        return lambda rows: by_columns([rows[i] for i in chosen], around_median)


def krum_scores(distances: NDArray[np.float64], byzantine: int) -> Vector:
    """Return each client's sum of squared distances to its ``n - f - 2`` nearest others [n]."""
    clients = len(distances)
    near = max(clients - byzantine - 2, 1)
    others = np.where(np.eye(clients, dtype=bool), np.inf, distances)
    nearest = np.sort(others, axis=1)[:, : min(near, clients - 1)]
    return np.asarray(nearest.sum(axis=1))


def tolerated(name: str, byzantine: float, clients: int, times: int, plus: int) -> int:
    """Return f for a cohort of n, which must be at least ``times * f + plus`` unless f is 0."""
    f = int(byzantine) if byzantine >= 1 else checks.part_of(byzantine, clients)
    if f and clients < times * f + plus:
        raise ValueError(
            f"{name} must have a cohort of at least {times} * byzantine + {plus} = "
            f"{times * f + plus} clients, got {clients}"
        )
    return f
