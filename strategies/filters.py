"""Robust reducers that tell attackers from others: DnC, FoolsGold, SignGuard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from strategies import checks
from strategies.geometry import average_of, cosines, largest_cluster
from strategies.protocols import Round, State
from strategies.random_streams import round_stream
from strategies.robust import Combine, Kept, Robust
from strategies.spec import Vector
from strategies.stacked import squared_norm

COORDINATES = 0x436F
"""Purpose of the random stream that draws the coordinates that are looked at."""


@dataclass(frozen=True)
class DivideAndConquer(Robust):
    """DnC: leave out who stands out along the direction in which updates differ most.

    ``iterations`` times: of b random coordinates the updates, less their mean, have a first right
    singular vector u; client i scores ``((delta_i - mean) u)^2``, and the floor(filter * f) highest
    are bad. The mean is over those who were never bad.

    Args:
        byzantine: f, as a whole number >= 1 or as a share of the cohort in [0, 0.5).
        iterations: how often coordinates are drawn, >= 1.
        coordinates: b, >= 1; all where the model has no more.
        filter: how many are left out in an iteration, as a multiple of f, > 0.
        now: the round, given by :meth:`during`.

    Raises:
        ValueError: if an option is out of its range; in ``finish`` if everybody could be left out.

    Source: Shejwalkar and Houmansadr (2021), NDSS, Algorithm 2.
    """

    byzantine: float = 0.2
    iterations: int = 1
    coordinates: int = 10_000
    filter: float = 1.0
    now: Round = field(default=Round(0, 0), repr=False, compare=False)

    def __post_init__(self) -> None:
        checks.count_or_share("byzantine", self.byzantine)
        checks.integer("iterations", self.iterations, ">= 1")
        checks.integer("coordinates", self.coordinates, ">= 1")
        checks.number("filter", self.filter, "> 0")

    def during(self, at: Round, state: State) -> DivideAndConquer:
        """Return the reducer with the coordinates of a round."""
        return replace(self, now=at)

    def rule(self, cohort: Kept) -> Combine:
        """Return the mean of those who were never bad."""
        clients, rng = len(cohort.clients), round_stream(self.now, COORDINATES)
        share = self.byzantine
        f = int(share) if share >= 1 else checks.part_of(share, clients)
        bad = checks.part_of(self.filter, f)
        if self.iterations * bad >= clients:
            raise ValueError(
                f"DnC must have a cohort of more than iterations * filter * byzantine = "
                f"{self.iterations * bad} clients, got {clients}"
            )
        good = set(range(clients))
        for _ in range(self.iterations):
            looked = drawn(rng, cohort, self.coordinates)
            looked -= looked.mean(axis=0)
            left, values, _ = np.linalg.svd(looked, full_matrices=False)
            scores = (left[:, 0] * values[0]) ** 2
            good &= set(np.argsort(scores, kind="stable")[: clients - bad].tolist())
        return lambda rows: average_of([rows[i] for i in sorted(good)])


@dataclass(frozen=True)
class FoolsGold(Robust):
    """Clients whose updates resemble another's weigh less.

    With cs_ij the cosine of clients i and j, and v_i = max(0, max_j cs_ij), first honest ones are
    pardoned, ``cs_ij <- cs_ij v_i / v_j`` where v_j > v_i; then::

        a_i = 1 - max_j cs_ij                       in [0, 1]
        a_i <- a_i / max a                          1 counts as 0.99
        a_i <- confidence * (ln(a_i / (1 - a_i)) + 0.5)         in [0, 1]
        delta = sum_i a_i delta_i / sum_i a_i

    Cosines are those of the trainable part. Where nobody would weigh anything, as all resemble each
    other, all weigh alike.

    Args:
        confidence: kappa, > 0.

    Raises:
        ValueError: if confidence is not positive.

    Source: Fung et al. (2018), arXiv 1808.04866, Algorithm 1, by the updates of the round: the
    paper compares sums of each client's updates over all rounds, which clients that are seldom
    asked have not.
    """

    confidence: float = 1.0

    def __post_init__(self) -> None:
        checks.number("confidence", self.confidence, "> 0")

    def rule(self, cohort: Kept) -> Combine:
        """Return the weighted mean."""
        weights = self.weights(cohort.heads())
        return lambda rows: average_of(rows, weights)

    def weights(self, rows: list[Vector]) -> list[float]:
        """Return the a_i of clients with these updates."""
        if len(rows) == 1:
            return [1.0]
        alike = cosines(rows)
        np.fill_diagonal(alike, -np.inf)
        most = np.maximum(alike.max(axis=1), 0.0)
        pardoned = most[None, :] > most[:, None]
        ratio = np.divide(most[:, None], most[None, :], out=np.ones_like(alike), where=pardoned)
        alike = alike * ratio
        np.fill_diagonal(alike, -np.inf)
        a = np.clip(1.0 - alike.max(axis=1), 0.0, 1.0)
        if not a.max() > 1e-12:
            return [1.0] * len(rows)
        a = np.minimum(a / a.max(), 0.99)
        with np.errstate(divide="ignore"):
            a = np.clip(self.confidence * (np.log(a / (1 - a)) + 0.5), 0.0, 1.0)
        return [float(one) for one in a]


@dataclass(frozen=True)
class SignGuard(Robust):
    """The mean of those whose norm and signs are as those of most, clipped to the median norm.

    Of norms over their median M, those in [lower, upper] pass. Of a random part of the coordinates,
    each client has shares of positive, zero and negative entries: the largest cluster (mean shift)
    passes. Who passes both is averaged, as ``delta_i * min(1, M / ||delta_i||)``; who passes the
    first, where nobody passes both. All norms pass where none would.

    Args:
        lower, upper: bounds of the norms, in medians; 0 <= lower <= 1 <= upper.
        share: of the coordinates whose signs are counted, in (0, 1].
        now: the round, given by :meth:`during`.

    Raises:
        ValueError: if an option is out of its range.

    Source: Xu et al. (2022), arXiv 2109.05872, Algorithm 2 (plain SignGuard).
    """

    lower: float = 0.1
    upper: float = 3.0
    share: float = 0.1
    now: Round = field(default=Round(0, 0), repr=False, compare=False)

    def __post_init__(self) -> None:
        checks.number("lower", self.lower, "in [0, 1]")
        checks.number("upper", self.upper, ">= 1")
        checks.number("share", self.share, "in (0, 1]")

    def during(self, at: Round, state: State) -> SignGuard:
        """Return the reducer with the coordinates of a round."""
        return replace(self, now=at)

    def rule(self, cohort: Kept) -> Combine:
        """Return the mean of those who pass, clipped."""
        heads = cohort.heads()
        norms = np.array([sqrt(squared_norm(head)) for head in heads])
        middle = float(np.median(norms))
        usual = (norms >= self.lower * middle) & (norms <= self.upper * middle)
        if not usual.any():
            usual[:] = True  # The median lies between two norms, and all are far from it.
        count = max(1, checks.part_of(self.share, heads[0].size))
        looked = drawn(round_stream(self.now, COORDINATES), cohort, count)
        signs = [(looked > 0).mean(axis=1), (looked == 0).mean(axis=1), (looked < 0).mean(axis=1)]
        both = usual & largest_cluster(np.stack(signs, axis=1))
        chosen = np.flatnonzero(both if both.any() else usual).tolist()
        clip = [min(1.0, middle / n) if n > 0 else 1.0 for n in norms.tolist()]

        def combine(rows: Sequence[Vector]) -> Vector:
            return average_of([rows[i] * np.float64(clip[i]) for i in chosen])

        return combine


def drawn(rng: np.random.Generator, cohort: Kept, count: int) -> NDArray[np.float64]:
    """Return ``count`` random trainable coordinates of all updates, [n, count]; all if fewer."""
    size = cohort.heads()[0].size
    at = np.arange(size) if count >= size else np.sort(rng.choice(size, count, replace=False))
    return np.stack([delta[at] for delta in cohort.deltas]).astype(np.float64)
