"""Weights of the mean: data size counts once, whichever way the cohort is drawn."""

from statistics import NormalDist

import numpy as np
import pytest

from strategies import Algorithm, Cohort, Median, Update, WeightedMean, average, catalog, clipped
from strategies import plain as plain_clients
from strategies.label_discrepancy import RELATIVE_SIZE
from strategies.weights import weighed, weights_of

OPEN = [name for name in catalog.names() if "weights" in catalog.entry(name).options]

CLIENTS, TENTH = 100, 10
# Log-normal sizes of which the largest tenth holds 0.30.
QUANTILES = (np.arange(CLIENTS) + 0.5) / CLIENTS
SIGMA = NormalDist().inv_cdf(0.30) - NormalDist().inv_cdf(0.10)
SIZES = np.round(1000 * np.exp(SIGMA * np.array([NormalDist().inv_cdf(q) for q in QUANTILES])))


def weight_of_the_largest(algorithm, sampling, rounds=2000):
    """The largest tenth's part of the mean, over many cohorts of ten."""
    cohort, parts = Cohort(size=10, sampling=sampling, seed=5), []
    for number in range(1, rounds + 1):
        partial = None
        for i in cohort.sample(number, CLIENTS, sizes=SIZES.astype(int)):
            update = Update(i, int(SIZES[i]), np.array([float(i >= CLIENTS - TENTH)]))
            partial = algorithm.reducer.fold(partial, update)
        parts.append(algorithm.reducer.finish(partial).delta[0])
    return np.mean(parts)


def test_a_cohort_drawn_by_size_is_not_weighed_by_size_again():
    share = SIZES[-TENTH:].sum() / SIZES.sum()
    assert share == pytest.approx(0.30, abs=0.02)
    fedavg = catalog.build("fedavg")
    once = weight_of_the_largest(weighed(fedavg, "by-size"), "by-size")
    assert once == pytest.approx(share, abs=0.03)  # not quite: nobody is drawn twice
    chosen = catalog.build("fedavg", weights="examples")
    assert weighed(chosen, "by-size") == chosen
    assert weight_of_the_largest(chosen, "by-size") == pytest.approx(0.52, abs=0.03)
    uniformly = weight_of_the_largest(weighed(fedavg, "uniform"), "uniform")
    assert uniformly == pytest.approx(share, abs=0.04)  # biased: cohorts of ten are small


@pytest.mark.parametrize("name", OPEN)
def test_every_averaging_strategy_takes_weights(name, updates):
    given = updates(catalog.build(name), 7, 5)
    middle = np.mean([u.examples for u in given])

    def holding(u, examples, size):
        metrics = {**u.metrics, RELATIVE_SIZE: size}
        return Update(u.client, examples, u.delta, u.steps, u.extras, metrics, 0.1)

    cohort = [holding(u, u.examples, u.examples / middle) for u in given]
    alike = [holding(u, 1, 1.0) for u in given]

    def mean(algorithm, of):
        partial = None
        for update in of:
            partial = algorithm.reducer.fold(partial, update)
        found = algorithm.reducer.finish(partial)
        return found.scale * found.delta

    open_, uniform = catalog.build(name), catalog.build(name, weights="uniform")
    examples = catalog.build(name, weights="examples")
    np.testing.assert_array_equal(mean(open_, cohort), mean(examples, cohort))
    np.testing.assert_allclose(mean(uniform, cohort), mean(examples, alike), rtol=1e-12)
    assert not np.allclose(mean(uniform, cohort), mean(examples, cohort))
    for sampling in ("by-size", "power-of-choice"):
        assert weighed(open_, sampling) == uniform
        assert weighed(examples, sampling) == examples
    for sampling in ("uniform", "round-robin"):
        assert weighed(open_, sampling) == open_
    told = [weights_of(one.reducer) for one in (open_, examples, uniform)]
    assert told == ["examples", "examples", "uniform"]


def test_what_averages_by_examples_has_the_option():
    """No entry weighs by examples without saying so."""
    by_examples = {n for n in catalog.names() if weights_of(catalog.build(n).reducer) == "examples"}
    assert by_examples == set(OPEN)
    assert weights_of(clipped(Median(), 1.0)) is None


def test_parts_of_ones_own_are_weighed_too():
    behind = Algorithm("mine", plain_clients(), clipped(WeightedMean(), 1.0), average())
    assert weighed(behind, "by-size").reducer == clipped(WeightedMean("uniform"), 1.0)
    robust = Algorithm("mine", plain_clients(), Median(), average())
    assert weighed(robust, "by-size") == robust


def test_other_weights_are_refused():
    with pytest.raises(ValueError) as caught:
        catalog.build("fedprox", weights="unifrom")
    assert str(caught.value) == (
        "weights must be one of examples, uniform, got 'unifrom'; did you mean 'uniform'?"
    )
