"""A low-rank encoding: each matrix as the product of two thin ones."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from strategies import checks
from strategies.encodings.bits import Field, Parts
from strategies.encodings.encoding import Draw, Encoding, Shapes, split
from strategies.spec import Vector

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LowRank(Encoding):
    """PowerSGD by one client: one step of subspace iteration for each weight's matrix M [n, m].

    A weight of more than two axes is a matrix with its last axis as columns::

        P = orthonormal(M Q)    Q' = M^T P    C(M) = P Q'^T

    with Q [m, rank] drawn from a standard normal distribution. Weights with one axis, and those
    for which both thin matrices together are not smaller, travel as they are.

    In the paper all workers average P and Q' in every step, and Q is that of the step before; here
    a client sends once in a round, and may never take part again.

    Args:
        rank: columns of the thin matrices.
        feedback: whether the client keeps what it has not sent.

    Source: PowerSGD, Vogels et al. (2019), arXiv 1905.13727, Algorithm 1.
    """

    rank: int = 2
    feedback: bool = True

    def __post_init__(self) -> None:
        checks.integer("rank", self.rank, ">= 1")

    def matrix(self, shape: tuple[int, ...]) -> tuple[int, int] | None:
        """Return n and m of a weight; None for one that travels as it is."""
        if len(shape) < 2:
            return None
        n, m = prod(shape[:-1]), shape[-1]
        return (n, m) if self.rank * (n + m) < n * m else None

    @override
    def fields(self, shapes: Shapes) -> list[Field]:
        thin = [one for one in map(self.matrix, shapes) if one is not None]
        whole = sum(prod(shape) for shape in shapes if self.matrix(shape) is None)
        return [
            Field("left", self.rank * sum(n for n, _ in thin), "float"),
            Field("right", self.rank * sum(m for _, m in thin), "float"),
            Field("whole", whole, "float"),
        ]

    @override
    def parts(self, vector: Vector, shapes: Shapes, draw: Draw) -> Parts:
        rng, empty = draw(), np.zeros(0)
        found: dict[str, list[Floats]] = {"left": [empty], "right": [empty], "whole": [empty]}
        for part, shape in zip(split(vector, shapes), shapes, strict=True):
            size = self.matrix(shape)
            if size is None:
                found["whole"].append(part)
                continue
            matrix = part.reshape(size).astype(np.float64)
            # Not by BLAS, whose last bits depend on its threads.
            left = np.einsum("ij,jk->ik", matrix, rng.standard_normal((size[1], self.rank)))
            left = orthonormal(left)
            found["left"].append(left.ravel())
            found["right"].append(np.einsum("ij,ik->jk", matrix, left).ravel())
        return {name: np.concatenate(some).astype(np.float32) for name, some in found.items()}

    @override
    def vector(self, parts: Parts, shapes: Shapes, draw: Draw) -> Vector:
        at, found = {"left": 0, "right": 0, "whole": 0}, [np.zeros(0, np.float32)]

        def next_of(name: str, count: int) -> Vector:
            at[name] += count
            return parts[name][at[name] - count : at[name]]

        for shape in shapes:
            size = self.matrix(shape)
            if size is None:
                found.append(next_of("whole", prod(shape)))
                continue
            left = next_of("left", size[0] * self.rank).reshape(size[0], self.rank)
            right = next_of("right", size[1] * self.rank).reshape(size[1], self.rank)
            found.append(np.einsum("ik,jk->ij", left, right).ravel())
        return np.concatenate(found)


def orthonormal(matrix: Floats) -> Floats:
    """Return the columns made orthonormal one after the other (Gram-Schmidt); 0 for dependent ones.

    Args:
        matrix: [n, r].
    """
    columns: list[Floats] = []
    for column in matrix.T:
        before, rest = float(np.sqrt(np.square(column).sum())), column
        for _ in range(2):  # Twice is enough: once would leave what rounding has left.
            for other in columns:
                rest = rest - (rest * other).sum() * other
        norm = float(np.sqrt(np.square(rest).sum()))
        columns.append(rest / norm if norm > 1e-12 * before else np.zeros_like(rest))
    return np.stack(columns, axis=1)
