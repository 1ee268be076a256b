"""Sums over clients that are folded block by block, from deltas that nobody has written."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies import WeightedMean
from strategies.stacked import Difference
from strategies.sums import _BLOCK, add_scaled
from strategies.updates import Update

SIZES = st.sampled_from([1, 7, _BLOCK - 1, _BLOCK, _BLOCK + 1, 2 * _BLOCK + 5])


def vectors(count: int, size: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=size).astype(np.float32) for _ in range(count)]


@given(SIZES, st.lists(st.integers(1, 1000), min_size=1, max_size=4), st.booleans())
def test_counts_of_examples_give_the_bits_of_product_and_sum(
    size: int, weights: list[int], fresh: bool
) -> None:
    found = vectors(len(weights), size)
    total = np.full(size, np.nan if fresh else 0.5)
    expected = np.zeros(size) if fresh else total.copy()
    for vector, weight in zip(found, weights, strict=True):
        expected = expected + vector.astype(np.float64) * weight
    add_scaled(total, found, weights, size, fresh)
    np.testing.assert_array_equal(total, expected)


@given(SIZES, st.floats(1e-3, 1e3), st.integers(0, 3 * _BLOCK))
def test_norms_are_those_of_the_leading_entries(size: int, weight: float, measured: int) -> None:
    (vector,) = vectors(1, size)
    total = np.zeros(size)
    (square,) = add_scaled(total, [vector], [weight], measured)
    wide = vector.astype(np.float64)
    np.testing.assert_allclose(square, weight * (wide[:measured] ** 2).sum(), rtol=1e-12)
    np.testing.assert_allclose(total, weight * wide, rtol=1e-15)


def test_vectors_have_the_shape_of_the_total() -> None:
    with pytest.raises(ValueError, match=r"vector has shape \(3,\), expected \(2,\)"):
        add_scaled(np.zeros(2), [np.zeros(3, np.float32)], [1.0])


def test_a_difference_is_what_the_subtraction_gives() -> None:
    end, start = vectors(2, 50)
    late, whole = Difference(end, start), end - start
    np.testing.assert_array_equal(np.asarray(late), whole)
    np.testing.assert_array_equal(late[3:9], whole[3:9])
    np.testing.assert_array_equal(2 * late + late, 2 * whole + whole)
    np.testing.assert_array_equal(np.multiply(late, 2.0, dtype=np.float64), whole * np.float64(2))
    assert (len(late), late.shape, late.size, late.ndim) == (50, (50,), 50, 1)
    assert late.dtype == np.asarray(late).dtype == np.float32
    travelled = pickle.loads(pickle.dumps(late))
    assert type(travelled) is np.ndarray
    np.testing.assert_array_equal(travelled, whole)
    with pytest.raises(ValueError, match=r"end has shape \(50,\), expected \(49,\)"):
        Difference(end, start[1:])


@given(SIZES, st.integers(1, 5), st.data())
def test_late_deltas_fold_as_written_ones_do_in_any_portions(
    size: int, count: int, data: st.DataObject
) -> None:
    start, *ends = vectors(count + 1, size)
    late = [Update(i, 1 + 3 * i, Difference(end, start)) for i, end in enumerate(ends)]
    written = [replace(update, delta=np.asarray(update.delta)) for update in late]
    cut = data.draw(st.integers(1, count))
    reducer = WeightedMean()
    at_once = reducer.fold_many(None, written)
    found = reducer.fold_many(None, late[:cut])
    if cut < count:
        found = reducer.fold_many(found, late[cut:])
    np.testing.assert_array_equal(found.delta, at_once.delta)
    np.testing.assert_array_equal(found.squares, at_once.squares)
    lifted = reducer.lift(late[0])
    for update in written[1:]:
        lifted = reducer.merge(lifted, reducer.lift(update))
    np.testing.assert_array_equal(lifted.delta, at_once.delta)
    assert (found.weight, found.clients) == (at_once.weight, count)


@given(SIZES, st.lists(st.sampled_from([1.0, 0.5, 0.3]), min_size=1, max_size=4), st.booleans())
def test_discounted_groups_are_merged_as_their_products_would_be(
    size: int, factors: list[float], encoded: bool
) -> None:
    mean, cut = WeightedMean(), max(1, size - 3)
    ways = vectors(2 * len(factors), size)
    updates = [
        Update(
            i,
            i + 1,
            way,
            extras={"c": way[:cut]},
            trainable=cut,
            moved=2 * way if encoded else None,
        )
        for i, way in enumerate(ways)
    ]
    groups = [
        mean.merge(mean.lift(a), mean.lift(b))
        for a, b in zip(updates[::2], updates[1::2], strict=True)
    ]
    before = pickle.dumps(groups)
    total = mean.merge_discounted(groups, factors)
    assert pickle.dumps(groups) == before
    delta = extra = moved = None
    for group, factor in zip(groups, factors, strict=True):
        plain = group.delta[:cut] if group.moved is None else group.moved.delta
        delta = factor * group.delta if delta is None else delta + factor * group.delta
        extra = factor * group.extras["c"] if extra is None else extra + factor * group.extras["c"]
        moved = plain if moved is None else moved + plain
    assert total.moved is not None
    np.testing.assert_array_equal(total.delta, delta)
    np.testing.assert_array_equal(total.extras["c"], extra)
    np.testing.assert_array_equal(total.moved.delta, moved)
    assert total.weight == total.moved.weight == sum(one.examples for one in updates)
    assert total.clients == total.moved.clients == len(updates)


def test_drift_of_a_mean_by_examples_needs_no_sums_of_its_own() -> None:
    updates = [Update(i, i + 1, way) for i, way in enumerate(vectors(3, 50))]
    assert WeightedMean().fold_many(None, updates).moved is None
    assert WeightedMean("uniform").fold_many(None, updates).moved is not None
