"""Entries that favour some clients: with large losses, or with labels as all have them."""

from __future__ import annotations

from strategies import citations as papers
from strategies.agnostic import Agnostic, AgnosticMean
from strategies.algorithm import Algorithm
from strategies.clients import measuring_loss
from strategies.discrepancy import DiscrepancyMean, telling_discrepancy
from strategies.entry import Family
from strategies.reducers import FairMean, TiltedMean
from strategies.schedules import Schedule
from strategies.servers import average
from strategies.weights import Weights

FAMILY = Family()


@FAMILY.entry("q-FedAvg", papers.LI_2020_FAIR, q=(0.001, 0.1, 1.0))
def q_fedavg(q: float = 0.1, lipschitz: float | None = None) -> Algorithm:
    """Favour large losses: x <- x + L * sum_i F_i^q delta_i / sum_i h_i.

    L is 1 / client learning rate unless given.
    """
    return Algorithm("q-FedAvg", measuring_loss(), FairMean(q, lipschitz), average())


@FAMILY.entry("TERM", papers.LI_2021_TILTED, t=(0.1, 1.0, 5.0))
def term(t: float = 1.0, learning_rate: float | Schedule = 1.0) -> Algorithm:
    """Tilt to large losses: x <- x + lr * sum_i e^(t F_i) delta_i / sum_i e^(t F_i)."""
    return Algorithm("TERM", measuring_loss(), TiltedMean(t), average(learning_rate))


@FAMILY.entry("AFL", papers.MOHRI_2019, dual_rate=(0.001, 0.01, 0.1))
def afl(dual_rate: float | Schedule = 0.01, learning_rate: float | Schedule = 1.0) -> Algorithm:
    """Weigh by a game against losses: x <- x + lr * sum_i lambda_i delta_i / sum_i lambda_i.

    lambda <- project(lambda + dual_rate * N / |S| * F) onto weights >= 0 of sum 1, F the clients'
    losses of the received model.
    """
    server = Agnostic(learning_rate, dual_rate)
    return Algorithm("AFL", measuring_loss(), AgnosticMean(), server)


@FAMILY.entry("FedDisco", papers.YE_2023, a=(0.1, 0.5, 1.0))
def feddisco(
    a: float = 0.5,
    b: float = 1.0,
    distance: str = "kl",
    target: str = "global",
    learning_rate: float | Schedule = 1.0,
    weights: Weights = None,
) -> Algorithm:
    """Weigh by size and labels: p_i = max(0, n_i - a * d_i + b), then as FedAvg with p_i for n_i.

    d_i is the distance (`kl`, `l2`) of a client's label distribution from that of all clients
    (target `global`) or from all classes alike (`uniform`). n_i and d_i are over their means of all
    clients, so that a and b do not depend on how many there are; the paper's 0.1 for b is that of
    10 clients.
    """
    rule = telling_discrepancy(distance, target)
    return Algorithm("FedDisco", rule, DiscrepancyMean(a, b, weights), average(learning_rate))
