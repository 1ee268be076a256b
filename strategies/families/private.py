"""Entries that bound what one client can change, and hide it in noise."""

from __future__ import annotations

from strategies import citations_robust as papers
from strategies.adaptive import AdaptiveClip, AdaptiveClipped
from strategies.algorithm import Algorithm
from strategies.clients import plain
from strategies.entry import Family
from strategies.privacy import GaussianNoise, clipped
from strategies.reducers import WeightedMean
from strategies.schedules import Schedule
from strategies.servers import average
from strategies.weights import Weights

FAMILY = Family()


@FAMILY.entry("Norm clipping", papers.SUN_2019, norm=(0.3, 1.0, 3.0))
def norm_clipping(
    norm: float = 1.0, learning_rate: float | Schedule = 1.0, weights: Weights = None
) -> Algorithm:
    """Average clipped updates: delta_i <- delta_i * min(1, norm / ||delta_i||), then as FedAvg."""
    reducer = clipped(WeightedMean(weights), norm)
    return Algorithm("Norm clipping", plain(), reducer, average(learning_rate))


@FAMILY.entry("DP-FedAvg", papers.MCMAHAN_2018)
def dp_fedavg(
    norm: float = 1.0,
    noise_multiplier: float | None = None,
    learning_rate: float | Schedule = 1.0,
    target_epsilon: float | None = None,
    delta: float | None = None,
) -> Algorithm:
    """Average clipped updates, add noise: x <- x + lr * (sum delta_i / m + N(0, (z norm / m)^2)).

    m is the cohort's size in the mean, z is 1 unless given or found from target_epsilon.
    """
    reducer = clipped(WeightedMean("uniform"), norm)
    noise = _noise(noise_multiplier, target_epsilon, delta)
    return Algorithm("DP-FedAvg", plain(), reducer, average(learning_rate), noise)


@FAMILY.entry("DP-FedAvg adaptive", papers.ANDREW_2021)
def dp_fedavg_adaptive(
    norm: float = 0.1,
    quantile: float = 0.5,
    rate: float = 0.2,
    noise_multiplier: float | None = None,
    learning_rate: float | Schedule = 1.0,
    target_epsilon: float | None = None,
    delta: float | None = None,
    count_noise: float | None = None,
) -> Algorithm:
    """As DP-FedAvg with norm <- norm * exp(-rate * (share within - quantile)).

    z is 1 unless given or found from target_epsilon.
    """
    reducer = AdaptiveClipped(WeightedMean("uniform"), norm)
    rule = AdaptiveClip(average(learning_rate), norm, quantile, rate)
    noise = _noise(noise_multiplier, target_epsilon, delta, count_noise)
    return Algorithm("DP-FedAvg adaptive", plain(), reducer, rule, noise)


def _noise(
    multiplier: float | None,
    target: float | None,
    delta: float | None,
    count: float | None = None,
) -> GaussianNoise:
    """Return the noise that was asked for: of multiplier 1 if nothing was."""
    if multiplier is None and target is None:
        multiplier = 1.0
    return GaussianNoise(multiplier, target, delta, count)
