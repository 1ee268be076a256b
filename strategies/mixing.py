"""Updates averaged in groups before a robust reducer sees them: bucketing, nearest neighbours.

Robust rules take clients that differ for attackers. Means of several clients differ less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from strategies import checks
from strategies.geometry import average_of, squared_distances
from strategies.protocols import Round, State
from strategies.random_streams import round_stream
from strategies.robust import Combine, Kept, Robust, tolerated
from strategies.spec import Vector

BUCKETS = 0x4275
"""Purpose of the random stream that deals clients into buckets."""


class Mixing(Robust):
    """A robust reducer of means over groups; a subclass says which clients a group has."""

    reducer: Robust

    def groups(self, cohort: Kept) -> list[list[int]]:
        """Return the places of each group's clients in the cohort."""
        raise NotImplementedError

    def rule(self, cohort: Kept) -> Combine:
        """Return the rule inside, of the groups' means."""
        groups = self.groups(cohort)

        def mixed(rows: Sequence[Vector]) -> list[Vector]:
            return [average_of([rows[i] for i in group]) for group in groups]

        deltas = mixed(cohort.deltas)
        examples = [sum(cohort.examples[i] for i in group) for group in groups]
        inner = replace(cohort, clients=list(range(len(groups))), examples=examples, deltas=deltas)
        combine = self.reducer.rule(inner)
        return lambda rows: combine(deltas if rows is cohort.deltas else mixed(rows))


@dataclass(frozen=True)
class Bucketed(Mixing):
    """A robust reducer of the means of ``size`` clients each, drawn anew in every round.

    The cohort is permuted at random and cut into ceil(n / size) buckets; the last may be smaller.

    Args:
        reducer: of the buckets' means.
        size: clients of a bucket, s >= 1. A bucket is byzantine if one of its clients is: the
            reducer must withstand up to s times the share of byzantine clients.
        now: the round, given by :meth:`during`.

    Raises:
        ValueError: if size is no whole number >= 1.

    Source: Karimireddy, He and Jaggi (2022), arXiv 2006.09365, Algorithm 1.
    """

    reducer: Robust
    size: int = 2
    now: Round = field(default=Round(0, 0), repr=False, compare=False)

    def __post_init__(self) -> None:
        checks.integer("size", self.size, ">= 1")

    def during(self, at: Round, state: State) -> Bucketed:
        """Return the reducer with the buckets of a round."""
        return replace(self, now=at)

    def groups(self, cohort: Kept) -> list[list[int]]:
        """Return the buckets."""
        clients = len(cohort.clients)
        order = round_stream(self.now, BUCKETS).permutation(clients).tolist()
        return [sorted(order[i : i + self.size]) for i in range(0, clients, self.size)]


@dataclass(frozen=True)
class NearestNeighbours(Mixing):
    """A robust reducer of n means: that of each client and its n - f - 1 nearest others.

    Args:
        reducer: of the means.
        byzantine: f, as a whole number >= 1 or as a share of the cohort in [0, 0.5).

    Raises:
        ValueError: if byzantine is out of its range; in ``finish`` unless n >= 2f + 1.

    Source: Allouah et al. (2023), arXiv 2302.01772, Algorithm 2 (nearest neighbour mixing).
    """

    reducer: Robust
    byzantine: float = 0.2

    def __post_init__(self) -> None:
        checks.count_or_share("byzantine", self.byzantine)

    def groups(self, cohort: Kept) -> list[list[int]]:
        """Return each client's nearest ones, itself among them."""
        clients = len(cohort.clients)
        near = clients - tolerated("Nearest neighbour mixing", self.byzantine, clients, 2, 1)
        distances = squared_distances(cohort.deltas)
        np.fill_diagonal(distances, -1.0)  # A client is its own nearest, whoever equals it.
        order = np.argsort(distances, axis=1, kind="stable")[:, :near]
        return [sorted(row) for row in order.tolist()]
