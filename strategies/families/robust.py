"""Entries that withstand clients which attack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from strategies import checks
from strategies import citations_robust as papers
from strategies.algorithm import Algorithm
from strategies.centred import CentredClipping, Recalling
from strategies.clients import plain
from strategies.entry import Family
from strategies.filters import DivideAndConquer, FoolsGold, SignGuard
from strategies.mixing import Bucketed, NearestNeighbours
from strategies.robust import Bulyan, GeometricMedian, Krum, Median, Robust, TrimmedMean
from strategies.schedules import Schedule
from strategies.servers import average
from strategies.trust import TrustedMean
from strategies.weights import Weights

FAMILY = Family()

Rule = Literal["median", "trimmed-mean", "krum", "multi-krum", "rfa"]
"""A robust rule that others mix updates for."""

RULES: dict[str, Callable[[float], Robust]] = {
    "median": lambda share: Median(),
    "trimmed-mean": TrimmedMean,
    "krum": Krum,
    "multi-krum": lambda share: Krum(share, None),
    "rfa": lambda share: GeometricMedian(by="uniform"),
}
"""Each from the share of byzantine inputs that it is to withstand."""


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
    iterations: int | None = None,
    nu: float = 1e-6,
    learning_rate: float | Schedule = 1.0,
    weights: Weights = None,
) -> Algorithm:
    """Take the geometric median: x <- x + lr * argmin_v sum_i n_i ||v - delta_i||.

    Until it has converged, unless `iterations` says otherwise: the paper's experiments have 3.
    """
    reducer = GeometricMedian(iterations, nu, weights)
    return Algorithm("RFA", plain(), reducer, average(learning_rate))


@FAMILY.entry("Bulyan", papers.ELMHAMDI_2018)
def bulyan(byzantine: float = 0.1, learning_rate: float | Schedule = 1.0) -> Algorithm:
    """Choose n - 2f updates by Krum, average each coordinate around their median."""
    return Algorithm("Bulyan", plain(), Bulyan(byzantine), average(learning_rate))


@FAMILY.entry("Centred clipping", papers.KARIMIREDDY_2021, tau=(0.3, 1.0, 3.0))
def centred_clipping(
    tau: float = 1.0, iterations: int = 1, learning_rate: float | Schedule = 1.0
) -> Algorithm:
    """Clip around the last mean: v <- v + mean_i (delta_i - v) * min(1, tau / ||delta_i - v||).

    The paper's tau is 10, for gradients with momentum.
    """
    reducer = CentredClipping(tau, iterations)
    return Algorithm("Centred clipping", plain(), reducer, Recalling(average(learning_rate)))


@FAMILY.entry("Bucketing", papers.KARIMIREDDY_2022)
def bucketing(
    rule: Rule = "rfa",
    size: int = 2,
    byzantine: float = 0.1,
    learning_rate: float | Schedule = 1.0,
) -> Algorithm:
    """Give means of `size` random clients to a robust rule.

    `rule` is median, trimmed-mean, krum, multi-krum or rfa. A share `byzantine` of the clients is
    up to `size` times that of the buckets, which the rule is to withstand.
    """
    checks.integer("size", size, ">= 1")
    reducer = Bucketed(_rule(rule, "byzantine * size", byzantine * size), size)
    return Algorithm("Bucketing", plain(), reducer, average(learning_rate))


@FAMILY.entry("NNM", papers.ALLOUAH_2023)
def nnm(
    rule: Rule = "trimmed-mean", byzantine: float = 0.2, learning_rate: float | Schedule = 1.0
) -> Algorithm:
    """Give means of each client's n - f nearest neighbours to a robust rule.

    `rule` is median, trimmed-mean, krum, multi-krum or rfa.
    """
    reducer = NearestNeighbours(_rule(rule, "byzantine", byzantine), byzantine)
    return Algorithm("NNM", plain(), reducer, average(learning_rate))


@FAMILY.entry("DnC", papers.SHEJWALKAR_2021)
def dnc(
    byzantine: float = 0.2,
    iterations: int = 1,
    coordinates: int = 10_000,
    filter: float = 1.0,
    learning_rate: float | Schedule = 1.0,
) -> Algorithm:
    """Leave out the f clients that stand out along the direction in which updates differ most."""
    reducer = DivideAndConquer(byzantine, iterations, coordinates, filter)
    return Algorithm("DnC", plain(), reducer, average(learning_rate))


@FAMILY.entry("FoolsGold", papers.FUNG_2018)
def foolsgold(confidence: float = 1.0, learning_rate: float | Schedule = 1.0) -> Algorithm:
    """Weigh clients less whose updates resemble another's, as those of sybils do."""
    return Algorithm("FoolsGold", plain(), FoolsGold(confidence), average(learning_rate))


@FAMILY.entry("SignGuard", papers.XU_2022)
def signguard(
    lower: float = 0.1,
    upper: float = 3.0,
    share: float = 0.1,
    learning_rate: float | Schedule = 1.0,
) -> Algorithm:
    """Average those with a usual norm and usual signs, clipped to the median norm."""
    return Algorithm("SignGuard", plain(), SignGuard(lower, upper, share), average(learning_rate))


@FAMILY.entry("FLTrust", papers.CAO_2021)
def fltrust(learning_rate: float | Schedule = 1.0) -> Algorithm:
    """Trust those who agree with the server's own update g: t_i = max(0, cos(g, delta_i)).

    Updates are scaled to the length of g and averaged with the weights t_i. The server trains g as
    clients train, on examples that no client has: `partition.root` says how many.
    """
    return Algorithm("FLTrust", plain(), TrustedMean(), average(learning_rate))


def _rule(name: str, field: str, share: float) -> Robust:
    checks.one_of("rule", name, RULES)
    checks.number(field, share, "in [0, 0.5)")
    return RULES[name](share)
