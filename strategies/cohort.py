"""Who takes part in a round: at random, by size, in turn, or those with the largest losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strategies import checks
from strategies.random_streams import stream

TRAIN = 0x7452
"""Purpose of the random stream that samples who trains."""

EVALUATE = 0x4576
"""Purpose of the random stream that samples who evaluates."""

SAMPLINGS = ("uniform", "poisson", "by-size", "round-robin", "power-of-choice")
"""How a cohort may be drawn."""


@dataclass(frozen=True)
class Cohort:
    """A seeded sample of the clients, drawn anew each round, without replacement.

    ::

        uniform          every set of clients is equally likely
        poisson          each client by itself with probability q = size / number of clients: the
                         cohort has that size in the mean, and may be empty
        by-size          one after the other with probability n_i / (sum of n_j of those left)
        round-robin      the next ones of a seeded order, from its beginning again after its end
        power-of-choice  of d candidates, drawn by size, those with the largest losses; a client
                         that has not reported yet counts as infinitely large

    Args:
        size: how many clients; None with no fraction means all.
        fraction: which part of the population instead, in (0, 1], rounded down.
        seed: whole number >= 0; the cohort of a round depends on it, the round, the ids, and for
            some ways of sampling on sizes and losses, but on nothing else.
        sampling: one of :data:`SAMPLINGS`; None is poisson for strategies that add noise for
            differential privacy, whose account goes by it, and uniform for all others.
        candidates: d of power-of-choice, from the cohort's size to the population's; by default
            twice the cohort's size, or all where there are fewer.

    Raises:
        ValueError: for values out of range, or if both size and fraction are given.

    Source: by size, Efraimidis and Spirakis (2006), "Weighted random sampling with a reservoir";
    power-of-choice, Cho et al. (2020), arXiv 2010.01243, the variant rpow-d: a client's loss is
    the mean of its last local training; poisson, McMahan et al. (2018), arXiv 1710.06963.
    """

    size: int | None = None
    fraction: float | None = None
    seed: int = 0
    sampling: str | None = None
    candidates: int | None = None

    def __post_init__(self) -> None:
        if self.size is not None and self.fraction is not None:
            raise ValueError(
                "size and fraction must not both be given, "
                f"got size={self.size} and fraction={self.fraction}"
            )
        if self.size is not None:
            checks.integer("size", self.size, ">= 1")
        if self.fraction is not None:
            checks.number("fraction", self.fraction, "in (0, 1]")
        checks.integer("seed", self.seed, ">= 0")
        if self.sampling is not None:
            checks.one_of("sampling", self.sampling, SAMPLINGS)
        if self.candidates is not None:
            checks.integer("candidates", self.candidates, ">= 1")
            if self.sampling != "power-of-choice":
                raise ValueError(
                    f"candidates must be left out for the sampling {self.kind!r}, "
                    f"got {self.candidates}"
                )

    @property
    def kind(self) -> str:
        """How the cohort is drawn: one of :data:`SAMPLINGS`."""
        return self.sampling or "uniform"

    def count(self, population: int) -> int:
        """Return how many of ``population`` clients take part in a round, with poisson in the mean.

        Raises:
            ValueError: if they are fewer than the cohort needs, or the fraction selects none.
        """
        if self.size is not None:
            if self.size > population:
                raise ValueError(
                    f"size must be <= the number of clients ({population}), got {self.size}"
                )
            return self.size
        if self.fraction is None:
            return population
        count = checks.part_of(self.fraction, population)
        if count < 1:
            raise ValueError(
                f"fraction must select at least one of {population} clients, got {self.fraction}"
            )
        return count

    def sample(
        self,
        round: int,
        clients: int | Sequence[int],
        purpose: int = TRAIN,
        *,
        sizes: NDArray[np.integer] | None = None,
        losses: Mapping[int, float] | None = None,
    ) -> list[int]:
        """Return the sorted ids of a round's cohort.

        Args:
            round: the round's number.
            clients: how many there are (ids 0..n-1, never listed: a small cohort of a million
                costs nothing), or their ids in any order.
            purpose: of the random stream; training and evaluation draw independently.
            sizes: examples of each client, by ascending id: for by-size, which needs
                them, and power-of-choice, which else takes all clients as equally large.
            losses: by client, of those that have reported one: for power-of-choice.
        """
        ids = None if isinstance(clients, int) else sorted(clients)
        population = clients if isinstance(clients, int) else len(clients)
        count = self.count(population)
        if count == population:
            return list(range(population)) if ids is None else list(ids)
        drawn = self._draw(round, population, count, purpose, sizes, ids, losses or {})
        drawn.sort()
        places: list[int] = drawn.tolist()
        return places if ids is None else [ids[place] for place in places]

    def _draw(
        self,
        round: int,
        population: int,
        count: int,
        purpose: int,
        sizes: NDArray[np.integer] | None,
        ids: list[int] | None,
        losses: Mapping[int, float],
    ) -> NDArray[np.int64]:
        """Return ``count`` places of ``population``; with poisson so many in the mean."""
        if self.kind == "round-robin":
            order = stream(self.seed, purpose).permutation(population)
            first = (round - 1) * count
            return order[np.arange(first, first + count) % population]
        rng = stream(self.seed, purpose, round)
        if self.kind == "poisson":
            # How many come, and then who: as if each client tossed a coin, without a toss for each.
            count = int(rng.binomial(population, count / population))
        if self.kind in ("uniform", "poisson"):
            return rng.choice(population, count, replace=False, shuffle=False)
        if self.kind == "by-size":
            if sizes is None:
                raise ValueError("sizes of the clients must be known for 'by-size', got None")
            return in_proportion(rng, sizes, count)
        few = min(2 * count, population) if self.candidates is None else self.candidates
        if not count <= few <= population:
            raise ValueError(
                f"candidates must be between the cohort's size ({count}) and the number of clients "
                f"({population}), got {few}"
            )
        weights = np.ones(population, np.int64) if sizes is None else sizes
        candidates = in_proportion(rng, weights, few)
        known = [losses.get(p if ids is None else ids[p], np.inf) for p in candidates.tolist()]
        # A loss that is no number says nothing good: such a client goes before all others. The
        # candidates come in random order, so that equal losses are chosen from at random.
        key = np.nan_to_num(np.asarray(known, np.float64), nan=np.inf, posinf=np.inf)
        return candidates[np.argsort(-key, kind="stable")[:count]]


def in_proportion(
    rng: np.random.Generator, sizes: NDArray[np.integer] | NDArray[np.floating], count: int
) -> NDArray[np.int64]:
    """Return ``count`` places in the order of drawing, each in proportion to its size.

    The first of exponential clocks that run at rate n_i to ring is client i with probability
    ``n_i / sum n_j``, and so on with those left.
    """
    clocks = rng.exponential(size=len(sizes)) / np.maximum(np.asarray(sizes, np.float64), 1e-300)
    return np.argsort(clocks, kind="stable")[:count]
