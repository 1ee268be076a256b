"""Entries that favour clients with large losses."""

from __future__ import annotations

from strategies import citations as papers
from strategies.algorithm import Algorithm
from strategies.clients import measuring_loss
from strategies.entry import Family
from strategies.reducers import FairMean, TiltedMean
from strategies.schedules import Schedule
from strategies.servers import average

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
