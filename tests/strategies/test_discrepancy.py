"""FedDisco against its paper's formula, written out with NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from strategies import DiscrepancyMean, Update, average, catalog, plain, telling_discrepancy
from strategies.algorithm import Algorithm
from strategies.label_discrepancy import LabelDiscrepancy

RNG = np.random.default_rng(7)
COUNTS = RNG.integers(0, 30, (5, 4))
DELTAS = RNG.normal(size=(5, 3))


def kl(own, target):
    return sum(p * np.log(p / q) for p, q in zip(own, target, strict=True) if p > 0)


def l2(own, target):
    return np.sqrt(sum((p - q) ** 2 for p, q in zip(own, target, strict=True)))


def apart(counts, distance, target):
    whole = counts.sum(axis=0) / counts.sum()
    if target == "uniform":
        whole = np.full(counts.shape[1], 1 / counts.shape[1])
    return np.array([distance(row / row.sum(), whole) for row in counts])


def told(counts, reducer, distance="kl", target="global", who=None):
    """Return the mean of clients (all where nobody is named) who tell what they do."""
    d, n = LabelDiscrepancy(distance, target).of(counts), counts.sum(axis=1)
    partial = None
    for i in range(len(counts)) if who is None else who:
        metrics = {"discrepancy": d[i], "relative_size": n[i] / n.mean()}
        partial = reducer.fold(partial, Update(i, int(n[i]), DELTAS[i], metrics=metrics))
    return reducer.finish(partial)


@pytest.mark.parametrize("target", ["global", "uniform"])
@pytest.mark.parametrize("distance", [kl, l2])
def test_feddisco_of_all_clients_is_the_papers_rule(distance, target):
    """Whose sizes and discrepancies add up to 1, and whose b is one of K clients."""
    a, b, clients = 0.7, 0.04, len(COUNTS)
    n, d = COUNTS.sum(axis=1), apart(COUNTS, distance, target)
    weights = np.maximum(0.0, n / n.sum() - a * d / d.sum() + b)
    assert weights.min() < 0.05 and weights.max() > 0.2
    found = told(COUNTS, DiscrepancyMean(a, b * clients), distance.__name__, target)
    np.testing.assert_allclose(found.delta, weights @ DELTAS / weights.sum(), rtol=1e-10)


def test_sizes_do_not_count_where_clients_were_drawn_by_them():
    d = apart(COUNTS, kl, "global")
    weights = np.maximum(0.0, 1 - 0.5 * d / d.mean() + 1)
    found = told(COUNTS, DiscrepancyMean(by="uniform"))
    np.testing.assert_allclose(found.delta, weights @ DELTAS / weights.sum(), rtol=1e-10)


def test_who_weighs_nothing_moves_nothing():
    odd = np.array([[9, 1, 0, 0], [10, 10, 10, 10], [10, 10, 10, 10], [10, 10, 10, 10], [0] * 4])
    alone = told(odd, DiscrepancyMean(2.0, 0.0), who=[0])
    assert alone.weight == 0 and not alone.delta.any() and alone.clients == 1
    both = told(odd, DiscrepancyMean(2.0, 0.0), who=[0, 1])
    np.testing.assert_allclose(both.delta, DELTAS[1], rtol=1e-12)
    without = told(odd, DiscrepancyMean(0.0, 1.0), who=[1, 4])
    np.testing.assert_allclose(without.delta, DELTAS[1], rtol=1e-12)


@given(arrays(np.int64, (6, 3), elements=st.integers(0, 50)))
def test_discrepancies_are_at_least_0_and_1_in_the_mean(counts):
    for distance in ("kl", "l2"):
        d = LabelDiscrepancy(distance).of(counts)
        assert (d >= 0).all() and (d[counts.sum(axis=1) == 0] == 0).all()
        assert d.mean() == pytest.approx(1.0) or not d.any()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: DiscrepancyMean(a=-1.0), "a must be >= 0, got -1.0"),
        (lambda: DiscrepancyMean(b=-1.0), "b must be >= 0, got -1.0"),
        (
            lambda: catalog.build("feddisco", distance="l1"),
            "distance must be one of kl, l2, got 'l1'; did you mean 'l2'?",
        ),
        (
            lambda: telling_discrepancy(target="test"),
            "target must be one of global, uniform, got 'test'",
        ),
        (
            lambda: Algorithm("x", plain(), DiscrepancyMean(), average()),
            "parts of 'x' must fit together: FedDisco weighs clients by their discrepancy, which "
            "this client rule does not tell",
        ),
        (
            lambda: DiscrepancyMean().lift(Update(3, 1, DELTAS[0])),
            "metrics of client 3 must have 'relative_size', got []",
        ),
    ],
    ids=["a", "b", "distance", "target", "rule", "metric"],
)
def test_what_does_not_fit(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text
