"""Bucketing and nearest-neighbour mixing against their definitions, written out with NumPy."""

import numpy as np
import pytest

from strategies import Bucketed, Krum, Median, NearestNeighbours, TrimmedMean, Update, catalog
from strategies.mixing import BUCKETS
from strategies.protocols import Round
from strategies.random_streams import stream
from strategies.reducing import during
from tests.strategies.test_robust import DELTAS, reduced

FAR = np.random.default_rng(23)


@pytest.mark.parametrize("size", [1, 2, 3, 20])
@pytest.mark.parametrize("number", [1, 2])
def test_buckets_are_means_of_a_permutation_cut_into_pieces(size, number):
    order = stream(9, BUCKETS, number).permutation(11)
    means = np.array([DELTAS[order[i : i + size]].mean(axis=0) for i in range(0, 11, size)])
    reducer = during(Bucketed(Median(), size), Round(number, 11, seed=9), {})
    found = reduced(reducer, extras=2 * DELTAS)
    np.testing.assert_allclose(found.delta, np.median(means, axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.extras["c"], 2 * np.median(means, axis=0), rtol=1e-12)


def test_every_round_has_other_buckets_and_nobody_can_repeat_those_without_a_seed():
    def found(number, seed):
        at = Round(number, 11, seed)
        return reduced(during(Bucketed(Median(), 3), at, {})).delta

    assert not np.array_equal(found(1, 0), found(2, 0))
    assert not np.array_equal(found(1, 0), found(1, 1))
    np.testing.assert_array_equal(found(1, 0), found(1, 0))
    assert len({found(1, None).tobytes() for _ in range(8)}) > 1


@pytest.mark.parametrize(("byzantine", "f"), [(0.2, 2), (3, 3), (0, 0)])
def test_each_is_mixed_with_its_nearest(byzantine, f):
    mixed = []
    for a in DELTAS:
        nearest = np.argsort(((DELTAS - a) ** 2).sum(axis=1))[: 11 - f]
        mixed.append(DELTAS[nearest].mean(axis=0))
    expected = np.sort(mixed, axis=0)[2:9].mean(axis=0)
    found = reduced(NearestNeighbours(TrimmedMean(0.2), byzantine), extras=2 * DELTAS)
    np.testing.assert_allclose(found.delta, expected, rtol=1e-12)
    np.testing.assert_allclose(found.extras["c"], 2 * expected, rtol=1e-12)


@pytest.mark.parametrize("rule", ["median", "trimmed-mean", "krum", "multi-krum", "rfa"])
@pytest.mark.parametrize("name", ["bucketing", "nnm"])
def test_with_any_rule_they_withstand_attackers(name, rule):
    deltas = np.ones((20, 30)) + 0.1 * FAR.normal(size=(20, 30))
    deltas[:2] = 1e6 * FAR.normal(size=(2, 30))
    reducer = catalog.build(name, rule=rule, byzantine=0.1).reducer
    assert np.linalg.norm(reduced(reducer, deltas, [1] * 20).delta - 1) < 1.2


def test_clients_that_differ_are_averaged_where_krum_takes_one():
    # Half of the clients say 0, half 1; the mean is 1/2 and Krum is 1/2 away from it.
    deltas = np.repeat([[0.0], [1.0]], 10, axis=0) * np.ones(4) + 1e-3 * FAR.normal(size=(20, 4))
    alone = reduced(Krum(0), deltas, [1] * 20).delta
    mixed = reduced(Bucketed(Krum(0), 10), deltas, [1] * 20).delta
    assert np.abs(alone - 0.5).min() > 0.4 and np.abs(mixed - 0.5).max() < 0.3


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Bucketed(Median(), 0), "size must be >= 1, got 0"),
        (
            lambda: NearestNeighbours(Median(), 0.5),
            "byzantine must be a whole number >= 1 or a share in [0, 0.5), got 0.5",
        ),
        (
            lambda: reduced(NearestNeighbours(Median(), 6)),
            "Nearest neighbour mixing must have a cohort of at least 2 * byzantine + 1 = 13 "
            "clients, got 11",
        ),
        (
            lambda: catalog.build("bucketing", rule="mean"),
            "rule must be one of median, trimmed-mean, krum, multi-krum, rfa, got 'mean'; did you "
            "mean 'median'?",
        ),
        (
            lambda: catalog.build("bucketing", byzantine=0.3),
            "byzantine * size must be in [0, 0.5), got 0.6",
        ),
    ],
)
def test_bad_options_and_cohorts(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text


def test_order_changes_no_bit():
    deltas = FAR.normal(size=(12, 40)).astype(np.float32)
    for reducer in (Bucketed(Median(), 3), NearestNeighbours(Median(), 2)):
        found = set()
        for seed in range(4):
            partial = None
            for i in np.random.default_rng(seed).permutation(12):
                partial = reducer.fold(partial, Update(int(i), 1, deltas[i]))
            found.add(reducer.finish(partial).delta.tobytes())
        assert len(found) == 1
