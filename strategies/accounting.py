"""The privacy that noise buys: epsilon from noise, sampling rate and rounds, and the other way.

The account is that of dp-accounting (the extra ``dp``), in Renyi divergences, for the mechanism
that runs. Neighbours are two populations that differ in one client:

- Poisson sampling, where each client takes part by itself with probability q: the one adds or
  removes a client, which moves the sum of the clipped updates by the clipping norm S at most;
- a cohort of fixed size, drawn uniformly without replacement: the one replaces a client by
  another, which moves the sum by 2 S.

Source: Mironov (2017), arXiv 1702.07476; with Poisson sampling, Mironov et al. (2019),
arXiv 1908.10530; without replacement, Wang et al. (2019), arXiv 1808.00087, theorem 27.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import exp, inf, log
from typing import Any

from strategies import checks

PRECISION = 1e-4
"""Relative width at which the search for a noise multiplier ends."""

LARGEST = 2.0**20
"""Where that search gives up."""

NEIGHBOURS = {
    "poisson": "add or remove one client",
    "uniform": "replace one client",
}
"""The neighbouring relation of the account, by how the cohort is drawn."""


def library() -> Any:
    """Return the module dp_accounting.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        import dp_accounting
    except ImportError:
        raise ValueError(
            "epsilon of differential privacy must be computed by the package dp-accounting, "
            "got none installed: pip install 'sunflower-fl[dp]'"
        ) from None
    return dp_accounting


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence dp-accounting's warnings about orders that it leaves out: epsilon stays a bound."""
    logger, handler = logging.getLogger("absl"), logging.NullHandler()
    level = logger.level
    logger.setLevel(logging.ERROR)
    # Where the root logger has no handler, absl would give it one that prints everybody's lines.
    logging.root.addHandler(handler)
    try:
        yield
    finally:
        logging.root.removeHandler(handler)
        logger.setLevel(level)


def default_delta(population: int) -> float:
    """Return the delta of McMahan et al. (2018): ``population ** -1.1``."""
    return float(population**-1.1)


@dataclass(frozen=True)
class Account:
    """What a run's account goes by.

    Args:
        rounds: T.
        population: N, the registered clients.
        cohort: how many take part in a round; with poisson sampling in the mean, q N.
        sampling: a key of :data:`NEIGHBOURS`.

    Raises:
        ValueError: for a sampling that has no account.
    """

    rounds: int
    population: int
    cohort: int
    sampling: str = "poisson"

    def __post_init__(self) -> None:
        check_sampling(self.sampling)

    @property
    def rate(self) -> float:
        """With which probability a client takes part in a round."""
        return self.cohort / self.population

    @property
    def neighbours(self) -> str:
        """The neighbouring relation, in words."""
        return NEIGHBOURS[self.sampling]


def check_sampling(sampling: str) -> None:
    """Raise ValueError unless privacy can be accounted for cohorts that are drawn so."""
    if sampling not in NEIGHBOURS:
        raise ValueError(
            "sampling must be 'poisson' or 'uniform' with noise for differential privacy, whose "
            f"account takes every client as equally likely, got {sampling!r}"
        )


@lru_cache(maxsize=256)
def _one_round(multiplier: float, rate: float, sampling: str) -> tuple[Any, Any]:
    """Return the orders of the account and the divergence of a round at each.

    These take a tenth of a second and add up over the rounds: an accountant would compute them
    anew for every round's record.
    """
    dp = library()
    relations = dp.NeighboringRelation
    if sampling == "poisson":
        accountant = dp.rdp.RdpAccountant(neighboring_relation=relations.ADD_OR_REMOVE_ONE)
        event = dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(multiplier))
    else:
        accountant = dp.rdp.RdpAccountant(neighboring_relation=relations.REPLACE_ONE)
        part = Fraction(rate).limit_denominator(2**31)  # The account goes by m / N alone.
        # Who replaces another moves the sum by 2 S: half as much noise, in units of that.
        noise = dp.GaussianDpEvent(multiplier / 2)
        event = dp.SampledWithoutReplacementDpEvent(part.denominator, part.numerator, noise)
    with _quiet():
        accountant.compose(event)
    return accountant.orders, accountant.rdp


def epsilon(
    multiplier: float, rate: float, rounds: int, delta: float, sampling: str = "poisson"
) -> float:
    """Return epsilon after some rounds; infinite without noise.

    Args:
        multiplier: standard deviation of the noise on the sum, in units of the clipping norm, >= 0.
        rate: with which probability a client takes part in a round, in (0, 1].
        rounds: how many, >= 0.
        delta: the probability with which epsilon may fail, in (0, 1].
        sampling: a key of :data:`NEIGHBOURS`.

    Raises:
        ValueError: for a value out of range, or without dp-accounting.
    """
    checks.number("multiplier", multiplier, ">= 0")
    checks.number("rate", rate, "in (0, 1]")
    checks.integer("rounds", rounds, ">= 0")
    checks.number("delta", delta, "in (0, 1]")
    checks.one_of("sampling", sampling, NEIGHBOURS)
    if rounds == 0:
        return 0.0
    if multiplier == 0:
        return inf
    orders, divergences = _one_round(float(multiplier), float(rate), sampling)
    return float(library().rdp.compute_epsilon(orders, rounds * divergences, delta)[0])


def noise_multiplier(
    target: float, rate: float, rounds: int, delta: float, sampling: str = "poisson"
) -> float:
    """Return the least noise multiplier (to 0.01%) that keeps epsilon at ``target`` or below.

    Args:
        target: epsilon after all rounds, > 0.
        rate: with which probability a client takes part in a round, in (0, 1].
        rounds: how many, >= 1.
        delta: the probability with which epsilon may fail, in (0, 1].
        sampling: a key of :data:`NEIGHBOURS`.

    Raises:
        ValueError: for a value out of range, or if no noise is enough.
    """
    from scipy.optimize import brentq  # Not at the start: `sunflower --help` needs none of it.

    checks.number("target_epsilon", target, "> 0")
    checks.integer("rounds", rounds, ">= 1")

    def excess(power: float) -> float:
        return log(epsilon(exp(power), rate, rounds, delta, sampling) / target)

    low, high, step = -log(2), 0.0, log(2)
    while excess(high) > 0:
        low, high = high, high + step
        if high > log(LARGEST):
            raise ValueError(
                f"target_epsilon must be reachable with a noise multiplier below {LARGEST:g}, "
                f"got {target!r}"
            )
    while excess(low) <= 0:
        low, high = low - step, low
    # The root is within a quarter of the precision: beyond that the target is kept.
    width = PRECISION / 4
    return exp(float(brentq(excess, low, high, xtol=width)) + width)
