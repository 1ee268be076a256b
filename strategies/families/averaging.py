"""Entries that average what clients send, and differ in how they train."""

from __future__ import annotations

from strategies import citations as papers
from strategies.adaptive import AdaptiveMu, proximal_as_told
from strategies.algorithm import Algorithm
from strategies.clients import one_step, plain, proximal
from strategies.entry import Family
from strategies.reducers import WeightedMean
from strategies.schedules import Schedule
from strategies.servers import average
from strategies.weights import Weights

FAMILY = Family()


@FAMILY.entry("FedAvg", papers.MCMAHAN_2017)
def fedavg(learning_rate: float | Schedule = 1.0, weights: Weights = None) -> Algorithm:
    """Move the model by the mean delta: x <- x + lr * sum_i n_i delta_i / sum_i n_i."""
    return Algorithm("FedAvg", plain(), WeightedMean(weights), average(learning_rate))


@FAMILY.entry("FedSGD", papers.MCMAHAN_2017)
def fedsgd(learning_rate: float | Schedule = 1.0, weights: Weights = None) -> Algorithm:
    """Average one full gradient of each client: x <- x - client_lr * sum_i n_i grad_i / n."""
    return Algorithm("FedSGD", one_step(), WeightedMean(weights), average(learning_rate))


@FAMILY.entry("FedProx", papers.LI_2020_FEDPROX, mu=(0.001, 0.01, 0.1, 1.0))
def fedprox(
    mu: float | Schedule = 0.01, learning_rate: float | Schedule = 1.0, weights: Weights = None
) -> Algorithm:
    """Pull clients towards the model: g <- g + mu * (w - x), then as FedAvg.

    The paper chooses mu for each data set from {0.001, 0.01, 0.1, 1}.
    """
    return Algorithm("FedProx", proximal(mu), WeightedMean(weights), average(learning_rate))


@FAMILY.entry("FedProx adaptive", papers.LI_2020_FEDPROX)
def fedprox_adaptive(
    mu: float = 0.0,
    step: float = 0.1,
    patience: int = 5,
    learning_rate: float | Schedule = 1.0,
    weights: Weights = None,
    window: int = 5,
) -> Algorithm:
    """As FedProx with mu + 0.1 when the loss rises, mu - 0.1 when it fell five times in a row.

    The loss is the mean of `window` rounds, or that of a round where all clients take part.
    """
    rule = AdaptiveMu(average(learning_rate), mu, step, patience, window)
    return Algorithm("FedProx adaptive", proximal_as_told(), WeightedMean(weights), rule)
