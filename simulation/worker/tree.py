"""The tree in which the partials of a cohort's chunks are merged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np

T = TypeVar("T")

Tree: TypeAlias = "T | tuple[Tree[T], ...]"
"""A leaf, or a node as the tuple of its children."""


def tree(leaves: Sequence[T], arity: int) -> Tree[T]:
    """Return the merge tree over ``leaves``: neighbours in groups, the groups in groups, ...

    Raises:
        ValueError: when there are no leaves.
    """
    if not leaves:
        raise ValueError("there must be at least one chunk to merge, got none")
    nodes: list[Any] = list(leaves)
    while len(nodes) > 1:
        nodes = [tuple(nodes[i : i + arity]) for i in range(0, len(nodes), arity)]
    return nodes[0]


def leaves(node: Tree[T]) -> Iterator[T]:
    """Yield the leaves below a node, in order."""
    if isinstance(node, tuple):
        for child in node:
            yield from leaves(child)
    else:
        yield node


def clients_below(node: Any) -> list[int]:
    """Return the clients below a node whose leaves are chunks, in the order of training."""
    ids: list[int] = np.concatenate(list(leaves(node))).tolist()
    return ids


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
