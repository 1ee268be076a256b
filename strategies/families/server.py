"""Entries whose server takes steps of an optimiser along the clients' mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from strategies import citations as papers
from strategies.algorithm import Algorithm
from strategies.clients import plain, proximal
from strategies.entry import Family
from strategies.reducers import MeasuredMean, WeightedMean
from strategies.schedules import Schedule
from strategies.server_steps import Bounded, Extrapolated
from strategies.servers import Momentum, adagrad, adam, yogi
from strategies.weights import Weights

FAMILY = Family()

ADAPTIVITY = (1e-4, 1e-3, 1e-2)
"""Values of tau to try: Reddi et al. go from 1e-5 to 1e-1, and find 1e-3 good nearly everywhere."""


def _steady(momentum: str) -> Callable[[Mapping[str, Any]], float]:
    """Return ``1 / (1 - momentum)`` of options: what steady updates come to."""
    return lambda options: 1 / (1 - float(options[momentum]))


@FAMILY.entry("FedAvgM", papers.HSU_2019, gain=_steady("beta"), beta=(0.7, 0.9, 0.97))
def fedavgm(
    learning_rate: float | Schedule = 1.0,
    beta: float = 0.9,
    nesterov: bool = False,
    weights: Weights = None,
) -> Algorithm:
    """Add momentum on the server: v <- beta * v + delta, x <- x + lr * v.

    Steady updates move the model by lr / (1 - beta) times their size: ten times with the defaults.
    """
    rule = Momentum(learning_rate, beta, nesterov)
    return Algorithm("FedAvgM", plain(), WeightedMean(weights), rule)


@FAMILY.entry("FedAdagrad", papers.REDDI_2021, tau=ADAPTIVITY)
def fedadagrad(
    learning_rate: float | Schedule = 0.1,
    beta1: float = 0.0,
    tau: float = 1e-3,
    weights: Weights = None,
) -> Algorithm:
    """Take a server Adagrad step: v <- v + delta^2, x <- x + lr * m / (sqrt(v) + tau)."""
    rule = adagrad(learning_rate, beta1, tau)
    return Algorithm("FedAdagrad", plain(), WeightedMean(weights), rule)


@FAMILY.entry("FedAdam", papers.REDDI_2021, tau=ADAPTIVITY)
def fedadam(
    learning_rate: float | Schedule = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.99,
    tau: float = 1e-3,
    weights: Weights = None,
) -> Algorithm:
    """Take a server Adam step: x <- x + lr * m / (sqrt(v) + tau), m, v moments of delta.

    The paper tunes lr for each data set; 0.01 is its choice for two of six.
    """
    rule = adam(learning_rate, beta1, beta2, tau)
    return Algorithm("FedAdam", plain(), WeightedMean(weights), rule)


@FAMILY.entry("FedYogi", papers.REDDI_2021, tau=ADAPTIVITY)
def fedyogi(
    learning_rate: float | Schedule = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.99,
    tau: float = 1e-3,
    weights: Weights = None,
) -> Algorithm:
    """Take a server Yogi step: as FedAdam, v <- v - (1 - b2) * d^2 * sign(v - d^2).

    The paper tunes lr for each data set; 0.01 is its choice for two of six.
    """
    rule = yogi(learning_rate, beta1, beta2, tau)
    return Algorithm("FedYogi", plain(), WeightedMean(weights), rule)


@FAMILY.entry("FedAMS", papers.WANG_2022, epsilon=(1e-6, 1e-4, 1e-2))
def fedams(
    learning_rate: float | Schedule = 0.1,
    beta1: float = 0.9,
    beta2: float = 0.99,
    epsilon: float = 1e-4,
    weights: Weights = None,
) -> Algorithm:
    """Take a server AMSGrad step: x <- x + lr * m / sqrt(u), u <- max(u, v, epsilon)."""
    rule = Bounded(learning_rate, beta1, beta2, epsilon)
    return Algorithm("FedAMS", plain(), WeightedMean(weights), rule)


@FAMILY.entry("FedExP", papers.JHUNJHUNWALA_2023, epsilon=(1e-3, 1e-2, 1e-1))
def fedexp(epsilon: float = 1e-3) -> Algorithm:
    """Step further: x <- x + max(1, mean ||delta_i||^2 / (2 ||delta||^2)) * delta.

    The plain mean over clients; epsilon is added to ||delta||^2.
    """
    return Algorithm("FedExP", plain(), MeasuredMean("uniform"), Extrapolated(epsilon))


@FAMILY.entry("FedACG", papers.KIM_2024, gain=_steady("momentum"), beta=(0.0001, 0.001, 0.01, 0.1))
def fedacg(
    momentum: float = 0.85, beta: float | Schedule = 0.001, weights: Weights = None
) -> Algorithm:
    """Send the model ahead: v <- momentum * v + delta, x <- x + delta + momentum * v.

    x is the model sent ahead, from which clients start, g <- g + beta * (w - x), and which is
    measured; without its look-ahead it is x - momentum * v, the paper's global model.
    """
    rule = Momentum(1.0, momentum, nesterov=True)
    return Algorithm("FedACG", proximal(beta), WeightedMean(weights), rule)
