"""Who takes part in a round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strategies import checks
from strategies.core import stream

TRAIN = 0x7452
"""Purpose of the random stream that samples who trains."""

EVALUATE = 0x4576
"""Purpose of the random stream that samples who evaluates."""


@dataclass(frozen=True)
class Cohort:
    """A seeded uniform sample of the clients, drawn anew each round, without replacement.

    Args:
        size: how many clients; None with no fraction means all.
        fraction: which part of the population instead, in (0, 1], rounded down.
        seed: whole number >= 0; the cohort of a round depends on seed, round and ids only.

    Raises:
        ValueError: for values out of range, or if both size and fraction are given.
    """

    size: int | None = None
    fraction: float | None = None
    seed: int = 0

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

    def count(self, population: int) -> int:
        """Return how many of ``population`` clients take part in a round.

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

    def sample(self, round: int, clients: int | Sequence[int], purpose: int = TRAIN) -> list[int]:
        """Return the sorted ids of a round's cohort.

        Args:
            round: the round's number.
            clients: how many there are (ids 0..n-1, never listed: a small cohort of a million
                costs nothing), or their ids in any order.
            purpose: of the random stream; training and evaluation draw independently.
        """
        ids = None if isinstance(clients, int) else sorted(clients)
        population = clients if isinstance(clients, int) else len(clients)
        count = self.count(population)
        if count == population:
            return list(range(population)) if ids is None else list(ids)
        rng = stream(self.seed, purpose, round)
        drawn = rng.choice(population, count, replace=False, shuffle=False)
        drawn.sort()
        places: list[int] = drawn.tolist()
        return places if ids is None else [ids[place] for place in places]
