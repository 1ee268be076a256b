"""How far the distribution of a client's labels is from that of all clients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strategies import checks

DISCREPANCY, RELATIVE_SIZE = "discrepancy", "relative_size"
"""Metrics that clients tell: d_i over its mean, n_i over its mean, both over all clients."""

DISTANCES = ("kl", "l2")
"""Between two distributions: Kullback-Leibler divergence, or Euclidean distance."""

TARGETS = ("global", "uniform")
"""What the distance is from: the distribution of all clients' labels, or all classes alike."""


@dataclass(frozen=True)
class LabelDiscrepancy:
    """The distance of each client's label distribution D_i from a target T.

    By its name::

        kl    d_i = sum_c D_ic ln(D_ic / T_c)
        l2    d_i = ||D_i - T||

    Args:
        distance: one of :data:`DISTANCES`.
        target: one of :data:`TARGETS`.

    Raises:
        ValueError: for another distance or target.

    Source: Ye et al. (2023), arXiv 2305.19229.
    """

    distance: str = "kl"
    target: str = "global"

    def __post_init__(self) -> None:
        checks.one_of("distance", self.distance, DISTANCES)
        checks.one_of("target", self.target, TARGETS)

    def of(self, counts: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return d_i / mean d of all clients [K]; all 0 where no client differs from the target.

        Args:
            counts: rows of each class that each client has [K, classes]. A client without any has
                no distribution: its d_i is 0.
        """
        held = counts.sum(axis=1, keepdims=True)
        has = held[:, 0] > 0
        own = counts / np.maximum(held, 1)
        whole = np.full(counts.shape[1], 1.0 / counts.shape[1])
        if self.target == "global":
            whole = counts.sum(axis=0) / max(1, int(held.sum()))
        if self.distance == "l2":
            apart = np.linalg.norm(own - whole, axis=1)
        else:
            there = own > 0
            ratio = np.divide(own, whole, out=np.ones_like(own), where=there)
            apart = np.sum(own * np.log(ratio), axis=1)
        apart = np.where(has, np.maximum(apart, 0.0), 0.0)
        mean = float(apart.mean()) if len(apart) else 0.0
        return np.asarray(apart / mean if mean > 1e-12 else np.zeros(len(apart)))
