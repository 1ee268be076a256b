"""Entries against what tells clients apart: their steps, and where their own data pulls them."""

from __future__ import annotations

from strategies import citations as papers
from strategies.algorithm import Algorithm
from strategies.clients import plain
from strategies.drift import Dynamic, Scaffold, control_variate, dynamic
from strategies.entry import Family
from strategies.mime import Mime, fixed_momentum
from strategies.reducers import MeasuredMean, NormalizedMean, WeightedMean
from strategies.schedules import Schedule
from strategies.servers import average
from strategies.shared_direction import ClientMomentum, Decoupled, client_momentum, decoupled
from strategies.weights import Weights

FAMILY = Family()


@FAMILY.entry("FedNova", papers.WANG_2020)
def fednova(
    learning_rate: float | Schedule = 1.0,
    client_momentum: float | None = None,
    weights: Weights = None,
) -> Algorithm:
    """Average deltas per step: x <- x + lr * (sum_i p_i tau_i) * sum_i p_i delta_i / tau_i.

    tau_i allows for the momentum of the clients' SGD, which is found; `client_momentum` is for
    clients of other programs, which do not tell it.
    """
    reducer = NormalizedMean(client_momentum, weights)
    return Algorithm("FedNova", plain(), reducer, average(learning_rate))


@FAMILY.entry("SCAFFOLD", papers.KARIMIREDDY_2020)
def scaffold(learning_rate: float | Schedule = 1.0) -> Algorithm:
    """Correct client drift by control variates: g <- g - c_i + c, then the uniform mean.

    Clients train with SGD; its momentum is allowed for (c_i' = c_i - c - delta / (||a||_1 lr), with
    ||a||_1 of FedNova, which is the number of steps without momentum).
    """
    reducer = WeightedMean("uniform")
    return Algorithm("SCAFFOLD", control_variate(), reducer, Scaffold(learning_rate))


@FAMILY.entry("FedDyn", papers.ACAR_2021, alpha=(0.001, 0.01, 0.1))
def feddyn(alpha: float = 0.01) -> Algorithm:
    """Regularise dynamically: g <- g - g_i + alpha * (w - x); x <- x + delta - h / alpha."""
    return Algorithm("FedDyn", dynamic(), WeightedMean("uniform"), Dynamic(alpha))


@FAMILY.entry("FedDC", papers.GAO_2022, alpha=(0.001, 0.01, 0.1))
def feddc(alpha: float = 0.01) -> Algorithm:
    """Decouple clients' drift: g <- g - c_i + c + alpha * (w - x + h_i); x <- x + delta + h.

    Clients train with SGD; c_i is that of SCAFFOLD, h_i the sum of what a client moved, and h the
    mean of h_i over all clients.
    """
    return Algorithm("FedDC", decoupled(), WeightedMean("uniform"), Decoupled(alpha))


@FAMILY.entry("FedCM", papers.XU_2021, alpha=(0.05, 0.1, 0.3))
def fedcm(alpha: float | Schedule = 0.1, learning_rate: float | Schedule = 1.0) -> Algorithm:
    """Mix the last mean direction into gradients: g <- alpha * g + (1 - alpha) * m.

    Clients train with SGD; m is the clients' mean delta over their steps and learning rates.
    """
    rule = ClientMomentum(learning_rate)
    return Algorithm("FedCM", client_momentum(alpha), MeasuredMean("uniform"), rule)


@FAMILY.entry("MimeLite", papers.KARIMIREDDY_2020_MIME, beta=(0.5, 0.9, 0.99))
def mimelite(beta: float = 0.9, learning_rate: float | Schedule = 1.0) -> Algorithm:
    """Mix a momentum of full gradients into gradients: g <- (1 - beta) * g + beta * m.

    Clients train with SGD; m, which stays as it is while they train, is made of the gradients of
    the received model on all examples of each: a pass over them, and an upload, more.
    """
    rule = Mime(beta, learning_rate)
    return Algorithm("MimeLite", fixed_momentum(), WeightedMean("uniform"), rule)
