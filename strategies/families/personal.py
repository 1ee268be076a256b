"""Entries with layers that stay on the client."""

from __future__ import annotations

from strategies import checks
from strategies import citations as papers
from strategies.algorithm import Algorithm
from strategies.entry import Family
from strategies.personal import LAST, keeping
from strategies.reducers import WeightedMean
from strategies.schedules import Schedule
from strategies.servers import average
from strategies.weights import Weights

FAMILY = Family()


@FAMILY.entry("FedPer", papers.ARIVAZHAGAN_2019)
def fedper(
    layers: int = 1, learning_rate: float | Schedule = 1.0, weights: Weights = None
) -> Algorithm:
    """Keep the last layers on the client and average the others as FedAvg does."""
    checks.integer("layers", layers, ">= 1")
    rule = keeping(f"{LAST}{layers}")
    return Algorithm("FedPer", rule, WeightedMean(weights), average(learning_rate))


@FAMILY.entry("FedBN", papers.LI_2021_FEDBN)
def fedbn(
    layers: str = "*batch_normalization*",
    learning_rate: float | Schedule = 1.0,
    weights: Weights = None,
) -> Algorithm:
    """Keep batch normalisation on the client and average the other layers as FedAvg does."""
    return Algorithm("FedBN", keeping(layers), WeightedMean(weights), average(learning_rate))
