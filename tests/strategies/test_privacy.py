"""Clipping and noise: the bound holds, and the noise is what is stated."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest

from strategies import (
    AdaptiveMu,
    Algorithm,
    Cohort,
    FairMean,
    Federated,
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
    control_variate,
    keeping,
    measuring_loss,
    plain,
    proximal_as_told,
)
from strategies.drift import Scaffold
from strategies.privacy import check_model, relative_length
from strategies.reducing import finish

RNG = np.random.default_rng(6)
UNIFORM, NOISE = clipped(WeightedMean("uniform"), 1.0), GaussianNoise(1.0)


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


@pytest.mark.parametrize("came", [0, 1, 3, 8])
def test_the_mean_is_over_a_fixed_number_of_clients_whoever_came(came):
    norm, clients = 0.5, 4
    reducer = clipped(WeightedMean("uniform"), norm).over(clients)
    deltas = RNG.normal(size=(came, 5))
    short = deltas * np.minimum(1, norm / np.linalg.norm(deltas, axis=1))[:, None]
    partial = None
    for i, delta in enumerate(deltas):
        partial = reducer.fold(partial, Update(i, i + 1, delta))
    mean = finish(reducer, partial, 5)
    np.testing.assert_allclose(mean.delta, short.sum(axis=0) / clients, rtol=1e-12, atol=1e-15)
    # Nothing that noise goes by depends on who came.
    assert (mean.clients, mean.weight) == (clients, clients)
    assert mean.sensitivity == norm / clients


def test_an_empty_cohort_gives_noise_alone_and_without_noise_nothing():
    algorithm = catalog.build("dp-fedavg", norm=0.5, noise_multiplier=2.0).over(4)
    noisy = algorithm.noise(finish(algorithm.reducer, None, 10_000), Round(1, 9, seed=1))
    assert noisy.delta.std() == pytest.approx(2.0 * 0.5 / 4, rel=5 / np.sqrt(2 * 10_000))
    plain = catalog.build("norm-clipping")
    assert plain.over(4) is plain and finish(plain.reducer, None, 5) is None


@pytest.mark.parametrize(("came", "within"), [(0, 0), (3, 3), (6, 2), (4, 1)])
def test_the_count_of_a_varying_cohort_moves_by_half_a_client(came, within):
    algorithm = catalog.build("dp-fedavg-adaptive", norm=1.0).over(4)
    norms = [0.5] * within + [2.0] * (came - within)
    partial = None
    for i, norm in enumerate(norms):
        partial = algorithm.reducer.fold(partial, Update(i, 1, np.array([norm])))
    mean = finish(algorithm.reducer, partial, 1)
    centred = sum((norm <= 1.0) - 0.5 for norm in norms)
    assert mean.metrics["within"] == pytest.approx(0.5 + centred / 4, rel=1e-12)


def test_the_server_rule_sees_nothing_of_the_cohort_without_noise():
    algorithm = catalog.build("dp-fedavg", norm=0.5).over(4)
    mean = reduced(algorithm.reducer, np.ones((3, 5)))
    told = algorithm.noise(replace(mean, metrics={**mean.metrics, "loss": 1.5}), Round(1, 9))
    assert told.metrics == {} and (told.clients, told.weight) == (4, 4)


def test_without_a_seed_noise_is_the_operating_systems_and_has_the_stated_variance():
    mean = Mean(np.zeros(20_000), clients=4, sensitivity=0.25, metrics={"within": 0.5})
    noise = GaussianNoise(1.3)
    one, two = (noise(mean, Round(1, 9, seed=None)) for _ in range(2))
    assert not np.any(one.delta == two.delta)
    assert one.metrics["within"] != two.metrics["within"]
    scaled = np.concatenate([one.delta, two.delta]) / (noise.of_mean(4, True) * 0.25)
    assert kstest(scaled, "norm").pvalue > 1e-6


def test_the_noise_is_compared_with_the_clipping_norm():
    z, clients, parameters = 1.0, 10, 225_034
    fixed = catalog.build("dp-fedavg", norm=0.3, noise_multiplier=z).over(clients)
    length = z / clients * np.sqrt(parameters)
    assert relative_length(fixed, parameters) == pytest.approx(length, rel=1e-12)
    mean = finish(fixed.reducer, None, parameters)
    drawn = np.linalg.norm(fixed.noise(mean, Round(1, 9)).delta) / 0.3
    assert drawn == pytest.approx(length, rel=0.01)
    adaptive = catalog.build("dp-fedavg-adaptive", noise_multiplier=z).over(clients)
    louder = (1 - 1 / 4) ** -0.5  # the count's noise is that of z, which halves at b = 1
    assert relative_length(adaptive, parameters) == pytest.approx(louder * length, rel=1e-12)
    assert relative_length(catalog.build("fedavg"), parameters) is None


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
        (
            lambda: Algorithm("x", proximal_as_told(), UNIFORM, AdaptiveMu(average()), NOISE),
            "parts of 'x' must fit together: adaptive mu goes by the clients' losses, which noise "
            f"for differential privacy does not hide, got the noise {NOISE}",
        ),
        (
            lambda: Algorithm("x", keeping("*/dense/*"), UNIFORM, average(), NOISE),
            "parts of 'x' must fit together: noise would change the server's copy of the layers "
            "that clients keep, with which each begins, got local layers */dense/*",
        ),
        (
            lambda: Algorithm("x", measuring_loss(), clipped(FairMean(), 1.0), average(), NOISE),
            "parts of 'x' must fit together: noise needs a bound on what one client can change, "
            "which only clipped(WeightedMean('uniform'), norm) gives, "
            f"got {clipped(FairMean(), 1.0)}",
        ),
        (
            lambda: Algorithm("x", control_variate(), UNIFORM, Scaffold(), NOISE),
            "parts of 'x' must fit together: clipping bounds the delta but not the extras that the "
            "client rule 'control variate' uploads",
        ),
        (
            lambda: check_model(
                catalog.build("dp-fedavg"),
                Spec(("bn/gamma", "bn/moving_mean", "bn/moving_variance"), ((2,),) * 3, 1),
            ),
            "model must have trainable weights only with noise for differential privacy, which "
            "makes moving variances negative (use GroupNormalization or LayerNormalization), got "
            "bn/moving_mean and 1 more",
        ),
        (
            lambda: Federated(catalog.build("dp-fedavg"), Cohort(5, sampling="power-of-choice")),
            "sampling must be 'poisson' or 'uniform' with noise for differential privacy, whose "
            "account takes every client as equally likely, got 'power-of-choice'",
        ),
    ],
)
def test_bad_options(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text
