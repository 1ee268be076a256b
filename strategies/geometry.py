"""Arithmetic on a cohort's vectors, in float64 and block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from strategies.spec import Vector
from strategies.stacked import squared_norm
from strategies.sums import add_scaled

_ENTRIES = 2**20
"""Entries of a block of columns (8 MiB): a thousand clients are never held in float64 at once."""


def _blocks(rows: Sequence[Vector]) -> Sequence[slice]:
    width = max(_ENTRIES // len(rows), 1)
    return [slice(start, start + width) for start in range(0, rows[0].size, width)]


def by_columns(
    rows: Sequence[Vector], statistic: Callable[[NDArray[np.float64]], Vector]
) -> Vector:
    """Return ``statistic(block [n, columns]) -> [columns]`` of the rows, joined to [P]."""
    result = np.empty(rows[0].size)
    for cut in _blocks(rows):
        result[cut] = statistic(np.stack([row[cut] for row in rows]).astype(np.float64))
    return result


def average_of(rows: Sequence[Vector], weights: Sequence[float] | None = None) -> Vector:
    """Return the weighted mean of vectors (equal weights when None), float64 [P]."""
    shares = [1.0] * len(rows) if weights is None else weights
    total = np.zeros(rows[0].size)
    for row, share in zip(rows, shares, strict=True):
        add_scaled(total, [row], [share])
    return total / sum(shares)


def squared_distances(rows: Sequence[Vector], origin: Vector | None = None) -> NDArray[np.float64]:
    """Return ``||x_i - x_j||^2`` for all pairs, float64 [n, n].

    By products of centred rows, ``x_i x_i + x_j x_j - 2 x_i x_j``: centring takes away what all
    have in common and with it nearly all cancellation.

    Args:
        rows: vectors [P].
        origin: what they are centred at; None is their mean, which one far row drags away.
    """
    products = np.zeros((len(rows), len(rows)))
    for cut in _blocks(rows):
        block = np.stack([row[cut] for row in rows]).astype(np.float64)
        block -= block.mean(axis=0) if origin is None else origin[cut]
        products += block @ block.T
    squares = np.diag(products)
    return np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0.0)


def median_weights(
    rows: Sequence[Vector], own: Sequence[float], nu: float, near: float = 1e-8, most: int = 1_000
) -> list[float]:
    """Return weights of the rows whose mean is their geometric median, weighted by ``own``.

    Weiszfeld's algorithm on the distances alone: with p the weights' shares and D the squared
    distances, that of row j from the mean is ``(D p)_j - p D p / 2``, and a step of the mean is
    ``-q D q / 2`` squared, q the change of p.

    Args:
        rows: vectors [P].
        own: weight of each, >= 0.
        nu: distances count as at least so much.
        near: how long the last step may be, as a part of the mean distance.
        most: steps, at most.
    """
    # Around the shortest row: what is far away then costs the others no digits.
    shortest = min(range(len(rows)), key=lambda i: squared_norm(rows[i]))
    squares = squared_distances(rows, rows[shortest])
    mine = np.asarray(own, np.float64)
    weights = mine
    for _ in range(most):
        p = weights / weights.sum()
        away = squares @ p
        distances = np.sqrt(np.maximum(away - p @ away / 2, 0.0))
        weights = mine / np.maximum(nu, distances)
        q = weights / weights.sum() - p
        step = np.sqrt(max(0.0, -(q @ squares @ q) / 2))
        if step <= near * (p @ distances):
            break
    return [float(weight) for weight in weights]


def cosines(rows: Sequence[Vector]) -> NDArray[np.float64]:
    """Return the cosine of all pairs of rows, float64 [n, n]; 0 where a row is 0."""
    products = np.zeros((len(rows), len(rows)))
    for cut in _blocks(rows):
        block = np.stack([row[cut] for row in rows]).astype(np.float64)
        products += block @ block.T
    norms = np.sqrt(np.diag(products))
    scale = np.outer(norms, norms)
    return np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)


def largest_cluster(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which points [n, k] belong to the largest cluster of mean shift, [n].

    With a flat kernel, as wide as the mean over points of the distance to their (n // 2)-th
    nearest, themselves counted (of two or three points: to their nearest other). Each point climbs
    to a mode; those that end within a width of a fuller mode are its own, and who is nearest to a
    mode belongs to it.

    Source: Comaniciu and Meer (2002), Mean shift: a robust approach toward feature space analysis.
    """
    count = len(points)
    apart = np.linalg.norm(points[:, None] - points[None, :], axis=2)
    width = float(np.sort(apart, axis=1)[:, min(count - 1, max(1, count // 2 - 1))].mean())
    if not width > 0:  # Half of the points are one.
        alike = apart <= 0
        return np.asarray(alike[int(np.argmax(alike.sum(axis=1)))])
    ends = points
    for _ in range(300):
        near = np.linalg.norm(ends[:, None] - points[None, :], axis=2) <= width
        moved = (near[:, :, None] * points[None]).sum(axis=1) / near.sum(axis=1)[:, None]
        still = np.abs(moved - ends).max() <= 1e-3 * width
        ends = moved
        if still:
            break
    full = (np.linalg.norm(ends[:, None] - points[None, :], axis=2) <= width).sum(axis=1)
    modes: list[int] = []
    for i in np.argsort(-full, kind="stable").tolist():
        if all(np.linalg.norm(ends[i] - ends[j]) > width for j in modes):
            modes.append(i)
    nearest = np.linalg.norm(points[:, None] - ends[None, modes], axis=2).argmin(axis=1)
    return np.asarray(nearest == np.bincount(nearest).argmax())
