"""Deltas that stay on the device, and data that is there: in a process where Keras is on JAX."""

# ruff: noqa: E402 - Keras' backend is chosen before it is imported
from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simulation.training.backend import backend

backend("jax").prepare(1, 0.0)

import jax

from simulation.training.jax.placed import Placed, placed
from simulation.training.plan import Asked, Examples
from strategies.adaptive import AdaptiveClipped
from strategies.privacy import Clipped
from strategies.reducers import FairMean, NormalizedMean, WeightedMean
from strategies.reducing import fold_all
from strategies.stacked import Row
from tests.simulation.training.jax_cases import Case, trainer_of

SIZES = (9, 4, 17, 1, 30, 8)


@pytest.fixture(scope="module")
def lanes() -> Any:
    return trainer_of(Case("batchnorm"), "jax", 3)


EVERYBODY = tuple(range(len(SIZES)))


def job(lanes: Any, places: Any = EVERYBODY, at: bool = False, **asked: Any) -> Any:
    """The job of some of the clients of SIZES, beside all of them; deltas stay on the device."""
    trainer, data = lanes
    ends = np.cumsum(SIZES)
    rows = np.random.default_rng(2).integers(0, len(data.y_train), ends[-1])
    mine = np.concatenate([rows[ends[p] - SIZES[p] : ends[p]] for p in places])
    x = data.x_train if at else data.x_train[mine]
    examples = Examples(x, data.y_train[mine], at=mine if at else None)
    told = Asked(lazy_delta=True, **asked)
    sizes = [SIZES[p] for p in places]
    beside = (SIZES, None, list(places))
    return trainer.plan.job(list(places), sizes, 3, examples, told, beside=beside)


def updates_of(lanes: Any, made: Any) -> Any:
    trainer, _ = lanes
    found = [one.update for one in trainer.train(trainer.place(trainer.info.initial), made)]
    assert all(isinstance(update.delta, Row) for update in found)
    return [replace(update, metrics={"initial_loss": 0.5 + update.client}) for update in found]


def written(updates: Any) -> Any:
    return [replace(update, delta=np.array(update.delta)) for update in updates]


@pytest.mark.parametrize(
    "reducer",
    [
        WeightedMean(), WeightedMean("uniform"), NormalizedMean(), FairMean(0.5, 2.0),
        Clipped(WeightedMean("uniform"), 0.05), AdaptiveClipped(WeightedMean("uniform"), 0.05),
    ],
    ids=lambda reducer: type(reducer).__name__,
)  # fmt: skip
def test_sums_on_the_device_are_those_of_numpy(lanes: Any, reducer: Any) -> None:
    updates = updates_of(lanes, job(lanes, steps=[2, 1, 0, 1, 2, 1]))
    found = reducer.finish(fold_all(reducer, None, updates))
    expected = reducer.finish(fold_all(reducer, None, written(updates)))
    np.testing.assert_allclose(found.delta, expected.delta, rtol=1e-12, atol=1e-15)
    assert found.scale == pytest.approx(expected.scale, rel=1e-12)
    assert found.metrics == pytest.approx(expected.metrics, rel=1e-9)
    assert found.weight == pytest.approx(expected.weight, rel=1e-12)


def test_a_sum_is_added_to_what_there_is(lanes: Any) -> None:
    updates, reducer = updates_of(lanes, job(lanes)), WeightedMean()
    first = fold_all(reducer, None, updates[:2])
    before = first.delta.copy()
    second = fold_all(reducer, None, updates[2:])
    both = fold_all(reducer, first, updates[2:])
    np.testing.assert_array_equal(both.delta, before + second.delta)
    assert both.clients == len(SIZES)


def test_who_is_missing_changes_nothing_but_what_it_adds(lanes: Any) -> None:
    """Whether a client is left out of a sum, or was never trained, or all were trained apart."""
    reducer, others = WeightedMean(), [0, 1, 3, 4, 5]
    everybody = updates_of(lanes, job(lanes))
    left_out = fold_all(reducer, None, [everybody[k] for k in others])
    never = fold_all(reducer, None, updates_of(lanes, job(lanes, others)))
    apart = fold_all(reducer, None, [updates_of(lanes, job(lanes, [k]))[0] for k in others])
    np.testing.assert_array_equal(left_out.delta, never.delta)
    np.testing.assert_array_equal(left_out.delta, apart.delta)
    assert left_out.squares == never.squares == apart.squares


def test_one_that_diverged_spoils_the_sum(lanes: Any) -> None:
    made = job(lanes)
    bad = np.array(made.examples.x, np.float32)
    bad[: SIZES[0]] = np.nan
    object.__setattr__(made, "examples", Examples(bad, made.examples.y))
    updates = updates_of(lanes, made)
    assert np.isnan(fold_all(WeightedMean(), None, updates).delta).any()
    assert np.isfinite(fold_all(WeightedMean(), None, updates[1:]).delta).all()


def test_deltas_outlive_the_call_that_writes_over_them(lanes: Any) -> None:
    first = updates_of(lanes, job(lanes))
    total = fold_all(WeightedMean(), None, first)
    values = [np.array(update.delta) for update in first]
    fresh = updates_of(lanes, job(lanes))
    updates_of(lanes, job(lanes, learning_rate=0.5))  # What nobody has read yet is fetched first.
    for update, again, value in zip(first, fresh, values, strict=True):
        np.testing.assert_array_equal(np.array(update.delta), value)
        np.testing.assert_array_equal(np.array(again.delta), value)
    np.testing.assert_array_equal(fold_all(WeightedMean(), None, first).delta, total.delta)


def test_data_on_the_device_gives_the_bits_of_data_that_steps_bring(
    lanes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, data = lanes
    rows, model = np.arange(20), trainer.info.initial
    brought = [np.array(u.delta) for u in updates_of(lanes, job(lanes, at=True))]
    measured = trainer.evaluate(model, data.x_test, data.y_test, rows, [15, 5], 8)
    monkeypatch.setattr(placed(), "room", data.x_train.nbytes + data.x_test.nbytes)
    there = [np.array(u.delta) for u in updates_of(lanes, job(lanes, at=True))]
    again = trainer.evaluate(model, data.x_test, data.y_test, rows, [15, 5], 8)
    assert placed().room == 0, "both are on the device"
    np.testing.assert_array_equal(brought, there)
    np.testing.assert_array_equal(measured.loss, again.loss)
    np.testing.assert_array_equal(measured.right, again.right)


def test_data_has_as_much_room_as_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    # Processors may go on to read the array itself, which is then not let go of.
    monkeypatch.setattr(jax, "device_put", lambda x, **_: np.copy(x))
    here = Placed(1000)
    small, large = np.zeros((10, 20), np.uint8), np.zeros((10, 90), np.uint8)
    assert here.of(small).dtype == np.uint8
    assert here.of(large) is None
    assert here.of(small) is here.of(small)
    del small
    assert here.of(large) is not None, "what nobody holds any more makes room"
