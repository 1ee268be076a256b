"""Entries whose clients change their loss: they see what models make of a batch."""

from __future__ import annotations

from strategies import citations_clients as papers
from strategies.algorithm import Algorithm
from strategies.by_class import ClassMeans, matching, prototypes
from strategies.distilling import calibrating, contrasting, decorrelating, distilling
from strategies.entry import Family
from strategies.reducers import WeightedMean
from strategies.schedules import Schedule
from strategies.servers import average
from strategies.weights import Weights

FAMILY = Family()


@FAMILY.entry("MOON", papers.LI_2021_MOON, mu=(0.1, 1.0, 5.0, 10.0))
def moon(
    mu: float | Schedule = 1.0,
    temperature: float = 0.5,
    learning_rate: float | Schedule = 1.0,
    weights: Weights = None,
) -> Algorithm:
    """Pull features to the model's, off the client's last: loss + mu * contrast, then as FedAvg.

    contrast = mean(-log(e^a / (e^a + e^b))) with a and b the cosines, over the temperature, of a
    row's features with those of the received model and of the client's last one. The paper chooses
    mu for each data set from {0.1, 1, 5, 10}.
    """
    rule = contrasting(mu, temperature)
    return Algorithm("MOON", rule, WeightedMean(weights), average(learning_rate))


@FAMILY.entry("FedNTD", papers.LEE_2022, beta=(0.3, 1.0, 3.0))
def fedntd(
    beta: float | Schedule = 1.0,
    temperature: float = 1.0,
    learning_rate: float | Schedule = 1.0,
    weights: Weights = None,
) -> Algorithm:
    """Keep the model's view of not-true classes: loss + beta * KL(q_x, q), then as FedAvg.

    q_x and q are the softmax over the classes that a row is not of, in the received model and in
    the client's, of logits over the temperature.
    """
    rule = distilling(beta, temperature)
    return Algorithm("FedNTD", rule, WeightedMean(weights), average(learning_rate))


@FAMILY.entry("FedLC", papers.ZHANG_2022, tau=(0.1, 0.5, 1.0))
def fedlc(
    tau: float | Schedule = 1.0, learning_rate: float | Schedule = 1.0, weights: Weights = None
) -> Algorithm:
    """Calibrate logits by a client's labels: f_c <- f_c - tau * n_c^(-1/4), then as FedAvg.

    n_c is how many rows of class c the client has; the model that is averaged is without it.
    """
    return Algorithm("FedLC", calibrating(tau), WeightedMean(weights), average(learning_rate))


@FAMILY.entry("FedDecorr", papers.SHI_2023, beta=(0.05, 0.1, 0.3))
def feddecorr(
    beta: float | Schedule = 0.1, learning_rate: float | Schedule = 1.0, weights: Weights = None
) -> Algorithm:
    """Decorrelate the features of a batch: loss + beta * ||K||_F^2 / D^2, then as FedAvg.

    K is the correlation matrix [D, D] of what the last layer with weights takes.
    """
    rule = decorrelating(beta)
    return Algorithm("FedDecorr", rule, WeightedMean(weights), average(learning_rate))


@FAMILY.entry("FedProto", papers.TAN_2022, mu=(0.1, 1.0, 10.0))
def fedproto(mu: float | Schedule = 1.0) -> Algorithm:
    """Send means of features by class alone, and pull features to those of all: loss + mu * d.

    d = mean((z - c_y)^2), over rows and features, to the mean c_y of the row's class. What the last
    layer with weights takes are the features; after its training each client tells their means. The
    models stay on the clients, who are measured with them as they are.
    """
    return Algorithm("FedProto", prototypes(mu), WeightedMean("uniform"), ClassMeans())


@FAMILY.entry("FedDistill", papers.JEONG_2018, gamma=(0.1, 1.0, 10.0))
def feddistill(gamma: float | Schedule = 0.1) -> Algorithm:
    """Send means of logits by class alone, and learn from those of all: loss + gamma * KL(p_y, p).

    p and p_y are the softmax of a row's logits, and of the mean logits of its class; after its
    training each client tells its means. The models stay on the clients.
    """
    return Algorithm("FedDistill", matching(gamma), WeightedMean("uniform"), ClassMeans())
