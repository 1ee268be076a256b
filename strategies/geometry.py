"""Arithmetic on a cohort's vectors, in float64 and block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from strategies.spec import Vector
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


def squared_distances(rows: Sequence[Vector]) -> NDArray[np.float64]:
    """Return ``||x_i - x_j||^2`` for all pairs, float64 [n, n].

    By products of centred rows, ``x_i x_i + x_j x_j - 2 x_i x_j``: centring takes away what all
    have in common and with it nearly all cancellation.
    """
    products = np.zeros((len(rows), len(rows)))
    for cut in _blocks(rows):
        block = np.stack([row[cut] for row in rows]).astype(np.float64)
        block -= block.mean(axis=0)
        products += block @ block.T
    squares = np.diag(products)
    return np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0.0)
