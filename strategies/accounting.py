"""The privacy that noise buys: epsilon from noise, sampling rate and rounds, and the other way.

The account is that of dp-accounting (the extra ``dp``), in Renyi divergences. It takes a cohort as
if every client took part with the same probability, independently, as is usual in the field; our
cohorts have a fixed size of the same mean.

Source: Mironov (2017), arXiv 1702.07476; with sampling, Mironov et al. (2019), arXiv 1908.10530.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from math import inf
from typing import Any

from strategies import checks

PRECISION = 1e-4
"""Relative width at which the search for a noise multiplier ends."""

LARGEST = 2.0**20
"""Where that search gives up."""


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


@lru_cache(maxsize=256)
def _one_round(multiplier: float, rate: float) -> tuple[Any, Any]:
    """Return the orders of the account and the divergence of a round at each.

    These take a tenth of a second and add up over the rounds: an accountant would compute them
    anew for every round's record.
    """
    dp = library()
    accountant = dp.rdp.RdpAccountant()
    with _quiet():
        accountant.compose(dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(multiplier)))
    return accountant._orders, accountant._rdp


def epsilon(multiplier: float, rate: float, rounds: int, delta: float) -> float:
    """Return epsilon after some rounds; infinite without noise.

    Args:
        multiplier: standard deviation of the noise on the sum, in units of the clipping norm, >= 0.
        rate: which part of the clients takes part in a round, in (0, 1].
        rounds: how many, >= 0.
        delta: the probability with which epsilon may fail, in (0, 1].

    Raises:
        ValueError: for a value out of range, or without dp-accounting.
    """
    checks.number("multiplier", multiplier, ">= 0")
    checks.number("rate", rate, "in (0, 1]")
    checks.integer("rounds", rounds, ">= 0")
    checks.number("delta", delta, "in (0, 1]")
    if rounds == 0:
        return 0.0
    if multiplier == 0:
        return inf
    orders, divergences = _one_round(float(multiplier), float(rate))
    return float(library().rdp.compute_epsilon(orders, rounds * divergences, delta)[0])


def noise_multiplier(target: float, rate: float, rounds: int, delta: float) -> float:
    """Return the least noise multiplier (to 0.01%) that keeps epsilon at ``target`` or below.

    Args:
        target: epsilon after all rounds, > 0.
        rate: which part of the clients takes part in a round, in (0, 1].
        rounds: how many, >= 1.
        delta: the probability with which epsilon may fail, in (0, 1].

    Raises:
        ValueError: for a value out of range, or if no noise is enough.
    """
    checks.number("target_epsilon", target, "> 0")
    checks.integer("rounds", rounds, ">= 1")
    low, high = 0.0, 1.0
    while epsilon(high, rate, rounds, delta) > target:
        low, high = high, 2 * high
        if high > LARGEST:
            raise ValueError(
                f"target_epsilon must be reachable with a noise multiplier below {LARGEST:g}, "
                f"got {target!r}"
            )
    while high - low > PRECISION * high:
        middle = (low + high) / 2
        if epsilon(middle, rate, rounds, delta) > target:
            low = middle
        else:
            high = middle
    return high
