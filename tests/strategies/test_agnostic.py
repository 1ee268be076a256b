"""AFL against its formula, written out with NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies import Update, WeightedMean, average, catalog, measuring_loss, plain
from strategies.agnostic import Agnostic, AgnosticMean, on_simplex
from strategies.algorithm import Algorithm
from strategies.protocols import Round
from strategies.reducing import during
from strategies.spec import Spec

SPEC = Spec(("w", "moving"), ((4,), (1,)), 1)
CLIENTS = 6
CENTRES = np.random.default_rng(4).normal(size=(CLIENTS, 4))
COHORTS = [(0, 3, 4), (5, 1), range(CLIENTS), (2, 0, 1, 5)]


def loss(client, x):
    """The loss of a client: a quadratic, larger for those with a higher number."""
    return (client + 1) * np.sum((x - CENTRES[client]) ** 2)


def nearest(point):
    """Return the nearest point of the simplex by bisection: max(point - t, 0) adds up to 1."""
    low, high = point.min() - 1, point.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(point - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(point - high, 0)


def test_weights_climb_with_the_losses_of_the_cohort():
    rate, dual = 0.3, 0.002
    algorithm = catalog.build("afl", dual_rate=dual, learning_rate=rate)
    x, weights = np.zeros(5), np.full(CLIENTS, 1 / CLIENTS)
    state, expected = algorithm.init(SPEC, x), np.zeros(5)
    for number, cohort in enumerate(COHORTS, start=1):
        at = Round(number, CLIENTS)
        reducer, partial = during(algorithm.reducer, at, state), None
        for client in reversed(cohort):
            delta = np.append(0.1 * (CENTRES[client] - x[:4]), float(client))
            told = {"initial_loss": loss(client, x[:4])}
            update = Update(client, 9, delta, 2, {}, told, trainable=4)
            partial = reducer.fold(partial, update)
        mean = reducer.finish(partial)
        assert mean.clients == len(cohort) and not mean.extras
        x, state = algorithm.step(SPEC, x, dict(state), mean, at)
        mine = weights[list(cohort)]
        mine = mine / mine.sum()
        losses = [loss(client, expected[:4]) for client in cohort]
        moved = mine @ (0.1 * (CENTRES[list(cohort)] - expected[:4]))
        tail = expected[4] + mine @ np.array(cohort, float)
        expected = np.append(expected[:4] + rate * moved, tail)
        weights[list(cohort)] += dual * CLIENTS / len(cohort) * np.array(losses)
        weights = nearest(weights)
        np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-9)
        of = dict(zip(state["seen"].tolist(), state["weights"], strict=True))
        found = [of.get(client, state["others"]) for client in range(CLIENTS)]
        np.testing.assert_allclose(found, weights, atol=1e-9)
    assert weights.argmax() != 0 and np.ptp(weights) > 0.05


def test_a_cohort_that_weighs_nothing_moves_nothing():
    algorithm = catalog.build("afl")
    state = {"seen": np.array([0, 7], np.uint64), "weights": np.array([0.0, 1.0]), "others": 0.0}
    reducer = during(algorithm.reducer, Round(2, 3), state)
    update = Update(0, 5, np.ones(5), 1, {}, {"initial_loss": 1.0}, trainable=4)
    mean = reducer.finish(reducer.lift(update))
    np.testing.assert_array_equal(mean.delta, 0)


@settings(deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=9))
def test_the_nearest_point_of_the_simplex(values):
    found = on_simplex(np.array(values))
    np.testing.assert_allclose(found, nearest(np.array(values)), atol=1e-9)
    assert found.min() >= 0 and found.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Agnostic(0.0), "learning_rate must be > 0, got 0.0"),
        (lambda: Agnostic(dual_rate=-1.0), "dual_rate must be > 0, got -1.0"),
        (
            lambda: Algorithm("x", measuring_loss(), WeightedMean("uniform"), Agnostic()),
            "AFL's server rule needs AgnosticMean, got WeightedMean",
        ),
        (
            lambda: Algorithm("x", measuring_loss(), AgnosticMean(), average()),
            "AgnosticMean's weights are those of Agnostic",
        ),
        (
            lambda: Algorithm("x", plain(), AgnosticMean(), Agnostic()),
            "AFL goes by initial_loss, which this client rule does not measure",
        ),
    ],
)
def test_bad_options_and_parts(make, text):
    with pytest.raises(ValueError, match=text):
        make()
