"""FedExP, FedAMS and TERM against their formulas, written out with NumPy."""

import numpy as np
import pytest

from strategies import Update, WeightedMean, average, catalog, measuring_loss, plain
from strategies.algorithm import Algorithm
from strategies.protocols import Round
from strategies.reducers import MeasuredMean, TiltedMean
from strategies.server_steps import Bounded, Extrapolated
from strategies.spec import Spec
from strategies.updates import Mean

RNG = np.random.default_rng(11)
START = RNG.normal(size=5)
DELTAS = RNG.normal(size=(3, 4, 5))
SPEC = Spec(("w", "moving"), ((5,), (2,)), 1)


def rounds(algorithm, deltas, **about):
    """Run an algorithm whose clients send these deltas [rounds, clients, 5]; return the models."""
    x, state, trail = np.zeros(7), None, []
    for number, cohort in enumerate(deltas, start=1):
        state = algorithm.init(SPEC, x) if state is None else state
        partial = None
        for i, delta in enumerate(cohort):
            metrics = {"initial_loss": 0.3 * (i + 1)}
            whole = np.append(delta, [0.5, -0.5])
            update = Update(i, i + 1, whole, 2, {}, metrics, trainable=5, **about)
            partial = algorithm.reducer.fold(partial, update)
        mean = algorithm.reducer.finish(partial)
        x, state = algorithm.step(SPEC, x, state, mean, Round(number, 10))
        trail.append(x)
    return np.array(trail)


def test_fedexp_steps_by_the_ratio_of_norms():
    x, expected = np.zeros(5), []
    for cohort in DELTAS:
        middle = cohort.mean(axis=0)
        ratio = np.sum(cohort**2) / (2 * len(cohort) * (middle @ middle + 1e-3))
        x = x + max(1.0, ratio) * middle
        expected.append(x)
    found = rounds(catalog.build("fedexp"), DELTAS)
    np.testing.assert_allclose(found[:, :5], expected, rtol=1e-10)
    # Moving statistics are averaged, whatever the step.
    np.testing.assert_allclose(found[-1, 5:], [1.5, -1.5], rtol=1e-12)


def test_fedexp_of_updates_that_agree_is_the_mean():
    same = np.repeat(DELTAS[:, :1], 4, axis=1)
    found = rounds(catalog.build("fedexp"), same)
    np.testing.assert_allclose(found[:, :5], np.cumsum(same[:, 0], axis=0), rtol=1e-10)


def test_fedams_has_a_second_moment_that_only_grows():
    lr, beta1, beta2, floor = 0.3, 0.8, 0.5, 0.2
    x, m, v, u, expected = START, 0.0, 0.0, floor, []
    for delta in (*DELTAS[:, 0], 1e-3 * DELTAS[0, 1]):
        m = beta1 * m + (1 - beta1) * delta
        v = beta2 * v + (1 - beta2) * delta**2
        u = np.maximum(u, v)
        x = x + lr * m / np.sqrt(u)
        expected.append(x)
    rule = Bounded(lr, beta1, beta2, floor)
    x, state, trail = START, rule.init(START), []
    for number, delta in enumerate((*DELTAS[:, 0], 1e-3 * DELTAS[0, 1]), start=1):
        x, state = rule.step(x, state, Mean(delta), Round(number, 10))
        trail.append(x)
    np.testing.assert_allclose(trail, expected, rtol=1e-10)
    assert set(state) == {"m", "v", "v_max"}


@pytest.mark.parametrize("t", [0.0, 1.0, 7.0])
def test_term_weighs_by_the_exponential_of_the_loss(t):
    a = np.exp(t * 0.3 * np.arange(1, 5))
    expected = np.cumsum([a @ cohort / a.sum() for cohort in DELTAS], axis=0)
    np.testing.assert_allclose(
        rounds(catalog.build("term", t=t), DELTAS)[:, :5], expected, rtol=1e-10
    )


def test_term_of_a_large_tilt_follows_the_largest_loss_and_stays_finite():
    found = rounds(catalog.build("term", t=400.0), DELTAS)
    np.testing.assert_allclose(found[:, :5], np.cumsum(DELTAS[:, 3], axis=0), rtol=1e-6)
    huge = rounds(catalog.build("term", t=1e9), DELTAS)
    np.testing.assert_allclose(huge[:, :5], np.cumsum(DELTAS.mean(axis=1), axis=0), rtol=1e-10)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Extrapolated(0.0), "epsilon must be > 0, got 0.0"),
        (lambda: Bounded(epsilon=0), "epsilon must be > 0, got 0"),
        (lambda: TiltedMean(-1.0), "t must be >= 0, got -1.0"),
        (
            lambda: Algorithm("x", plain(), WeightedMean("uniform"), Extrapolated()),
            "parts of 'x' must fit together: FedExP goes by the norms of the updates, which only "
            "MeasuredMean('uniform') tells, got WeightedMean(by='uniform')",
        ),
        (
            lambda: Algorithm("x", plain(), MeasuredMean(), Extrapolated()),
            "parts of 'x' must fit together: FedExP goes by the norms of the updates, which only "
            "MeasuredMean('uniform') tells, got MeasuredMean(by=None)",
        ),
        (
            lambda: Algorithm("x", plain(), TiltedMean(), average()),
            "parts of 'x' must fit together: TERM weighs clients by initial_loss, which this "
            "client rule does not measure",
        ),
        (
            lambda: TiltedMean().lift(Update(3, 1, START)),
            "metrics of client 3 must have 'initial_loss', got []",
        ),
    ],
)
def test_what_does_not_fit(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text


def test_tilts_combine_with_other_servers():
    both = rounds(Algorithm("x", measuring_loss(), TiltedMean(2.0), Bounded()), DELTAS)
    a = np.exp(2.0 * 0.3 * np.arange(1, 5))
    means = np.array([[a @ cohort / a.sum()] for cohort in DELTAS])
    alone = rounds(Algorithm("x", measuring_loss(), WeightedMean("uniform"), Bounded()), means)
    np.testing.assert_allclose(both[:, :5], alone[:, :5], rtol=1e-10)
