"""Robust reducers against their definitions, written out plainly, and against attackers."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize

from strategies import Bulyan, GeometricMedian, Krum, Median, TrimmedMean, Update, WeightedMean

RNG = np.random.default_rng(5)
DELTAS = RNG.normal(size=(11, 5))
EXAMPLES = [int(n) for n in RNG.integers(1, 30, 11)]


def reduced(reducer, deltas=DELTAS, examples=EXAMPLES, extras=None):
    partial = None
    for i, (delta, n) in enumerate(zip(deltas, examples, strict=False)):
        own = {} if extras is None else {"c": extras[i]}
        partial = reducer.fold(partial, Update(i, n, delta, extras=own))
    return reducer.finish(partial)


def test_median():
    for count in (11, 10):
        expected = []
        for column in DELTAS[:count].T:
            values = sorted(column)
            middle = values[(count - 1) // 2 : count // 2 + 1]
            expected.append(sum(middle) / len(middle))
        mean = reduced(Median(), DELTAS[:count])
        np.testing.assert_allclose(mean.delta, expected, rtol=1e-12)
        assert (mean.clients, mean.weight) == (count, sum(EXAMPLES[:count]))


@pytest.mark.parametrize(("beta", "cut"), [(0.0, 0), (0.2, 2), (0.49, 5)])
def test_trimmed_mean(beta, cut):
    expected = [np.mean(sorted(column)[cut : 11 - cut]) for column in DELTAS.T]
    np.testing.assert_allclose(reduced(TrimmedMean(beta)).delta, expected, rtol=1e-12)


def test_trimmed_mean_cuts_what_a_person_means():
    # 0.29 * 100 is 28.999999999999996 in floating point; 29 clients go at each end.
    deltas = RNG.normal(size=(100, 5))
    expected = np.sort(deltas, axis=0)[29:71].mean(axis=0)
    mean = reduced(TrimmedMean(0.29), deltas, [1] * 100)
    np.testing.assert_allclose(mean.delta, expected, rtol=1e-12)


def plain_krum_scores(deltas, f):
    scores = []
    for i, a in enumerate(deltas):
        distances = sorted(float((a - b) @ (a - b)) for j, b in enumerate(deltas) if j != i)
        scores.append(sum(distances[: max(len(deltas) - f - 2, 1)]))
    return scores


@pytest.mark.parametrize(("byzantine", "f"), [(3, 3), (0.2, 2), (0, 0), (4.0, 4)])
@pytest.mark.parametrize("select", [1, 4, None])
def test_krum(byzantine, f, select):
    order = np.argsort(plain_krum_scores(DELTAS, f))
    chosen = order[: 11 - f if select is None else select]
    mean = reduced(Krum(byzantine, select), extras=2 * DELTAS)
    np.testing.assert_allclose(mean.delta, DELTAS[chosen].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(mean.extras["c"], 2 * DELTAS[chosen].mean(axis=0), rtol=1e-12)


def test_krum_distances_survive_a_large_common_part():
    # What all clients share, here 1e6 times what tells them apart, must cancel exactly enough.
    near = reduced(Krum(3), DELTAS)
    far = reduced(Krum(3), DELTAS + 1e6)
    np.testing.assert_allclose(far.delta - 1e6, near.delta, atol=1e-9)


def test_bulyan():
    f, left, chosen = 2, list(range(11)), []
    while len(chosen) < 11 - 2 * f:
        chosen.append(left.pop(int(np.argmin(plain_krum_scores(DELTAS[left], f)))))
    expected = []
    for column in DELTAS[chosen].T:
        nearest = sorted(column, key=lambda value: abs(value - np.median(column)))
        expected.append(np.mean(nearest[: 11 - 4 * f]))
    np.testing.assert_allclose(reduced(Bulyan(2)).delta, expected, rtol=1e-12)


def test_geometric_median_is_three_weiszfeld_steps():
    n = np.array(EXAMPLES, float)
    v = np.average(DELTAS, axis=0, weights=n)
    for _ in range(3):
        b = n / np.maximum(1e-6, np.linalg.norm(DELTAS - v, axis=1))
        v = b @ DELTAS / b.sum()
    np.testing.assert_allclose(reduced(GeometricMedian(3)).delta, v, rtol=1e-12)


def test_geometric_median_minimises_the_sum_of_distances():
    def total(v):
        return np.dot(EXAMPLES, np.linalg.norm(DELTAS - v, axis=1))

    best = minimize(total, DELTAS.mean(axis=0), method="BFGS", options={"gtol": 1e-9})
    for reducer in (GeometricMedian(iterations=300), GeometricMedian()):
        np.testing.assert_allclose(reduced(reducer).delta, best.x, atol=1e-5)


@pytest.mark.parametrize("far", [1.0, 1e3, 1e9])
def test_the_converged_median_is_that_of_the_definition_however_far_attackers_are(far):
    deltas = np.ones((20, 30)) + 0.1 * RNG.normal(size=(20, 30))
    deltas[:6] += far * RNG.normal(size=(6, 30))
    found = reduced(GeometricMedian(), deltas, [1] * 20).delta
    # Where the sum of distances is least, the directions to the points cancel out.
    ways = deltas - found
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    assert np.linalg.norm(ways.sum(axis=0)) < 1e-4


def test_geometric_median_stays_finite_on_a_client_that_sits_at_the_median():
    deltas = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    for reducer in (GeometricMedian(iterations=50), GeometricMedian()):
        mean = reduced(reducer, deltas, [1] * 5)
        np.testing.assert_allclose(mean.delta, [0.0, 0.0], atol=1e-9)


RFA = GeometricMedian(iterations=20)
CONVERGED = GeometricMedian()
ROBUST = [Median(), TrimmedMean(0.25), Krum(0.2), Krum(0.2, None), RFA, CONVERGED, Bulyan(4)]


@pytest.mark.parametrize("reducer", ROBUST)
def test_the_order_of_the_clients_changes_no_bit(reducer):
    deltas = RNG.normal(size=(20, 40)).astype(np.float32)
    expected = reduced(reducer, deltas, [1] * 20).delta
    for seed in range(5):
        partials = []
        for group in np.array_split(np.random.default_rng(seed).permutation(20), 4):
            partial = None
            for i in group:
                partial = reducer.fold(partial, Update(int(i), 1, deltas[i]))
            partials.append(partial)
        total = partials[0]
        for partial in partials[1:]:
            total = reducer.merge(total, partial)
        assert reducer.finish(total).delta.tobytes() == expected.tobytes()


@pytest.mark.parametrize("reducer", ROBUST)
@pytest.mark.parametrize("attack", ["sign flip", "far away", "same point"])
def test_a_fifth_of_attackers_moves_the_mean_and_not_the_robust_rules(reducer, attack):
    truth = np.ones(30)
    deltas = truth + 0.1 * RNG.normal(size=(20, 30))
    deltas[:4] = {
        "sign flip": -10 * deltas[:4],
        "far away": 1e6 * RNG.normal(size=(4, 30)),
        "same point": np.full((4, 30), 50.0),
    }[attack]
    spoiled = np.linalg.norm(reduced(WeightedMean(), deltas, [1] * 20).delta - truth)
    robust = np.linalg.norm(reduced(reducer, deltas, [1] * 20).delta - truth)
    assert spoiled > 10
    assert robust < 1.2


def test_the_papers_three_iterations_are_few_against_updates_blown_up():
    deltas = np.ones((20, 30)) + 0.1 * RNG.normal(size=(20, 30))
    deltas[:4] = 1e6 * RNG.normal(size=(4, 30))
    errors = [
        np.linalg.norm(reduced(GeometricMedian(count), deltas, [1] * 20).delta - 1)
        for count in (3, 20, None)
    ]
    assert errors[0] > 100 and errors[1] < 1 and errors[2] < 0.2


def test_blocks_of_columns_join_without_seams():
    deltas = RNG.normal(size=(4, 600_000)).astype(np.float32)  # more than two blocks
    wide = deltas.astype(np.float64)
    np.testing.assert_array_equal(
        reduced(Median(), deltas).delta, np.sort(wide, axis=0)[1:3].mean(axis=0)
    )
    scores = plain_krum_scores(wide, 0)
    best = int(np.argmin(scores))
    np.testing.assert_allclose(reduced(Krum(0), deltas).delta, wide[best], rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: TrimmedMean(0.5), "beta must be in [0, 0.5), got 0.5"),
        (
            lambda: Krum(0.5),
            "byzantine must be a whole number >= 1 or a share in [0, 0.5), got 0.5",
        ),
        (
            lambda: Bulyan(1.5),
            "byzantine must be a whole number >= 1 or a share in [0, 0.5), got 1.5",
        ),
        (
            lambda: Bulyan("2"),
            "byzantine must be a whole number >= 1 or a share in [0, 0.5), got '2'",
        ),
        (lambda: Krum(1, 0), "select must be >= 1, got 0"),
        (lambda: GeometricMedian(0), "iterations must be >= 1, got 0"),
        (lambda: GeometricMedian(nu=0.0), "nu must be > 0, got 0.0"),
        (
            lambda: reduced(Krum(5)),
            "Krum must have a cohort of at least 2 * byzantine + 3 = 13 clients, got 11",
        ),
        (
            lambda: reduced(Bulyan(3)),
            "Bulyan must have a cohort of at least 4 * byzantine + 3 = 15 clients, got 11",
        ),
        (lambda: reduced(Krum(1, 12)), "select must be <= the cohort's 11 clients, got 12"),
        (
            lambda: reduced(GeometricMedian(), DELTAS[:2], [0, 0]),
            "total examples of the cohort must be > 0, got [0, 0]",
        ),
    ],
)
def test_bad_options_and_cohorts(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text


def test_the_least_cohorts_are_accepted():
    for reducer, clients in ((Krum(4), 11), (Bulyan(2), 11)):
        assert np.all(np.isfinite(reduced(reducer, DELTAS[:clients]).delta))
    for reducer, clients in itertools.product((Krum(), Krum(0.2, None), Bulyan()), (1, 2)):
        mean = reduced(reducer, DELTAS[:clients])
        assert any(
            np.allclose(mean.delta, d) for d in [*DELTAS[:clients], DELTAS[:clients].mean(axis=0)]
        )
