"""Norm clipping, and differential privacy on the server: clipping plus Gaussian noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite, sqrt
from typing import Any

import numpy as np

from strategies import accounting, checks
from strategies.core import Algorithm, Mean, Reducer, Round, Update, merge_all, stream
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
        if not isfinite(size):
            nothing = np.zeros_like(update.delta)
            return replace(update, delta=nothing, moved=nothing)
        moved = replace(update, moved=update.delta)
        if size <= self.norm:
            return moved
        return replace(moved, delta=np.multiply(update.delta, self.norm / size, dtype=np.float64))

    def lift(self, update: Update) -> Any:
        """Clip, then lift."""
        return self.reducer.lift(self.clip(update))

    def merge(self, a: Any, b: Any) -> Any:
        """Join two partials of the reducer behind."""
        return self.reducer.merge(a, b)

    def absorb(self, a: Any, b: Any) -> Any:
        """Join two partials of the reducer behind, the first one of one's own."""
        return merge_all(self.reducer, (a, b), own=True)

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

    Where the reducer counts the updates within an adapted norm, the count gets noise of standard
    deviation b as well, and the mean that of ``(z^-2 - (2 b)^-2)^(-1/2)``, so that both together
    cost the privacy of z.

    Args:
        multiplier: noise multiplier z, >= 0; None finds it from ``target_epsilon``.
        target_epsilon: epsilon after all rounds, > 0.
        delta: the probability with which epsilon may fail, in (0, 1]; None takes
            ``population ** -1.1``.
        count_noise: b, more than z / 2; None takes a twentieth of the cohort, but z at least.

    Raises:
        ValueError: for a value out of range, if not one of multiplier and target_epsilon is
            given, or if the mean has no known sensitivity.

    Source: McMahan et al. (2018), arXiv 1710.06963, Algorithm 1, with the cohort's size fixed
    instead of expected; for the count, Andrew et al. (2021), arXiv 1905.03871, theorem 1.
    """

    multiplier: float | None = None
    target_epsilon: float | None = None
    delta: float | None = None
    count_noise: float | None = None

    def __post_init__(self) -> None:
        if (self.multiplier is None) == (self.target_epsilon is None):
            raise ValueError(
                "one of noise_multiplier and target_epsilon must be given, "
                f"got {self.multiplier} and {self.target_epsilon}"
            )
        if self.multiplier is not None:
            checks.number("multiplier", self.multiplier, ">= 0")
        if self.target_epsilon is not None:
            checks.number("target_epsilon", self.target_epsilon, "> 0")
        if self.delta is not None:
            checks.number("delta", self.delta, "in (0, 1]")
        if self.count_noise is not None:
            checks.number("count_noise", self.count_noise, "> 0")
            if self.multiplier is not None and self.count_noise <= self.multiplier / 2:
                raise ValueError(
                    f"count_noise must be more than half the noise multiplier ({self.multiplier}), "
                    f"got {self.count_noise}"
                )

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
        if self.multiplier is None:
            raise ValueError(
                "noise multiplier must be found from target_epsilon before the first round "
                "(Algorithm.prepared), got None"
            )
        if mean.sensitivity is None:
            raise ValueError("sensitivity of the mean must be known to add noise, got None")
        rng = stream(at.seed, NOISE, at.number)
        multiplier, metrics = self.multiplier, mean.metrics
        if "within" in metrics and multiplier:
            count = self.count_noise or max(mean.clients / 20, multiplier)
            multiplier = (multiplier**-2 - (2 * count) ** -2) ** -0.5
            noisy = metrics["within"] + rng.normal(0.0, count / mean.clients)
            metrics = {**metrics, "within": float(noisy)}
        noise = rng.normal(0.0, multiplier * mean.sensitivity, mean.delta.size)
        return replace(mean, delta=mean.delta + noise, metrics=metrics)

    def prepared(self, rounds: int, population: int, cohort: int) -> GaussianNoise:
        """Return the noise for a run: with a delta, and the multiplier that keeps the target.

        Raises:
            ValueError: if dp-accounting is not installed, or no multiplier keeps the target.
        """
        accounting.library()
        delta = accounting.default_delta(population) if self.delta is None else self.delta
        if self.target_epsilon is None:
            return replace(self, delta=delta)
        rate = cohort / population
        found = accounting.noise_multiplier(self.target_epsilon, rate, rounds, delta)
        return replace(self, multiplier=found, target_epsilon=None, delta=delta)

    def notes(self, rounds: int, population: int, cohort: int) -> dict[str, float]:
        """Return epsilon and delta after some rounds; nothing unless prepared."""
        if self.multiplier is None or self.delta is None:
            return {}
        spent = accounting.epsilon(self.multiplier, cohort / population, rounds, self.delta)
        return {"epsilon": spent, "delta": self.delta}
