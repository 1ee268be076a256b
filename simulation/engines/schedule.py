"""How a cohort is cut into chunks, and in which tree the chunks' partials are merged.

Both depend on the cohort alone, never on the pool, so that any number of workers adds the same
numbers in the same order and gives the same bits. The pool only decides which parts of the tree
are handed out whole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from simulation.engines.policy import POLICY
from simulation.worker.tree import T, Tree


def weights(examples: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the estimated cost of clients that train on so many examples, in examples."""
    return (examples + POLICY.client_cost).astype(np.float64)


def least(lanes: int) -> int:
    """Return how many clients a chunk has at least, where so many are trained side by side."""
    return 1 if lanes == 1 else POLICY.chunk_queue * lanes


def cut(
    clients: Sequence[int],
    cost: NDArray[np.float64],
    share: float = POLICY.chunk_share,
    least: int = 1,
) -> list[NDArray[np.int64]]:
    """Cut a cohort into chunks for guided self-scheduling.

    Clients are taken by falling cost; each chunk takes the next ones up to ``share`` of the work
    that is left. So the first chunks are large (few hand-overs) and the last are single small
    clients (no worker waits long for another). Source: Polychronopoulos and Kuck (1987),
    "Guided self-scheduling", IEEE Trans. Computers C-36(12).

    Args:
        clients: the cohort.
        cost: cost of each, same order.
        share: of the work that is left; the smaller, the smaller the chunks.
        least: clients of a chunk, at least.
    """
    ids = np.asarray(clients, np.int64)
    order = np.lexsort((ids, -cost))
    ids, cost = ids[order], cost[order]
    before = [0.0, *np.cumsum(cost).tolist()]
    chunks, first = [], 0
    while first < len(ids):
        goal = before[first] + (before[-1] - before[first]) * share
        # Rounding must not decide: a client belongs to the chunk if it ends within the goal.
        last = max(first + 1, bisect_right(before, goal * (1 + 1e-12)) - 1)
        last = max(last, min(first + least, len(ids)))
        chunks.append(ids[first:last])
        first = last
    return chunks


def units(
    root: Tree[T],
    cost: Callable[[T], float],
    workers: int,
    share: float = POLICY.unit_share,
    least: float = 0.0,
) -> list[Tree[T]]:
    """Cut the merge tree into the nodes that are handed out whole, in order.

    A worker that trains all below a node also merges it, and one partial travels instead of
    many. A node is handed out whole when it is at most share / workers of the work that is
    left from it on: coarse at first, fine at the end, where it is not worth while to hand out less
    than ``POLICY.unit_least`` / workers of all, nor less than ``least``. The pool decides this, and
    only this: the tree, and so every sum, stays the same.
    """
    found: list[Tree[T]] = []
    costs: dict[int, float] = {}

    def total(node: Tree[T]) -> float:
        inner = isinstance(node, tuple)
        costs[id(node)] = sum(map(total, node)) if inner else cost(node)  # type: ignore[arg-type]
        return costs[id(node)]

    left = total(root)
    least = max(least, left * POLICY.unit_least / workers)

    def visit(node: Tree[T]) -> None:
        nonlocal left
        own = costs[id(node)]
        if not isinstance(node, tuple) or own <= max(least, left * share / workers):
            found.append(node)
            left -= own
        else:
            for child in node:
                visit(child)

    visit(root)
    return found
