"""Norm clipping, and differential privacy on the server: clipping plus Gaussian noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, sqrt
from typing import Any

import numpy as np

from strategies import accounting, checks
from strategies.accounting import Account
from strategies.algorithm import Algorithm
from strategies.entropy import SystemNormal
from strategies.optional_protocols import AddsUp, refusal
from strategies.protocols import Reducer, Round
from strategies.random_streams import stream
from strategies.reducers import WeightedMean
from strategies.reducing import fold_all, merge_all
from strategies.spec import Spec
from strategies.stacked import squared_norm, times
from strategies.updates import Mean, Update

NOISE = 0x4E6F
"""Purpose of the random stream of the server's noise."""

WITHIN = "within"
"""The metric that says which part of the updates kept an adapted norm; it gets noise as well."""


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
        divisor: what a uniform mean divides the sum by, whoever came: a client that is not there
            counts as zero. None takes the number of clients that came.

    Raises:
        ValueError: if the norm is not positive.

    Source: Sun et al. (2019), arXiv 1911.07963; McMahan et al. (2018), arXiv 1710.06963.
    """

    reducer: Reducer
    norm: float
    divisor: int | None = field(default=None, repr=False)

    counts = False
    """Whether the mean comes with a count of clients, which needs noise of its own."""

    def __post_init__(self) -> None:
        checks.number("norm", self.norm, "> 0")

    @property
    def by(self) -> str | None:
        """How the reducer behind weighs clients, if it is a plain mean."""
        return self.reducer.by if isinstance(self.reducer, WeightedMean) else None

    @property
    def only_sums(self) -> bool:
        """Whether clipped updates are only ever added up."""
        return isinstance(self.reducer, AddsUp) and self.reducer.only_sums

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse extras, which nothing would bound."""
        if algorithm.client.uploads:
            return (
                "clipping bounds the delta but not the extras that the client rule "
                f"{algorithm.client.name!r} uploads"
            )
        return refusal(self.reducer, algorithm)

    def clip(self, update: Update) -> Update:
        """Return the update with a delta of at most the norm."""
        size = sqrt(squared_norm(update.delta))
        if not isfinite(size):
            nothing = np.zeros_like(update.delta)
            return replace(update, delta=nothing, moved=nothing)
        # Of an update that was encoded, the client's own delta is known already.
        own = update.delta if update.moved is None else update.moved
        moved = replace(update, moved=own)
        if size <= self.norm:
            return moved
        return replace(moved, delta=times(update.delta, self.norm / size))

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

    def fold_many(self, partial: Any | None, updates: Sequence[Update]) -> Any:
        """Clip, then fold."""
        return fold_all(self.reducer, partial, [self.clip(update) for update in updates])

    def over(self, clients: int) -> Clipped:
        """Return the reducer that divides by a fixed number of clients."""
        return replace(self, divisor=clients)

    def finish(self, partial: Any) -> Mean:
        """Return the mean; of a uniform one the sensitivity is ``norm / clients``."""
        mean = self.reducer.finish(partial)
        if self.by != "uniform":
            return mean
        if self.divisor is None:
            return replace(mean, sensitivity=self.norm / mean.clients)
        delta = mean.delta * (mean.clients / self.divisor)
        return replace(mean, delta=delta, **self._fixed(self.divisor))

    def nobody(self, size: int) -> Mean | None:
        """Return the mean of an empty cohort: zero, where the divisor is fixed."""
        if self.by != "uniform" or self.divisor is None:
            return None
        return Mean(np.zeros(size), **self._fixed(self.divisor))

    def _fixed(self, divisor: int) -> dict[str, Any]:
        """Return what a mean says that does not depend on who came."""
        return {
            "weight": float(divisor),
            "clients": divisor,
            "sensitivity": self.norm / divisor,
        }


@dataclass(frozen=True)
class GaussianNoise:
    """Add ``N(0, (multiplier * S / m)^2)`` to every entry of the cohort's mean.

    S is the norm that updates are clipped to and m what their sum is divided by, fixed beforehand:
    the sum gets noise of standard deviation ``multiplier * S``. With Poisson sampling (each client
    takes part by itself with probability q) ``m = q N``, and neighbours differ by one client more
    or less, who moves the sum by S. With a cohort of m clients drawn without replacement they
    differ by one client replaced, who moves it by 2 S. The noise is that of the run's seed and the
    round; without a seed, that of the operating system.

    Where the reducer counts the updates within an adapted norm, the count gets noise of standard
    deviation b as well, and the mean that of ``(z^-2 - (2 b)^-2)^(-1/2)``, so that both together
    cost the privacy of z. The server rule sees nothing of the cohort but these two.

    Args:
        multiplier: noise multiplier z, >= 0; None finds it from ``target_epsilon``.
        target_epsilon: epsilon after all rounds, > 0.
        delta: the probability with which epsilon may fail, in (0, 1]; None takes
            ``population ** -1.1``.
        count_noise: b, more than z / 2; None takes a twentieth of the cohort, but z at least.
        account: what epsilon goes by; :meth:`prepared` sets it.

    Raises:
        ValueError: for a value out of range, if not one of multiplier and target_epsilon is
            given, or if the mean has no known sensitivity.

    Source: McMahan et al. (2018), arXiv 1710.06963, Algorithm 1; for the count, Andrew et al.
    (2021), arXiv 1905.03871, theorem 1.
    """

    multiplier: float | None = None
    target_epsilon: float | None = None
    delta: float | None = None
    count_noise: float | None = None
    account: Account | None = field(default=None, repr=False, compare=False)

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
        """Refuse reducers that do not bound what one client can change, and local layers."""
        reducer = algorithm.reducer
        if algorithm.client.local:
            return (
                "noise would change the server's copy of the layers that clients keep, with which "
                f"each begins, got local layers {', '.join(algorithm.client.local)}"
            )
        if algorithm.client.frozen:
            return (
                "noise would change the weights that nobody trains, got frozen layers "
                f"{', '.join(algorithm.client.frozen)}"
            )
        if isinstance(reducer, Clipped) and reducer.by == "uniform":
            return None
        return (
            "noise needs a bound on what one client can change, which only "
            f"clipped(WeightedMean('uniform'), norm) gives, got {reducer}"
        )

    def __call__(self, mean: Mean, at: Round) -> Mean:
        """Return the mean with noise, and without the metrics that have none."""
        if self.multiplier is None:
            raise ValueError(
                "noise multiplier must be found from target_epsilon before the first round "
                "(Algorithm.prepared), got None"
            )
        if mean.sensitivity is None:
            raise ValueError("sensitivity of the mean must be known to add noise, got None")
        rng = SystemNormal() if at.seed is None else stream(at.seed, NOISE, at.number)
        metrics = {}
        if WITHIN in mean.metrics:
            noisy = mean.metrics[WITHIN]
            if self.multiplier:
                deviation = self._of_count(self.multiplier, mean.clients) / mean.clients
                noisy += rng.normal(0.0, deviation)
            metrics = {WITHIN: float(noisy)}
        deviation = self.of_mean(mean.clients, bool(metrics)) * mean.sensitivity
        noise = rng.normal(0.0, deviation, mean.delta.size)
        return replace(mean, delta=mean.delta + noise, metrics=metrics)

    def _of_count(self, multiplier: float, clients: int) -> float:
        """Return the standard deviation b of the count's noise."""
        return self.count_noise or max(clients / 20, multiplier)

    def of_mean(self, clients: int, counted: bool) -> float:
        """Return the noise multiplier of the mean, larger than z where a count costs privacy, too.

        Args:
            clients: what the mean is over.
            counted: whether there is a count.
        """
        multiplier = self.multiplier or 0.0
        if not counted or not multiplier:
            return multiplier
        return float((multiplier**-2 - (2 * self._of_count(multiplier, clients)) ** -2) ** -0.5)

    def prepared(
        self, rounds: int, population: int, cohort: int, sampling: str = "poisson"
    ) -> GaussianNoise:
        """Return the noise for a run: with a delta, and the multiplier that keeps the target.

        Raises:
            ValueError: if dp-accounting is not installed, no multiplier keeps the target, or
                cohorts are drawn in a way that has no account.
        """
        accounting.library()
        account = Account(rounds, population, cohort, sampling)
        delta = accounting.default_delta(population) if self.delta is None else self.delta
        ready = replace(self, delta=delta, account=account)
        if self.target_epsilon is None:
            return ready
        found = accounting.noise_multiplier(
            self.target_epsilon, account.rate, rounds, delta, sampling
        )
        return replace(ready, multiplier=found, target_epsilon=None)

    def notes(self, rounds: int) -> dict[str, float]:
        """Return epsilon and delta after some rounds; nothing unless prepared."""
        account = self.account
        if self.multiplier is None or self.delta is None or account is None:
            return {}
        spent = accounting.epsilon(
            self.multiplier, account.rate, rounds, self.delta, account.sampling
        )
        return {"epsilon": spent, "delta": self.delta}

    def guarantee(self) -> dict[str, Any]:
        """Return what a whole run guarantees, and of which neighbours; nothing unless prepared."""
        account = self.account
        if account is None:
            return {}
        return {
            **self.notes(account.rounds),
            "rounds": account.rounds,
            "noise_multiplier": self.multiplier,
            "sampling": account.sampling,
            "sampling_rate": account.rate,
            "neighbours": account.neighbours,
        }


def relative_length(algorithm: Algorithm, parameters: int) -> float | None:
    """Return the expected norm of a round's noise in units of the clipping norm.

    ``z / m * sqrt(P)``: the cohort's mean is no longer than the clipping norm, so that above 1
    more of a round's step is noise than not.

    Args:
        algorithm: a prepared one.
        parameters: P of the model.

    Returns:
        The ratio; None without noise, or where it is not known.
    """
    noise, reducer = algorithm.noise, algorithm.reducer
    if not isinstance(noise, GaussianNoise) or not isinstance(reducer, Clipped):
        return None
    if noise.multiplier is None or reducer.divisor is None:
        return None
    multiplier = noise.of_mean(reducer.divisor, reducer.counts)
    return multiplier / reducer.divisor * sqrt(parameters)


def check_model(algorithm: Algorithm, spec: Spec) -> None:
    """Raise ValueError when noise would be added to weights that are not trained.

    Noise makes a moving variance negative and changes frozen weights round by round.

    Args:
        algorithm: with noise or without.
        spec: the model's layout.
    """
    bad = spec.names[spec.trainable :]
    if algorithm.noise is not None and bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise ValueError(
            "model must have trainable weights only with noise for differential privacy, which "
            "makes moving variances negative (use GroupNormalization or LayerNormalization), "
            f"got {bad[0]}{more}"
        )
