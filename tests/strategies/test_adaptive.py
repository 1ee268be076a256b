"""What the server adapts: mu after the loss, the clipping norm after the updates' norms."""

from dataclasses import replace
from math import exp

import numpy as np
import pytest

from strategies import (
    AdaptiveClip,
    AdaptiveClipped,
    AdaptiveMu,
    Algorithm,
    GaussianNoise,
    Mean,
    Median,
    Round,
    Update,
    WeightedMean,
    adam,
    average,
    catalog,
    clipped,
    plain,
    proximal,
    proximal_as_told,
)
from strategies.reducing import bound

UNIFORM = WeightedMean("uniform")


def mus(losses, population=1, **options):
    """mu as clients are told it in each round, for the losses that a cohort of one reports."""
    rule = AdaptiveMu(average(), **options)
    model, state, told = np.zeros(3), rule.init(np.zeros(3)), []
    for number, loss in enumerate(losses, start=1):
        told.append(rule.share(state)["mu"])
        mean = Mean(np.ones(3), metrics={"loss": loss})
        model, state = rule.step(model, state, mean, Round(number, population))
    assert np.array_equal(model, np.full(3, float(len(losses))))
    return [*told, rule.share(state)["mu"]]


def test_mu_rises_with_the_loss():
    assert mus([1.0, 2.0, 3.0, 3.0]) == pytest.approx([0.0, 0.0, 0.1, 0.2, 0.2])


def test_mu_falls_after_five_falls_in_a_row_and_not_below_zero():
    falling = [2.0 - 0.1 * i for i in range(12)]
    told = mus(falling, mu=0.15)
    # The fifth fall is in the sixth round: the seventh is told the smaller mu.
    assert told == pytest.approx([0.15] * 6 + [0.05] * 5 + [0.0] * 2)
    broken = [5.0, 4.0, 3.0, 2.0, 1.0, 1.0, 0.9, 0.8]
    assert mus(broken, mu=1.0) == pytest.approx([1.0] * 9)


def falling_with_cohort_noise(seed):
    """A loss that falls in every round, seen through cohorts that differ."""
    t, rng = np.arange(200), np.random.default_rng(seed)
    return np.exp(-t / 100) + 0.3 + 0.1 * rng.normal(size=200)


def test_mu_does_not_climb_on_a_falling_loss_with_cohort_noise():
    smoothed = [mus(falling_with_cohort_noise(s), population=10)[-1] for s in range(20)]
    assert np.mean(smoothed) < 0.2 and max(smoothed) <= 0.4
    # Compared from round to round it goes from 0 to more than 3.
    ratchet = [mus(falling_with_cohort_noise(s), population=10, window=1)[-1] for s in range(20)]
    assert min(ratchet) > 3


def test_mu_rises_with_a_loss_that_rises_by_more_than_the_noise():
    rng = np.random.default_rng(0)
    rising = 1 + 0.02 * np.arange(100) + 0.02 * rng.normal(size=100)
    told = mus(rising, population=10)
    # 20 windows of five rounds, 19 comparisons; the first is made after round 10.
    assert told[:10] == [0.0] * 10 and told[10] == pytest.approx(0.1)
    assert told[-1] == pytest.approx(1.9)


def test_windows_are_compared_by_their_means_and_standard_errors():
    rng = np.random.default_rng(3)
    losses = rng.normal(1.0, 0.1, 60) + 0.05 * (np.arange(60) % 17)
    expected, mu, falls, before = [0.0], 0.2, 0, None
    for window in losses.reshape(-1, 4):
        mean, error = window.mean(), window.std(ddof=1) / np.sqrt(4)
        if before is not None:
            falls = falls + 1 if mean < before[0] else 0
            if mean - before[0] > 2 * np.hypot(error, before[1]):
                mu += 0.1
            elif falls == 2:
                mu, falls = max(0.0, mu - 0.1), 0
        before = mean, error
        expected.append(mu)
    told = mus(losses, population=10, mu=0.2, window=4, patience=2)
    assert told[4::4] == pytest.approx(expected[1:])
    assert len(set(expected[1:])) > 2


def test_step_patience_and_window_are_options():
    assert mus([1.0, 0.9, 0.8], mu=2.0, step_size=0.5, patience=2)[-1] == 1.5
    options = {"mu": 2.0, "step": 0.5, "patience": 2, "window": 3}
    rule = catalog.build("fedprox-adaptive", **options).server
    assert (rule.mu, rule.step_size, rule.patience, rule.window) == (2.0, 0.5, 2, 3)


def test_adaptive_mu_wraps_any_server_rule():
    algorithm = Algorithm("x", proximal_as_told(), Median(), AdaptiveMu(adam(0.1)))
    state = algorithm.server.init(np.zeros(2))
    known = {"mu", "mu.loss", "mu.variance", "mu.falls", "mu.rounds", "mu.sum", "mu.squares"}
    assert set(state) == {"m", "v"} | known
    mean = Mean(np.ones(2), metrics={"loss": 1.0})
    moved, after = algorithm.server.step(np.zeros(2), state, mean, Round(1, 1))
    expected, _ = adam(0.1).step(np.zeros(2), adam(0.1).init(np.zeros(2)), mean, Round(1, 1))
    np.testing.assert_array_equal(moved, expected)
    assert set(after) == set(state)
    g, w, w0 = np.array([1.0]), np.array([3.0]), np.array([1.0])
    assert algorithm.client.hook(g, w, w0, {"mu": 0.5}, {}) == 2.0


def test_a_round_without_a_loss_is_refused():
    rule = AdaptiveMu(average())
    with pytest.raises(ValueError) as caught:
        rule.step(np.zeros(1), rule.init(np.zeros(1)), Mean(np.zeros(1)), Round(1, 1))
    assert str(caught.value) == "metrics of the round must have 'loss' for an adaptive mu, got []"


def folded(reducer, norms):
    partial = None
    for i, norm in enumerate(norms):
        partial = reducer.fold(partial, Update(i, 1, np.array([norm, 0.0])))
    return reducer.finish(partial)


def test_the_norm_goes_to_the_quantile_of_the_updates():
    algorithm = catalog.build("dp-fedavg-adaptive", quantile=0.75, noise_multiplier=0.0)
    norms = np.linspace(0.1, 10, 41)
    model, state = np.zeros(2), algorithm.server.init(np.zeros(2))
    for number in range(1, 200):
        told = algorithm.share(state, number)
        mean = folded(bound(algorithm.reducer, told), norms)
        within = (norms <= told["clip"]).mean()
        assert mean.metrics["within"] == within
        assert mean.sensitivity == told["clip"] / len(norms)
        short = np.minimum(norms, told["clip"]).mean()
        assert mean.delta[0] == pytest.approx(short, rel=1e-12)
        model, state = algorithm.server.step(model, state, mean, Round(number, 50))
        assert state["clip"] == told["clip"] * exp(-0.2 * (within - 0.75))
    assert state["clip"] == pytest.approx(np.quantile(norms, 0.75), rel=0.05)


def test_partials_of_different_workers_count_together():
    reducer = AdaptiveClipped(UNIFORM, 1.0)
    norms = [0.5, 2.0, 0.9, 3.0, 1.0]
    lifted = [reducer.lift(Update(i, 1, np.array([n, 0.0]))) for i, n in enumerate(norms)]
    total = reducer.merge(reducer.merge(lifted[0], lifted[1]), lifted[2])
    total = reducer.merge(total, reducer.merge(lifted[3], lifted[4]))
    assert reducer.finish(total).metrics["within"] == 3 / 5
    assert reducer.finish(total).delta[0] == pytest.approx(np.minimum(norms, 1.0).mean())


@pytest.mark.parametrize("count_noise", [None, 2.0])
def test_count_and_mean_get_noise_that_costs_the_privacy_of_z_together(count_noise):
    z, clients, norm = 1.0, 100, 0.5
    noise = GaussianNoise(z, count_noise=count_noise)
    start = Mean(np.zeros(5), clients=clients, sensitivity=norm / clients, metrics={"within": 0.5})
    means = [noise(start, Round(r, 100, seed=4)) for r in range(1, 10_001)]
    b = clients / 20 if count_noise is None else count_noise
    spread = (z**-2 - (2 * b) ** -2) ** -0.5 * norm / clients
    draws = np.array([mean.delta for mean in means])
    tolerance = 5 * np.sqrt(2 / len(means))
    assert np.all(np.abs(draws.var(axis=0) / spread**2 - 1) < tolerance)
    counts = np.array([mean.metrics["within"] for mean in means])
    assert abs(counts.mean() - 0.5) < 5 * b / clients / 100
    assert abs(counts.var() / (b / clients) ** 2 - 1) < tolerance
    assert abs(np.corrcoef(counts, draws[:, 0])[0, 1]) < 5 / 100


def test_in_a_small_cohort_the_count_gets_at_least_the_noise_of_z():
    start = Mean(np.zeros(1), clients=4, sensitivity=1.0, metrics={"within": 0.5})
    means = [GaussianNoise(1.5)(start, Round(r, 4)) for r in range(1, 4001)]
    counts = np.array([mean.metrics["within"] for mean in means])
    assert abs(counts.var() / (1.5 / 4) ** 2 - 1) < 5 * np.sqrt(2 / len(means))


def test_a_reducer_without_adaptation_is_the_same_in_every_round():
    reducer = clipped(UNIFORM, 1.0)
    assert bound(reducer, {"clip": 5.0}) is reducer
    assert bound(AdaptiveClipped(UNIFORM, 1.0), {"clip": 5.0}) == AdaptiveClipped(UNIFORM, 5.0)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: AdaptiveMu(average(), mu=-1.0), "mu must be >= 0, got -1.0"),
        (lambda: AdaptiveMu(average(), step_size=0.0), "step must be > 0, got 0.0"),
        (lambda: AdaptiveMu(average(), patience=0), "patience must be >= 1, got 0"),
        (lambda: AdaptiveMu(average(), window=0), "window must be >= 1, got 0"),
        (lambda: AdaptiveClip(average(), norm=0.0), "norm must be > 0, got 0.0"),
        (lambda: AdaptiveClip(average(), quantile=1.0), "quantile must be in [0, 1), got 1.0"),
        (lambda: AdaptiveClip(average(), rate=0.0), "rate must be > 0, got 0.0"),
        (
            lambda: Algorithm("x", proximal(0.1), UNIFORM, AdaptiveMu(average())),
            "parts of 'x' must fit together: adaptive mu needs the client rule 'proximal as told', "
            "got 'proximal'",
        ),
        (
            lambda: Algorithm("x", proximal_as_told(), UNIFORM, average()),
            "client rule of 'x' must be used with a server rule that shares mu: proximal as told "
            "does not work with Average(learning_rate=1.0)",
        ),
        (
            lambda: Algorithm("x", plain(), AdaptiveClipped(Median(), 1.0), average()),
            "parts of 'x' must fit together: adaptive clipping counts clients, for which the mean "
            "must be WeightedMean('uniform'), got Median()",
        ),
        (
            lambda: Algorithm("x", plain(), AdaptiveClipped(UNIFORM, 1.0), average()),
            "parts of 'x' must fit together: adaptive clipping needs the server rule AdaptiveClip, "
            "got Average(learning_rate=1.0)",
        ),
        (
            lambda: Algorithm("x", plain(), clipped(UNIFORM, 1.0), AdaptiveClip(average())),
            "parts of 'x' must fit together: AdaptiveClip needs the reducer AdaptiveClipped, got "
            "Clipped(reducer=WeightedMean(by='uniform'), norm=1.0)",
        ),
    ],
)
def test_bad_options(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text


def test_notes_show_what_the_clients_were_told():
    algorithm = catalog.build("fedprox-adaptive", mu=0.3)
    shared = algorithm.share(algorithm.server.init(np.zeros(1)), 1)
    assert algorithm.notes(shared, 1) == {"mu": 0.3}
    private = replace(catalog.build("dp-fedavg-adaptive", norm=0.2), noise=None)
    shared = private.share(private.server.init(np.zeros(1)), 1)
    assert private.notes(shared, 1) == {"clip": 0.2}
