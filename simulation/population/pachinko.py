"""Labels in two levels: each client has its own mixture of groups, and of classes within each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.population.laws import Owners, equal_cuts

CIFAR100 = (
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7, 6, 13, 15,
    3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2,
    0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13, 16,
    19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13,
)  # fmt: skip
"""The superclass of each class of CIFAR-100 (Krizhevsky, 2009), both in alphabetical order."""


def groups_of(dataset: str, classes: int, groups: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the group of each class: as given, or the superclasses of CIFAR-100.

    Raises:
        ValueError: none are given for another dataset, or not one for each class.
    """
    if groups is None:
        if dataset != "cifar100":
            raise ValueError(
                "partition.groups must be given, a number for each class, for the partition "
                f"'pachinko' of a dataset other than cifar100, got {dataset!r}"
            )
        return CIFAR100
    if len(groups) != classes:
        raise ValueError(
            f"partition.groups must have a number for each of {classes} classes, got {len(groups)}"
        )
    return groups


def pachinko(
    y: NDArray[Any],
    clients: int,
    rng: np.random.Generator,
    alpha: float,
    beta: float,
    groups: tuple[int, ...],
) -> Owners:
    """Deal rows by pachinko allocation: equal sizes, labels that are alike in groups.

    Client i has a mixture of groups ``theta ~ Dirichlet(alpha, ..., alpha)`` and, of each group,
    one of its classes ``phi_g ~ Dirichlet(beta, ..., beta)``; its rows are drawn one after the
    other, without replacement, by ``theta_g phi_gk``. A class that has run out is left out of its
    group's mixture, a group that has run out of the client's. Clients draw in random order.

    Source: Reddi et al. (2021), arXiv 2003.00295, appendix F (for CIFAR-100: 500 clients with 100
    rows each, alpha = 0.1, beta = 10). Here all of a client's rows are drawn at once, and again
    for what a class cannot give.

    Args:
        y: labels [N].
        clients: how many.
        rng: what draws.
        alpha: concentration of groups.
        beta: concentration of classes within a group.
        groups: the group of each class that may be in ``y``, by number.
    """
    group = np.unique(np.asarray(groups), return_inverse=True)[1]
    room = np.bincount(y, minlength=len(group))
    members = np.zeros((int(group.max()) + 1, len(group)), bool)
    members[group, np.arange(len(group))] = True
    rows = rng.permutation(len(y))
    rows = rows[np.argsort(y[rows], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(room)])
    taken = np.zeros_like(room)
    owner = np.empty(len(y), np.int32)
    sizes = np.diff(equal_cuts(len(y), clients))
    theta = rng.dirichlet(np.full(len(members), alpha), clients)
    phi = np.zeros((clients, len(group)))
    for one in members:
        phi[:, one] = rng.dirichlet(np.full(int(one.sum()), beta), clients)
    for client in rng.permutation(clients):
        left = room - taken
        counts = _drawn(theta[client], phi[client], members, left, int(sizes[client]), rng)
        for k in np.flatnonzero(counts):
            first = starts[k] + taken[k]
            owner[rows[first : first + counts[k]]] = client
        taken += counts
    return owner


def _drawn(
    theta: NDArray[np.float64],
    phi: NDArray[np.float64],
    members: NDArray[np.bool_],
    room: NDArray[np.int64],
    size: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Return how many rows of each class a client gets, where so many are left."""
    counts = np.zeros_like(room)
    while (need := size - int(counts.sum())) > 0:
        left = room - counts
        classes = np.where(left > 0, np.maximum(phi, np.finfo(float).tiny), 0.0)
        within = members @ classes
        mixed = np.where(within > 0, np.maximum(theta, np.finfo(float).tiny), 0.0)
        weights = (mixed / np.where(within > 0, within, 1.0)) @ members * classes
        counts += np.minimum(rng.multinomial(need, weights / weights.sum()), left)
    return counts
