"""How a cohort is cut into chunks, and in which tree the chunks' partials are merged.

Both depend on the cohort alone, never on the pool, so that any number of workers adds the same
numbers in the same order and gives the same bits. The pool only decides which parts of the tree
are handed out whole.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from simulation.engines.policy import POLICY
from simulation.worker.tree import T, Tree, leaves, tree


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


def deal(
    clients: Sequence[int], cost: NDArray[np.float64], least: int = 1
) -> list[NDArray[np.int64]]:
    """Deal a cohort to branches of about equal cost, ``POLICY.branches`` or a half, a quarter ...

    By falling cost, each client goes to the branch with the least so far. So any half, quarter or
    eighth of the merge tree is as much work as any other, and a cluster's hosts can have one each.
    Source: Graham (1969), "Bounds on multiprocessing timing anomalies", SIAM J. Appl. Math. 17(2).

    Args:
        clients: the cohort.
        cost: cost of each, same order.
        least: clients of a chunk, at least; a branch has ``POLICY.branch_chunks`` times as many.
    """
    count = POLICY.branches
    while count > 1 and len(clients) < count * POLICY.branch_chunks * least:
        count //= 2
    ids = np.asarray(clients, np.int64)
    order = np.lexsort((ids, -cost))
    heap = [(0.0, place) for place in range(count)]
    found: list[list[int]] = [[] for _ in heap]
    for at, own in zip(order.tolist(), cost[order].tolist(), strict=True):
        so_far, place = heap[0]
        found[place].append(at)
        heapq.heapreplace(heap, (so_far + own, place))
    # A heavy one next to a light one: pairs are more alike than branches.
    heavy = [place for _, place in sorted((-so_far, place) for so_far, place in heap)]
    paired = [heavy[at // 2] if at % 2 == 0 else heavy[-1 - at // 2] for at in range(count)]
    return [np.array(found[place], np.int64) for place in paired]


def grow(
    clients: Sequence[int], cost: NDArray[np.float64], least: int = 1
) -> Tree[NDArray[np.int64]]:
    """Return the merge tree of a cohort, whose leaves are chunks.

    Each branch is cut for itself; branches are merged in pairs, and pairs in pairs.

    Args:
        clients: the cohort.
        cost: cost of each, same order.
        least: clients of a chunk, at least.
    """
    ids = np.asarray(clients, np.int64)
    branches = deal(clients, cost, least)
    share = POLICY.chunk_share * len(branches)
    cut_up = [cut(ids[places].tolist(), cost[places], share, least) for places in branches]
    return tree([tree(chunks, POLICY.merge_arity) for chunks in cut_up], 2)


def homes(root: Tree[T], cost: Callable[[T], float], parts: Sequence[float]) -> list[list[Tree[T]]]:
    """Return which nodes of the merge tree belong to each of several hosts: neighbours, in order.

    Hosts that are as many as there are branches, or a half of that, have one node each.

    Args:
        root: the tree.
        cost: cost of a leaf.
        parts: how fast each host is, compared with the others.
    """
    costs: dict[int, float] = {}
    total = _costs(root, cost, costs)
    ends = np.cumsum(parts) / np.sum(parts) * total
    largest = max(cost(leaf) for leaf in leaves(root))
    spare = max(POLICY.home_spare * total * min(parts) / float(np.sum(parts)), largest / 2)
    found: list[list[Tree[T]]] = [[] for _ in parts]

    def home(place: float) -> int:
        return min(int(np.searchsorted(ends, place, "right")), len(parts) - 1)

    def visit(node: Tree[T], start: float) -> None:
        own = costs[id(node)]
        first, last = home(start + spare), home(start + own - spare)
        if not isinstance(node, tuple) or first >= last:
            found[home(start + own / 2)].append(node)
            return
        for child in node:
            visit(child, start)
            start += costs[id(child)]

    visit(root, 0.0)
    return found


def _costs(node: Tree[T], cost: Callable[[T], float], costs: dict[int, float]) -> float:
    """Note what each node below costs; return what this one does."""
    inner = isinstance(node, tuple)
    own = sum(_costs(c, cost, costs) for c in node) if inner else cost(node)  # type: ignore
    costs[id(node)] = own
    return own


def units(
    roots: Sequence[Tree[T]],
    cost: Callable[[T], float],
    workers: int,
    share: float = POLICY.unit_share,
    least: float = 0.0,
) -> list[Tree[T]]:
    """Cut the merge tree, or some nodes of it, into those that are handed out whole, in order.

    A worker that trains all below a node also merges it, and one partial travels instead of
    many. A node is handed out whole when it is at most share / workers of the work that is
    left from it on: coarse at first, fine at the end, where it is not worth while to hand out less
    than ``POLICY.unit_least`` / workers of all, nor less than ``least``. The pool decides this, and
    only this: the tree, and so every sum, stays the same.
    """
    found: list[Tree[T]] = []
    costs: dict[int, float] = {}
    left = sum(_costs(root, cost, costs) for root in roots)
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

    for root in roots:
        visit(root)
    return found
