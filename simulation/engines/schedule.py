"""How a cohort is cut into chunks, and in which tree the chunks' partials are merged.

Both depend on the cohort alone, never on the pool, so that any number of workers adds the same
numbers in the same order and gives the same bits. The pool only decides which parts of the tree
are handed out whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from simulation.worker.tree import T, Tree, leaves

SPREAD = 128
"""A leaf takes at most 1/SPREAD of the work that is left: enough for that many workers."""

UNITS = 2
"""A worker is handed at most 1/UNITS of its share of the work that is left at a time. Source:
Hummel, Schonberg and Flynn (1992), "Factoring", Communications of the ACM 35(8)."""

GRAIN = 128
"""What is handed out whole need not be smaller than 1/GRAIN of a worker's share of all work: the
hand-over itself takes the driver and Ray some 9 ms of a core."""

CLIENT_COST = 16.0
"""What a client costs beyond its examples, counted in examples."""


def weights(sizes: NDArray[np.int64], epochs: int) -> NDArray[np.float64]:
    """Return the estimated cost of clients of ``sizes`` examples, in examples."""
    return (sizes * float(epochs) + CLIENT_COST).astype(np.float64)


def cut(clients: Sequence[int], cost: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """Cut a cohort into chunks for guided self-scheduling.

    Clients are taken by falling cost; each chunk takes the next ones up to 1/SPREAD of the work
    that is left. So the first chunks are large (few hand-overs) and the last are single small
    clients (no worker waits long for another). Source: Polychronopoulos and Kuck (1987),
    "Guided self-scheduling", IEEE Trans. Computers C-36(12).

    Args:
        clients: the cohort.
        cost: cost of each, same order.
    """
    ids = np.asarray(clients, np.int64)
    order = np.lexsort((ids, -cost))
    ids, cost = ids[order], cost[order]
    before = np.concatenate([[0.0], np.cumsum(cost)])
    chunks, first = [], 0
    while first < len(ids):
        goal = before[first] + (before[-1] - before[first]) / SPREAD
        # Rounding must not decide: a client belongs to the chunk if it ends within the goal.
        last = max(first + 1, int(np.searchsorted(before, goal * (1 + 1e-12), side="right")) - 1)
        chunks.append(ids[first:last])
        first = last
    return chunks


def units(
    root: Tree[T],
    cost: Callable[[T], float],
    workers: int,
    least: float = 0.0,
) -> list[Tree[T]]:
    """Cut the merge tree into the nodes that are handed out whole, in order.

    A worker that trains all below a node also merges it, and one partial travels instead of
    many. A node is handed out whole when it is at most 1/(workers x UNITS) of the work that is
    left from it on: coarse at first, fine at the end, where it is not worth while to hand out
    less than 1/(workers x GRAIN) of all, nor less than ``least``. The pool decides this, and only
    this: the tree, and so every sum, stays the same.
    """
    found: list[Tree[T]] = []
    left = sum(cost(leaf) for leaf in leaves(root))
    least = max(least, left / (workers * GRAIN))

    def visit(node: Tree[T]) -> None:
        nonlocal left
        own = sum(cost(leaf) for leaf in leaves(node))
        if not isinstance(node, tuple) or own <= max(least, left / (workers * UNITS)):
            found.append(node)
            left -= own
        else:
            for child in node:
                visit(child)

    visit(root)
    return found
