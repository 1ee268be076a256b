"""The streaming mean against its formula, and the updates that it refuses."""

import numpy as np
import pytest

from strategies import (
    Algorithm,
    FairMean,
    Median,
    NormalizedMean,
    Update,
    WeightedMean,
    average,
    clipped,
    measuring_loss,
    plain,
)
from strategies.protocols import Round
from strategies.spec import Spec

RNG = np.random.default_rng(2)


def folded(reducer, updates):
    partial = None
    for update in updates:
        partial = reducer.fold(partial, update)
    return reducer.finish(partial)


@pytest.mark.parametrize("size", [0, 1, 5, 32_768, 70_001])
def test_weighted_mean(size):
    deltas = RNG.normal(size=(6, size)).astype(np.float32)
    extras = RNG.normal(size=(6, 3)).astype(np.float32)
    counts = [5, 1, 40, 0, 7, 7]
    updates = [
        Update(i, n, d, extras={"c": e})
        for i, (n, d, e) in enumerate(zip(counts, deltas, extras, strict=True))
    ]
    for by, weights in (("examples", counts), ("uniform", [1] * 6)):
        mean = folded(WeightedMean(by), updates)
        expected = np.average(deltas.astype(np.float64), axis=0, weights=weights)
        np.testing.assert_allclose(mean.delta, expected, rtol=1e-12, atol=1e-15)
        expected = np.average(extras.astype(np.float64), axis=0, weights=weights)
        np.testing.assert_allclose(mean.extras["c"], expected, rtol=1e-12)
        assert (mean.weight, mean.clients) == (sum(weights), 6)
        assert mean.delta.dtype == mean.extras["c"].dtype == np.float64


def test_sums_are_float64_all_the_way():
    # 2^24 + 1 has no float32: a float32 sum would lose every one of the small updates.
    updates = [Update(0, 1, np.full(5, 2.0**24, np.float32))]
    updates += [Update(i, 1, np.ones(5, np.float32)) for i in range(1, 100)]
    mean = folded(WeightedMean(), updates)
    np.testing.assert_array_equal(mean.delta, (2**24 + 99) / 100)


N, STEPS, LOSSES = [5, 1, 40, 7], [1, 9, 2, 4], [0.5, 2.0, 1.0, 0.1]
SPEC = Spec(("w", "moving"), ((5,), (2,)), 1)


def three_rounds(algorithm):
    """Yield the deltas of three rounds and the model after each: five weights, two statistics."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=7)
    yield None, x
    state = algorithm.init(SPEC, x)
    for number in (1, 2, 3):
        deltas = rng.normal(size=(4, 7))
        updates = [
            Update(i, n, d, s, {}, {"initial_loss": f}, learning_rate=0.1, trainable=5)
            for i, (n, d, s, f) in enumerate(zip(N, deltas, STEPS, LOSSES, strict=True))
        ]
        mean = folded(algorithm.reducer, updates)
        x, state = algorithm.step(SPEC, x, state, mean, Round(number, 4))
        yield deltas, x


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_fednova(rho):
    rounds = three_rounds(Algorithm("nova", plain(), NormalizedMean(rho), average()))
    _, x = next(rounds)
    p = np.array(N) / sum(N)
    # Equation 7: the weight of step k of tau is (1 - rho^(tau - k)) / (1 - rho).
    tau = np.array([sum((1 - rho ** (s - k)) / (1 - rho) for k in range(s)) for s in STEPS])
    for deltas, model in rounds:
        head = (p @ tau) * (p / tau) @ deltas[:, :5]
        tail = np.average(deltas[:, 5:], axis=0, weights=p / tau)
        x = x + np.concatenate([head, tail])
        np.testing.assert_allclose(model, x, rtol=1e-10)


def test_fednova_is_fedavg_when_all_take_the_same_steps():
    updates = [
        Update(i, n, d, 3) for i, (n, d) in enumerate(zip(N, RNG.normal(size=(4, 5)), strict=True))
    ]
    nova, mean = folded(NormalizedMean(), updates), folded(WeightedMean(), updates)
    np.testing.assert_allclose(nova.scale * nova.delta, mean.delta, rtol=1e-12)


def test_fednova_leaves_out_a_client_without_steps():
    updates = [Update(0, 5, np.ones(5), 2), Update(1, 5, np.zeros(5), 0)]
    mean = folded(NormalizedMean(), updates)
    # tau_eff = 1/2 * 2, and half of the direction per step is 1 / 2.
    np.testing.assert_allclose(mean.scale * mean.delta, np.full(5, (0.5 * 2) * (0.5 * 1 / 2)))


@pytest.mark.parametrize("q", [0.0, 0.1, 2.0])
@pytest.mark.parametrize("lipschitz", [None, 3.0])
def test_q_fedavg(q, lipschitz):
    rounds = three_rounds(Algorithm("q", measuring_loss(), FairMean(q, lipschitz), average()))
    _, x = next(rounds)
    f, big_l = np.array(LOSSES), lipschitz or 1 / 0.1
    for deltas, model in rounds:
        gradients = -big_l * deltas[:, :5]
        h = q * f ** (q - 1) * np.sum(gradients**2, axis=1) + big_l * f**q
        head = -(f**q @ gradients) / np.sum(h)
        tail = np.average(deltas[:, 5:], axis=0, weights=f**q)
        x = x + np.concatenate([head, tail])
        np.testing.assert_allclose(model, x, rtol=1e-10)


@pytest.mark.parametrize(
    ("update", "text"),
    [
        (
            Update(3, 1, np.ones(5), metrics={"loss": 1.0}, learning_rate=0.1),
            "metrics of client 3 must have 'initial_loss', got ['loss']",
        ),
        (
            Update(3, 1, np.ones(5), metrics={"initial_loss": 1.0}),
            "learning_rate of the clients must be > 0 unless lipschitz is given, got 0.0",
        ),
    ],
)
def test_q_fedavg_says_what_a_client_lacks(update, text):
    with pytest.raises(ValueError) as caught:
        FairMean().lift(update)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: NormalizedMean(1.0), "client_momentum must be in [0, 1), got 1.0"),
        (lambda: FairMean(-1), "q must be >= 0, got -1"),
        (lambda: FairMean(1, 0.0), "lipschitz must be > 0, got 0.0"),
    ],
)
def test_bad_options(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text


def test_fold_changes_only_its_own_partial():
    delta = np.ones(5, np.float32)
    first = WeightedMean().fold(None, Update(0, 2, delta))
    second = WeightedMean().fold(first, Update(1, 3, delta))
    assert second is first
    np.testing.assert_array_equal(delta, np.ones(5))
    np.testing.assert_array_equal(second.delta, np.full(5, 5.0))


def test_bad_weighting():
    with pytest.raises(ValueError) as caught:
        WeightedMean("example")
    assert str(caught.value) == (
        "weights must be one of examples, uniform, got 'example'; did you mean 'examples'?"
    )


def test_a_cohort_without_examples_is_refused():
    with pytest.raises(ValueError) as caught:
        folded(WeightedMean(), [Update(0, 0, np.ones(5)), Update(1, 0, np.ones(5))])
    assert str(caught.value) == "total weight of the cohort must be > 0, got 0.0"


@pytest.mark.parametrize("reducer", [WeightedMean(), Median(), clipped(WeightedMean(), 9.0)])
def test_clients_with_different_extras_are_refused(reducer):
    a, b = Update(0, 1, np.ones(5), extras={"c": np.ones(5)}), Update(1, 1, np.ones(5))
    for join in (
        lambda: reducer.fold(reducer.lift(a), b),
        lambda: reducer.merge(reducer.lift(a), reducer.lift(b)),
    ):
        with pytest.raises(ValueError) as caught:
            join()
        assert str(caught.value) == "extras must be equal for all clients, got ['c'] and []"


def test_an_update_of_another_model_is_refused():
    reducer = WeightedMean()
    with pytest.raises(ValueError) as caught:
        reducer.fold(reducer.lift(Update(0, 1, np.ones(5))), Update(1, 1, np.ones(1)))
    assert str(caught.value) == "vector has shape (1,), expected (5,)"
