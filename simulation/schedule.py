"""How a cohort is cut into chunks, and how the chunks' partials are grouped for merging.

Both depend on the cohort alone, never on the pool, so that any number of workers adds the same
numbers in the same order and gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

SPREAD = 64
"""A chunk takes at most 1/SPREAD of the work that is left: enough for that many workers."""

GROUP = 16
"""Partials are merged in groups of this many neighbours, then the groups."""

CLIENT_COST = 16.0
"""What a client costs beyond its examples, counted in examples."""


def weights(sizes: NDArray[np.int64], epochs: int) -> NDArray[np.float64]:
    """Return the estimated cost of clients of ``sizes`` examples, in examples."""
    return (sizes * float(epochs) + CLIENT_COST).astype(np.float64)


def cut(
    clients: Sequence[int], cost: NDArray[np.float64], spread: int = SPREAD
) -> list[NDArray[np.int64]]:
    """Cut a cohort into chunks for guided self-scheduling.

    Clients are taken by falling cost; each chunk takes the next ones up to 1/spread of the work
    that is left. So the first chunks are large (few hand-overs) and the last are single small
    clients (no worker waits long for another). Source: Polychronopoulos and Kuck (1987),
    "Guided self-scheduling", IEEE Trans. Computers C-36(12).

    Args:
        clients: the cohort.
        cost: cost of each, same order.
        spread: the larger, the smaller the chunks.
    """
    ids = np.asarray(clients, np.int64)
    order = np.lexsort((ids, -cost))
    ids, cost = ids[order], cost[order]
    before = np.concatenate([[0.0], np.cumsum(cost)])
    chunks, first = [], 0
    while first < len(ids):
        goal = before[first] + (before[-1] - before[first]) / spread
        # Rounding must not decide: a client belongs to the chunk if it ends within the goal.
        last = max(first + 1, int(np.searchsorted(before, goal * (1 + 1e-12), side="right")) - 1)
        chunks.append(ids[first:last])
        first = last
    return chunks


def groups(count: int, size: int = GROUP) -> Iterator[range]:
    """Yield the ranges of neighbouring chunks that are merged first."""
    for first in range(0, count, size):
        yield range(first, min(first + size, count))


def fold(items: Iterable[T], merge: Callable[[T, T], T]) -> T:
    """Merge from the left: ``merge(merge(a, b), c)``.

    Raises:
        ValueError: when there is nothing to merge.
    """
    total: T | None = None
    for item in items:
        total = item if total is None else merge(total, item)
    if total is None:
        raise ValueError("there must be at least one partial to merge, got none")
    return total
