"""Centred clipping against Algorithm 2 of its paper, written out with NumPy, over rounds."""

import numpy as np
import pytest

from strategies import CentredClipping, Update, WeightedMean, average, catalog, plain
from strategies.algorithm import Algorithm
from strategies.centred import Recalling
from strategies.protocols import Round
from strategies.reducing import during
from strategies.spec import Spec

RNG = np.random.default_rng(17)
DELTAS = RNG.normal(size=(4, 6, 5)) + np.linspace(-1, 1, 5)
TAIL = RNG.normal(size=(6, 2))
SPEC = Spec(("w", "moving"), ((5,), (2,)), 1)


def trail(algorithm):
    """Return the models of rounds in which clients send these deltas."""
    x, state, found = np.zeros(7), None, []
    for number, cohort in enumerate(DELTAS, start=1):
        state = algorithm.init(SPEC, x) if state is None else state
        at, partial = Round(number, 6), None
        for i, delta in enumerate(cohort):
            whole = np.append(delta, TAIL[i])
            partial = algorithm.reducer.fold(partial, Update(i, 1, whole, 1, trainable=5))
        mean = during(algorithm.reducer, at, state).finish(partial)
        x, state = algorithm.step(SPEC, x, state, mean, at)
        found.append(x)
    return np.array(found)


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("tau", [0.5, 2.0, 100.0])
def test_it_is_algorithm_2_around_the_last_mean(tau, iterations):
    v, x, expected = np.zeros(5), np.zeros(5), []
    for cohort in DELTAS:
        for _ in range(iterations):
            away = cohort - v
            factor = np.minimum(1, tau / np.linalg.norm(away, axis=1))
            v = v + (factor[:, None] * away).mean(axis=0)
        x = x + v
        expected.append(x)
    found = trail(catalog.build("centred-clipping", tau=tau, iterations=iterations))
    np.testing.assert_allclose(found[:, :5], expected, rtol=1e-9)


def test_moving_statistics_and_extras_get_the_weights_of_the_clipping():
    reducer = CentredClipping(0.5)
    partial = None
    for i, delta in enumerate(DELTAS[0]):
        whole = np.append(delta, TAIL[i])
        partial = reducer.fold(partial, Update(i, 1, whole, 1, {"c": 2 * delta}, trainable=5))
    mean = reducer.finish(partial)
    weights = np.minimum(1, 0.5 / np.linalg.norm(DELTAS[0], axis=1)) / 6
    np.testing.assert_allclose(mean.delta[5:], weights @ TAIL, rtol=1e-12)
    np.testing.assert_allclose(mean.extras["c"], weights @ (2 * DELTAS[0]), rtol=1e-12)


def test_without_clipping_it_is_the_mean():
    found = trail(catalog.build("centred-clipping", tau=1e9))
    np.testing.assert_allclose(found[:, :5], np.cumsum(DELTAS.mean(axis=1), axis=0), rtol=1e-9)


def test_attackers_move_it_by_their_share_of_tau_alone():
    deltas = np.ones((20, 30)) + 0.1 * RNG.normal(size=(20, 30))
    deltas[:4] = 1e6 * RNG.normal(size=(4, 30))
    reducer, centre = CentredClipping(1.0), np.zeros(30)
    for _ in range(30):
        partial = None
        for i, delta in enumerate(deltas):
            partial = reducer.fold(partial, Update(i, 1, delta))
        centre = during(reducer, Round(1, 20), {"centre": centre}).finish(partial).delta
    assert np.linalg.norm(centre - 1) < 0.5


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: CentredClipping(0.0), "tau must be > 0, got 0.0"),
        (lambda: CentredClipping(1.0, 0), "iterations must be >= 1, got 0"),
        (
            lambda: Algorithm("x", plain(), CentredClipping(), average()),
            "parts of 'x' must fit together: centred clipping needs the server rule Recalling, "
            "got Average(learning_rate=1.0)",
        ),
        (
            lambda: Algorithm("x", plain(), WeightedMean(), Recalling(average())),
            "parts of 'x' must fit together: Recalling keeps a mean for CentredClipping alone, "
            "got WeightedMean(by=None)",
        ),
    ],
)
def test_what_does_not_fit(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text
