"""FedCM, MimeLite, FedDC and FedACG against references written from the papers, on quadratics."""

import numpy as np
import pytest

from strategies import Cohort, MeasuredMean, WeightedMean, average, catalog, plain
from strategies.algorithm import Algorithm
from strategies.client_rule import ClientRule
from strategies.mime import Mime, fixed_momentum
from strategies.shared_direction import ClientMomentum, Decoupled, client_momentum, decoupled
from tests.strategies.test_drift import CLIENTS, DIM, LR, STEPS, gradient, simulate

ALL, SOME = Cohort(), Cohort(size=2, seed=1)


def fedcm_reference(rounds, cohort, alpha, server_lr):
    """Xu et al., Algorithm 1, with a server rate of ``server_lr * K * lr``."""
    x, direction, trail = np.zeros(DIM), np.zeros(DIM), []
    for number in range(1, rounds + 1):
        sampled, moved = cohort.sample(number, CLIENTS), []
        for i in sampled:
            y = x.copy()
            for _ in range(STEPS):
                y = y - LR * (alpha * gradient(i, y) + (1 - alpha) * direction)
            moved.append(y - x)
        direction = -sum(moved) / (LR * STEPS * len(sampled))
        x = x - server_lr * STEPS * LR * direction
        trail.append(x)
    return np.array(trail)


def feddc_reference(rounds, cohort, alpha):
    """Gao et al., Algorithm 1, with the gradient correction of the authors' code."""
    w, c, ci = np.zeros(DIM), np.zeros(DIM), np.zeros((CLIENTS, DIM))
    h, trail = np.zeros((CLIENTS, DIM)), []
    for number in range(1, rounds + 1):
        sampled, ends, change = cohort.sample(number, CLIENTS), [], np.zeros(DIM)
        for i in sampled:
            t = w.copy()
            for _ in range(STEPS):
                t = t - LR * (gradient(i, t) + (c - ci[i]) + alpha * (t - (w - h[i])))
            h[i] = h[i] + (t - w)
            after = ci[i] - c - (t - w) / (STEPS * LR)
            change += after - ci[i]
            ci[i] = after
            ends.append(t)
        c = c + change / CLIENTS
        w = np.mean(ends, axis=0) + h.mean(axis=0)
        trail.append(w)
    return np.array(trail)


def fedacg_reference(rounds, cohort, momentum, beta):
    """Kim et al., Algorithm 1; returns the models that clients start from."""
    theta, m, trail = np.zeros(DIM), np.zeros(DIM), []
    for number in range(1, rounds + 1):
        start, moved = theta + momentum * m, []
        for i in cohort.sample(number, CLIENTS):
            w = start.copy()
            for _ in range(STEPS):
                w = w - LR * (gradient(i, w) + beta * (w - start))
            moved.append(w - start)
        m = momentum * m + np.mean(moved, axis=0)
        theta = theta + m
        trail.append(theta + momentum * m)
    return np.array(trail)


def mimelite_reference(rounds, cohort, beta, server_lr):
    """Karimireddy et al., Algorithm 1 (MimeLite), with SGD with momentum."""
    x, m, trail = np.zeros(DIM), np.zeros(DIM), []
    for number in range(1, rounds + 1):
        sampled, ends = cohort.sample(number, CLIENTS), []
        full = [gradient(i, x) for i in sampled]
        for i in sampled:
            y = x.copy()
            for _ in range(STEPS):
                y = y - LR * ((1 - beta) * gradient(i, y) + beta * m)
            ends.append(y)
        x = x + server_lr * (np.mean(ends, axis=0) - x)
        m = (1 - beta) * np.mean(full, axis=0) + beta * m
        trail.append(x)
    return np.array(trail)


@pytest.mark.parametrize("cohort", [ALL, SOME])
@pytest.mark.parametrize("server_lr", [1.0, 0.5])
def test_mimelite_is_algorithm_1(cohort, server_lr):
    algorithm = catalog.build("mimelite", beta=0.6, learning_rate=server_lr)
    expected = mimelite_reference(12, cohort, 0.6, server_lr)
    np.testing.assert_allclose(simulate(algorithm, 12, cohort), expected, rtol=1e-9)


@pytest.mark.parametrize("cohort", [ALL, SOME])
@pytest.mark.parametrize("server_lr", [1.0, 0.5])
def test_fedcm_is_algorithm_1(cohort, server_lr):
    algorithm = catalog.build("fedcm", alpha=0.3, learning_rate=server_lr)
    expected = fedcm_reference(12, cohort, 0.3, server_lr)
    found = simulate(algorithm, 12, cohort, rate=LR)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("cohort", [ALL, SOME])
@pytest.mark.parametrize("alpha", [0.01, 0.5])
def test_feddc_is_algorithm_1(cohort, alpha):
    ours = simulate(catalog.build("feddc", alpha=alpha), 12, cohort)
    np.testing.assert_allclose(ours, feddc_reference(12, cohort, alpha), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cohort", [ALL, SOME])
def test_fedacg_is_algorithm_1(cohort):
    ours = simulate(catalog.build("fedacg", momentum=0.6, beta=0.2), 12, cohort)
    np.testing.assert_allclose(ours, fedacg_reference(12, cohort, 0.6, 0.2), rtol=1e-9)


@pytest.mark.parametrize("nesterov", [False, True])
def test_directions_allow_for_momentum(nesterov):
    """Clients with one gradient everywhere send it as the direction, whatever their momentum."""

    def constant(i, w):
        return np.array([1.0, -2.0, 0.5, 3.0])

    algorithm = catalog.build("fedcm", alpha=1.0)
    state = simulate(
        algorithm, 1, ALL, grad=constant, momentum=(0.9, nesterov), rate=LR, state_too=True
    )
    np.testing.assert_allclose(state["m"], constant(0, None), rtol=1e-10)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: client_momentum(0.0), "alpha must be in (0, 1], got 0.0"),
        (lambda: catalog.build("feddc", alpha=0.0), "alpha must be > 0, got 0.0"),
        (lambda: catalog.build("mimelite", beta=1.0), "beta must be in [0, 1), got 1.0"),
        (
            lambda: Algorithm("x", client_momentum(0.5), WeightedMean("uniform"), Mime()),
            "parts of 'x' must fit together: MimeLite's server rule needs the client rule 'fixed "
            "momentum', got 'client momentum'",
        ),
        (
            lambda: Algorithm("x", fixed_momentum(), WeightedMean(), Mime()),
            "parts of 'x' must fit together: MimeLite corrects the plain mean over clients, which "
            "only WeightedMean('uniform') gives, got WeightedMean(by=None)",
        ),
        (
            lambda: ClientRule("x", gradient=True),
            "gradient of client rule 'x' must be among its uploads, and of clients with sgd, got "
            "uploads () and sgd False",
        ),
        (
            lambda: Algorithm("x", plain(), MeasuredMean("uniform"), ClientMomentum()),
            "parts of 'x' must fit together: FedCM's server rule needs the client rule 'client "
            "momentum', got 'plain'",
        ),
        (
            lambda: Algorithm("x", client_momentum(0.1), WeightedMean(), ClientMomentum()),
            "parts of 'x' must fit together: FedCM takes a direction from the clients' paths, "
            "which only MeasuredMean tells, got WeightedMean(by=None)",
        ),
        (
            lambda: Algorithm("x", plain(), WeightedMean("uniform"), Decoupled()),
            "parts of 'x' must fit together: FedDC's server rule needs the client rule 'decoupled "
            "drift', got 'plain'",
        ),
        (
            lambda: Algorithm("x", decoupled(), WeightedMean(), Decoupled()),
            "parts of 'x' must fit together: FedDC corrects the plain mean over clients, which "
            "only WeightedMean('uniform') gives, got WeightedMean(by=None)",
        ),
        (
            lambda: Algorithm("x", decoupled(), WeightedMean("uniform"), average()),
            "client rule of 'x' must be used with a server rule that shares alpha, c: decoupled "
            "drift does not work with Average(learning_rate=1.0)",
        ),
        (
            lambda: simulate(catalog.build("fedcm"), 1, ALL),
            "FedCM must have clients that take steps, with one learning rate > 0, got none",
        ),
    ],
)
def test_what_does_not_fit(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text
