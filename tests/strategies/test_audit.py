"""An audit: no attack on a released mean tells more than the epsilon that is reported.

What is released is a mean over a cohort, with noise. In one world a client sends S; in the
neighbouring one it sends nothing (it is removed) or -S (it is replaced). Who sees the number
guesses the world by a threshold. With the error rates a and b, privacy keeps
``log((1 - b - delta) / a)`` below epsilon (Kairouz et al. 2015, arXiv 1311.0776).
"""

from collections import Counter
from dataclasses import replace
from math import log

import numpy as np
import pytest
from scipy.stats import beta

from strategies import Cohort, Round, Update, catalog, epsilon
from strategies.reducing import finish

pytest.importorskip("dp_accounting")

DRAWS, NORM, TARGET = 100_000, 0.5, 0
"""Draws of each world, the clipping norm, and the client that is attacked."""

RISK = 1e-6
"""How often a bound of an error rate may fail."""


def released(algorithm, cohorts, sends, others):
    """Return a released number for each cohort; a client that sends None is not there."""
    kinds = Counter((TARGET in cohort, len(cohort)) for cohort in cohorts)
    numbers = []
    for seed, ((there, size), times) in enumerate(sorted(kinds.items())):
        partial = None
        for client, value in enumerate([others] * (size - there) + [sends] * there):
            if value is not None:
                # Clipping makes S of it, with the sign.
                update = Update(client, 1, np.array([9.0 * value]))
                partial = algorithm.reducer.fold(partial, update)
        mean = finish(algorithm.reducer, partial, 1)
        # Every entry of a vector gets noise of its own: as many releases of that mean.
        many = replace(mean, delta=np.repeat(mean.delta, times))
        numbers.append(algorithm.noise(many, Round(1, 1, seed)).delta)
    return np.concatenate(numbers)


def at_most(count):
    """Return an upper bound (Clopper and Pearson) of the rate behind ``count`` of DRAWS."""
    return beta.ppf(1 - RISK, count + 1, DRAWS - count)


def empirical(one, other, delta):
    """Return the largest epsilon that any threshold shows, surely."""
    best = 0.0
    for positive, negative in ((one, other), (-other, -one)):
        for threshold in np.quantile(negative, [0.5, 0.9, 0.99, 0.999, 0.9999, 1.0]):
            false_alarm = at_most(int((negative > threshold).sum()))
            missed = at_most(int((positive <= threshold).sum()))
            if 1 - missed - delta > 0:
                best = max(best, log((1 - missed - delta) / false_alarm))
    return best


@pytest.mark.parametrize(
    ("sampling", "neighbour", "others"),
    [pytest.param("poisson", None, 0.0, marks=pytest.mark.soak), ("uniform", -NORM, -NORM)],
)
def test_no_attack_beats_the_reported_epsilon(sampling, neighbour, others):
    multiplier, population, size, delta = 1.0, 8, 4, 1e-3
    algorithm = catalog.build("dp-fedavg", norm=NORM, noise_multiplier=multiplier, delta=delta)
    algorithm = algorithm.prepared(1, population, size, sampling)
    cohort = Cohort(size, seed=5, sampling=sampling)
    cohorts = [tuple(cohort.sample(r, population)) for r in range(1, DRAWS + 1)]
    one = released(algorithm, cohorts, NORM, others)
    found = empirical(one, released(algorithm, cohorts, neighbour, others), delta)
    reported = algorithm.notes({}, 1)["epsilon"]
    assert reported / 2 < found <= reported
    if sampling == "uniform":  # What is true of removing a client is not true of replacing one.
        assert found > epsilon(multiplier, size / population, 1, delta, "poisson")
