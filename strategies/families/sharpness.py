"""Entries whose clients take gradients at other points than the weights."""

from __future__ import annotations

from strategies import citations_clients as papers
from strategies.algorithm import Algorithm
from strategies.entry import Family
from strategies.reducers import MeasuredMean, WeightedMean
from strategies.schedules import Schedule
from strategies.servers import average
from strategies.shared_direction import ClientMomentum
from strategies.sharpness import extrapolated, sharp_momentum, sharpness_aware
from strategies.weights import Weights

FAMILY = Family()


@FAMILY.entry("FedSAM", papers.CALDAROLA_2022, rho=(0.01, 0.05, 0.1))
def fedsam(
    rho: float | Schedule = 0.05,
    learning_rate: float | Schedule = 1.0,
    weights: Weights = None,
) -> Algorithm:
    """Take gradients where the loss is worst nearby: grad F(w + rho * g / ||g||), then as FedAvg.

    g is the gradient at w, over all weights. A step takes two gradients.
    """
    rule = sharpness_aware(rho)
    return Algorithm("FedSAM", rule, WeightedMean(weights), average(learning_rate))


@FAMILY.entry("FedASAM", papers.CALDAROLA_2022, rho=(0.1, 0.5, 1.0))
def fedasam(
    rho: float | Schedule = 0.5,
    eta: float = 0.2,
    learning_rate: float | Schedule = 1.0,
    weights: Weights = None,
) -> Algorithm:
    """As FedSAM, by the weights' sizes: grad F(w + rho * T^2 g / ||T g||) with T = |w| + eta.

    A step takes two gradients.
    """
    rule = sharpness_aware(rho, eta)
    return Algorithm("FedASAM", rule, WeightedMean(weights), average(learning_rate))


@FAMILY.entry("MoFedSAM", papers.QU_2022, rho=(0.01, 0.05, 0.1), alpha=(0.05, 0.1, 0.3))
def mofedsam(
    rho: float | Schedule = 0.05,
    alpha: float | Schedule = 0.1,
    learning_rate: float | Schedule = 1.0,
) -> Algorithm:
    """Mix the last mean direction into FedSAM's gradients: g <- alpha * g' + (1 - alpha) * m.

    Clients train with SGD; m is the clients' mean delta over their steps and learning rates, as
    FedCM's. A step takes two gradients.
    """
    rule = sharp_momentum(rho, alpha)
    return Algorithm("MoFedSAM", rule, MeasuredMean("uniform"), ClientMomentum(learning_rate))


@FAMILY.entry("FedSpeed", papers.SUN_2023, rho=(0.01, 0.1), mu=(0.01, 0.1))
def fedspeed(
    rho: float | Schedule = 0.1,
    alpha: float | Schedule = 0.9,
    mu: float = 0.1,
    learning_rate: float | Schedule = 1.0,
) -> Algorithm:
    """Gradients at w and w + rho * g, with a correction and a pull; x <- x + mean(delta - c / mu).

    g <- (1 - alpha) * g + alpha * grad F(w + rho * g) - c_i + mu * (w - x), and after training
    c_i <- c_i - mu * delta_i. A step takes two gradients. mu is the paper's 1 / lambda.
    """
    rule = extrapolated(rho, alpha, mu)
    return Algorithm("FedSpeed", rule, WeightedMean("uniform"), average(learning_rate))
