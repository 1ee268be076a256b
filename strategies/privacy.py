"""Norm clipping, and differential privacy on the server: clipping plus Gaussian noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite, sqrt
from typing import Any

import numpy as np

from strategies import checks
from strategies.core import Algorithm, Mean, Reducer, Round, Update, stream
from strategies.sums import squared_norm

NOISE = 0x4E6F
"""Purpose of the random stream of the server's noise."""


def clipped(reducer: Reducer, norm: float) -> Clipped:
    """Return ``reducer`` behind norm clipping; see :class:`Clipped`."""
    return Clipped(reducer, norm)


@dataclass(frozen=True)
class Clipped:
    """Clip every update before another reducer gets it: ``delta * min(1, norm / ||delta||)``.

    The norm is that of the whole delta [P]: moving statistics are clipped as well, for they could
    leak or be poisoned like any weight. An update that is not finite counts as zero.

    Args:
        reducer: what the clipped updates go to.
        norm: largest L2 norm of an update, > 0.

    Raises:
        ValueError: if the norm is not positive.

    Source: Sun et al. (2019), arXiv 1911.07963; McMahan et al. (2018), arXiv 1710.06963.
    """

    reducer: Reducer
    norm: float

    def __post_init__(self) -> None:
        checks.number("norm", self.norm, "> 0")

    @property
    def by(self) -> str | None:
        """How the reducer behind weighs clients, if it is a plain mean."""
        return getattr(self.reducer, "by", None)

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse extras, which nothing would bound."""
        if algorithm.client.uploads:
            return (
                "clipping bounds the delta but not the extras that the client rule "
                f"{algorithm.client.name!r} uploads"
            )
        refuse = getattr(self.reducer, "refuse", None)
        return refuse(algorithm) if refuse else None

    def clip(self, update: Update) -> Update:
        """Return the update with a delta of at most the norm."""
        size = sqrt(squared_norm(update.delta))
        if size <= self.norm:
            return update
        if not isfinite(size):
            return replace(update, delta=np.zeros_like(update.delta))
        return replace(update, delta=np.multiply(update.delta, self.norm / size, dtype=np.float64))

    def lift(self, update: Update) -> Any:
        """Clip, then lift."""
        return self.reducer.lift(self.clip(update))

    def merge(self, a: Any, b: Any) -> Any:
        """Join two partials of the reducer behind."""
        return self.reducer.merge(a, b)

    def fold(self, partial: Any | None, update: Update) -> Any:
        """Clip, then fold."""
        return self.reducer.fold(partial, self.clip(update))

    def finish(self, partial: Any) -> Mean:
        """Return the mean; of a uniform one the sensitivity is ``norm / clients``."""
        mean = self.reducer.finish(partial)
        if self.by != "uniform":
            return mean
        return replace(mean, sensitivity=self.norm / mean.clients)


@dataclass(frozen=True)
class GaussianNoise:
    """Add ``N(0, (multiplier * sensitivity)^2)`` to every entry of the cohort's mean.

    With updates clipped to S and m clients in the cohort the sensitivity of the mean to one
    client's update is S / m, so the sum gets noise of standard deviation ``multiplier * S``. The
    stream is that of the run's seed and the round.

    Args:
        multiplier: noise multiplier z, >= 0.

    Raises:
        ValueError: if the multiplier is negative, or if the mean has no known sensitivity.

    Source: McMahan et al. (2018), arXiv 1710.06963, Algorithm 1, with the cohort's size fixed
    instead of expected.
    """

    multiplier: float

    def __post_init__(self) -> None:
        checks.number("multiplier", self.multiplier, ">= 0")

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse reducers that do not bound what one client can change."""
        reducer = algorithm.reducer
        if isinstance(reducer, Clipped) and reducer.by == "uniform":
            return None
        return (
            "noise needs a bound on what one client can change, which only "
            f"clipped(WeightedMean('uniform'), norm) gives, got {reducer}"
        )

    def __call__(self, mean: Mean, at: Round) -> Mean:
        """Return the mean with noise."""
        if mean.sensitivity is None:
            raise ValueError("sensitivity of the mean must be known to add noise, got None")
        rng = stream(at.seed, NOISE, at.number)
        noise = rng.normal(0.0, self.multiplier * mean.sensitivity, mean.delta.size)
        return replace(mean, delta=mean.delta + noise)
