"""Server rules against their formulas: vectors of 5 numbers, 3 rounds, float64."""

import numpy as np
import pytest

from strategies import adagrad, adam, average, momentum, yogi
from strategies.protocols import Round
from strategies.updates import Mean

RNG = np.random.default_rng(0)
START = RNG.normal(size=5)
DELTAS = RNG.normal(size=(3, 5))


def run(rule, deltas=DELTAS):
    x, state, trail = START, rule.init(START), []
    for number, delta in enumerate(deltas, start=1):
        x, state = rule.step(x, state, Mean(delta), Round(number, 10))
        trail.append(x)
    return np.array(trail)


@pytest.mark.parametrize("lr", [1.0, 0.3])
def test_average(lr):
    x, expected = START, []
    for delta in DELTAS:
        x = x + lr * delta
        expected.append(x)
    np.testing.assert_allclose(run(average(lr)), expected, rtol=1e-10)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum(nesterov):
    lr, beta = 0.7, 0.8
    x, v, expected = START, 0.0, []
    for delta in DELTAS:
        v = beta * v + delta
        x = x + lr * (beta * v + delta if nesterov else v)
        expected.append(x)
    np.testing.assert_allclose(run(momentum(lr, beta, nesterov)), expected, rtol=1e-10)


def test_momentum_zero_is_the_average():
    np.testing.assert_array_equal(run(momentum(0.5, 0.0)), run(average(0.5)))


LR, BETA1, BETA2, TAU = 0.05, 0.8, 0.95, 0.02


@pytest.mark.parametrize(
    ("rule", "second"),
    [
        (adagrad(LR, BETA1, TAU), lambda v, d: v + d**2),
        (adam(LR, BETA1, BETA2, TAU), lambda v, d: BETA2 * v + (1 - BETA2) * d**2),
        (
            yogi(LR, BETA1, BETA2, TAU),
            lambda v, d: v - (1 - BETA2) * d**2 * np.where(v > d**2, 1, -1),
        ),
    ],
)
def test_adaptive_rules_without_bias_correction(rule, second):
    x, m, v, expected = START, 0.0, np.full(5, TAU**2), []
    for delta in DELTAS:
        m = BETA1 * m + (1 - BETA1) * delta
        v = second(v, delta)
        x = x + LR * m / (np.sqrt(v) + TAU)
        expected.append(x)
    np.testing.assert_allclose(run(rule), expected, rtol=1e-10)


def test_a_schedule_of_the_learning_rate_is_asked_for_each_round():
    trail = run(average(lambda round: 1 / round))
    expected = START + np.cumsum(DELTAS / np.array([[1], [2], [3]]), axis=0)
    np.testing.assert_allclose(trail, expected, rtol=1e-10)


@pytest.mark.parametrize("rule", [average(), momentum(), adagrad(), adam(), yogi()])
def test_the_model_keeps_its_dtype_and_the_state_is_float64(rule):
    model = START.astype(np.float32)
    moved, state = rule.step(model, rule.init(model), Mean(DELTAS[0]), Round(1, 10))
    assert moved.dtype == np.float32
    assert all(value.dtype == np.float64 for value in state.values())
    assert rule.share(state) == {}


def test_small_steps_are_not_lost_before_the_cast():
    # In float32 1 + 2^-25 is 1; the rule must add in float64 and cast once.
    model = np.ones(5, np.float32)
    moved, _ = average(2.0).step(model, {}, Mean(np.full(5, 2.0**-25)), Round(1, 1))
    np.testing.assert_array_equal(moved, np.float32(1 + 2 * 2.0**-25))
    moved, _ = average(4.0).step(model, {}, Mean(np.full(5, 2.0**-25)), Round(1, 1))
    np.testing.assert_array_equal(moved, np.float32(1 + 2.0**-23))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: average(0.0), "learning_rate must be > 0, got 0.0"),
        (lambda: average("1"), "learning_rate must be a number > 0, got '1'"),
        (lambda: average(True), "learning_rate must be a number > 0, got True"),
        (lambda: adam(float("nan")), "learning_rate must be > 0, got nan"),
        (lambda: adam(beta1=1.0), "beta1 must be in [0, 1), got 1.0"),
        (lambda: adam(beta2=-0.1), "beta2 must be in [0, 1), got -0.1"),
        (lambda: adam(tau=0), "tau must be > 0, got 0"),
        (lambda: yogi(beta1=2), "beta1 must be in [0, 1), got 2"),
        (lambda: adagrad(learning_rate=-1), "learning_rate must be > 0, got -1"),
        (lambda: momentum(beta=1), "beta must be in [0, 1), got 1"),
        (lambda: momentum(nesterov=1), "nesterov must be true or false, got 1"),
    ],
)
def test_bad_options(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text
