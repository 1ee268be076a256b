"""Entries that withstand clients which attack."""

from __future__ import annotations

from strategies import citations as papers
from strategies.algorithm import Algorithm
from strategies.clients import plain
from strategies.entry import Family
from strategies.robust import Bulyan, GeometricMedian, Krum, Median, TrimmedMean
from strategies.schedules import Schedule
from strategies.servers import average
from strategies.weights import Weights

FAMILY = Family()


@FAMILY.entry("Median", papers.YIN_2018)
def median(learning_rate: float | Schedule = 1.0) -> Algorithm:
    """Take the median of every coordinate: x_j <- x_j + lr * median_i delta_ij."""
    return Algorithm("Median", plain(), Median(), average(learning_rate))


@FAMILY.entry("Trimmed mean", papers.YIN_2018)
def trimmed_mean(beta: float = 0.2, learning_rate: float | Schedule = 1.0) -> Algorithm:
    """Average every coordinate without its share beta of lowest and of highest values."""
    return Algorithm("Trimmed mean", plain(), TrimmedMean(beta), average(learning_rate))


@FAMILY.entry("Krum", papers.BLANCHARD_2017)
def krum(byzantine: float = 0.2, learning_rate: float | Schedule = 1.0) -> Algorithm:
    """Take the one update closest to its n - f - 2 nearest neighbours."""
    return Algorithm("Krum", plain(), Krum(byzantine), average(learning_rate))


@FAMILY.entry("Multi-Krum", papers.BLANCHARD_2017)
def multi_krum(
    byzantine: float = 0.2, select: int | None = None, learning_rate: float | Schedule = 1.0
) -> Algorithm:
    """Average the updates closest to their n - f - 2 nearest neighbours (n - f of them)."""
    return Algorithm("Multi-Krum", plain(), Krum(byzantine, select), average(learning_rate))


@FAMILY.entry("RFA", papers.PILLUTLA_2022)
def rfa(
    iterations: int = 3,
    nu: float = 1e-6,
    learning_rate: float | Schedule = 1.0,
    weights: Weights = None,
) -> Algorithm:
    """Take the geometric median: x <- x + lr * argmin_v sum_i n_i ||v - delta_i||."""
    reducer = GeometricMedian(iterations, nu, weights)
    return Algorithm("RFA", plain(), reducer, average(learning_rate))


@FAMILY.entry("Bulyan", papers.ELMHAMDI_2018)
def bulyan(byzantine: float = 0.1, learning_rate: float | Schedule = 1.0) -> Algorithm:
    """Choose n - 2f updates by Krum, average each coordinate around their median."""
    return Algorithm("Bulyan", plain(), Bulyan(byzantine), average(learning_rate))
