"""Clipping and noise: the bound holds, and the noise is what is stated."""

import numpy as np
import pytest

from strategies import (
    Algorithm,
    GaussianNoise,
    Mean,
    Median,
    Round,
    Spec,
    Update,
    WeightedMean,
    average,
    catalog,
    clipped,
    plain,
)

RNG = np.random.default_rng(6)


def reduced(reducer, deltas):
    partial = None
    for i, delta in enumerate(deltas):
        partial = reducer.fold(partial, Update(i, i + 1, delta))
    return reducer.finish(partial)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clipping_shrinks_what_is_longer_and_leaves_the_rest(dtype):
    deltas = (RNG.normal(size=(6, 5)) * 10.0 ** np.arange(-3, 3)[:, None]).astype(dtype)
    wide = deltas.astype(np.float64)
    short = wide * np.minimum(1, 0.7 / np.linalg.norm(wide, axis=1))[:, None]
    mean = reduced(clipped(WeightedMean(), 0.7), deltas)
    np.testing.assert_allclose(mean.delta, np.average(short, axis=0, weights=range(1, 7)))
    assert mean.sensitivity is None
    median = reduced(clipped(Median(), 0.7), deltas)
    np.testing.assert_allclose(median.delta, np.median(short, axis=0), rtol=1e-12)


@pytest.mark.parametrize("size", [5, 100_003])
def test_one_client_moves_the_mean_by_at_most_the_sensitivity(size):
    reducer = clipped(WeightedMean("uniform"), 0.5)
    deltas = 1e3 * RNG.normal(size=(8, size)).astype(np.float32)
    mean = reduced(reducer, deltas)
    without = reduced(reducer, [np.zeros(size, np.float32), *deltas[1:]])
    assert mean.sensitivity == 0.5 / 8
    moved = np.linalg.norm(mean.delta - without.delta)
    assert moved == pytest.approx(mean.sensitivity, rel=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_update_that_is_not_finite_counts_as_zero(bad):
    deltas = np.ones((3, 5), np.float32)
    deltas[1, 2] = bad
    mean = reduced(clipped(WeightedMean("uniform"), 100.0), deltas)
    np.testing.assert_array_equal(mean.delta, np.full(5, 2 / 3))


def test_noise_has_the_stated_variance_over_ten_thousand_draws():
    multiplier, norm, clients = 1.3, 0.5, 4
    mean = reduced(clipped(WeightedMean("uniform"), norm), np.zeros((clients, 5)))
    noise = GaussianNoise(multiplier)
    draws = np.array([noise(mean, Round(r, 10, seed=2)).delta for r in range(1, 10_001)])
    deviation = multiplier * norm / clients
    # Five standard errors: of a mean sigma / sqrt(n), of a variance sigma^2 sqrt(2 / n).
    assert np.all(np.abs(draws.mean(axis=0)) < 5 * deviation / 100)
    assert np.all(np.abs(draws.var(axis=0) / deviation**2 - 1) < 5 * np.sqrt(2 / 10_000))
    between = np.corrcoef(draws.T)[np.triu_indices(5, 1)]
    assert np.all(np.abs(between) < 5 / 100)
    successive = [np.corrcoef(draws[:-1, j], draws[1:, j])[0, 1] for j in range(5)]
    assert np.all(np.abs(successive) < 5 / 100)


def test_noise_is_that_of_the_seed_and_the_round():
    noise, mean = GaussianNoise(1.0), Mean(np.zeros(5), sensitivity=1.0)

    def draw(round, seed):
        return tuple(noise(mean, Round(round, 10, seed)).delta)

    assert draw(1, 0) == draw(1, 0)
    assert len({draw(1, 0), draw(2, 0), draw(1, 1)}) == 3


def test_noise_covers_the_moving_statistics_too():
    algorithm = catalog.build("dp-fedavg", norm=1.0, noise_multiplier=1.0)
    spec, x = Spec(("w", "moving"), ((3,), (2,)), 1), np.zeros(5, np.float32)
    mean = reduced(algorithm.reducer, np.zeros((2, 5), np.float32))
    moved, _ = algorithm.step(spec, x, algorithm.init(spec, x), mean, Round(1, 2))
    assert np.all(moved != 0)


def test_without_noise_dp_is_the_clipped_mean():
    quiet = catalog.build("dp-fedavg", norm=0.3, noise_multiplier=0.0)
    spec, x = Spec(("w",), ((5,),), 1), RNG.normal(size=5)
    deltas = RNG.normal(size=(4, 5))
    mean = reduced(quiet.reducer, deltas)
    moved, _ = quiet.step(spec, x, quiet.init(spec, x), mean, Round(1, 4))
    short = deltas * np.minimum(1, 0.3 / np.linalg.norm(deltas, axis=1))[:, None]
    np.testing.assert_allclose(moved, x + short.mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: clipped(Median(), 0.0), "norm must be > 0, got 0.0"),
        (lambda: GaussianNoise(-1.0), "multiplier must be >= 0, got -1.0"),
        (
            lambda: GaussianNoise(1.0)(Mean(np.zeros(5)), Round(1, 1)),
            "sensitivity of the mean must be known to add noise, got None",
        ),
        (
            lambda: Algorithm("x", plain(), clipped(Median(), 1.0), average(), GaussianNoise(1.0)),
            "parts of 'x' must fit together: noise needs a bound on what one client can change, "
            "which only clipped(WeightedMean('uniform'), norm) gives, "
            "got Clipped(reducer=Median(), norm=1.0)",
        ),
    ],
)
def test_bad_options(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text
