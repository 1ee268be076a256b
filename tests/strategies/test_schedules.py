"""Schedules against their formulas, and inside the parts that take them."""

import pickle
import re
from math import cos, pi, sqrt

import numpy as np
import pytest

from strategies import (
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    Mean,
    Round,
    Step,
    WarmUp,
    average,
    catalog,
    proximal,
)
from strategies.schedules import from_table
from strategies.servers import AdaptiveState

ROUNDS = range(1, 13)


@pytest.mark.parametrize(
    ("schedule", "formula"),
    [
        (Constant(0.3), lambda r: 0.3),
        (Step(2.0, every=3, factor=0.5), lambda r: 2.0 * 0.5 ** ((r - 1) // 3)),
        (Cosine(1.0, rounds=9), lambda r: (1 + cos(pi * (min(r, 9) - 1) / 8)) / 2),
        (
            Cosine(1.0, rounds=9, end=0.2),
            lambda r: 0.2 + 0.8 * (1 + cos(pi * (min(r, 9) - 1) / 8)) / 2,
        ),
        (Cosine(1.0, rounds=1, end=0.2), lambda r: 0.2),
        (Exponential(2.0, 0.9), lambda r: 2.0 * 0.9 ** (r - 1)),
        (WarmUp(Exponential(2.0, 0.9), 3), lambda r: r / 2 if r <= 3 else 2 * 0.9 ** (r - 4)),
        (WarmUp(Constant(0.3), 0), lambda r: 0.3),
        (InverseSqrt(0.4), lambda r: 0.4 / sqrt(r)),
        (InverseSqrt(0.4, scale=5), lambda r: 0.4 / sqrt(1 + (r - 1) / 5)),
    ],
)
def test_formulas(schedule, formula):
    values = [schedule(round) for round in ROUNDS]
    np.testing.assert_allclose(values, [formula(round) for round in ROUNDS], rtol=1e-12)
    assert pickle.loads(pickle.dumps(schedule)) == schedule


def test_every_schedule_starts_at_its_value_and_the_cosine_ends_at_its_end():
    for schedule in (Constant(0.3), Step(0.3, 2), Cosine(0.3, 5, 0.1), InverseSqrt(0.3)):
        assert schedule(1) == pytest.approx(0.3, rel=1e-15)
    assert Cosine(0.3, 5, 0.1)(5) == Cosine(0.3, 5, 0.1)(50) == pytest.approx(0.1)


def test_parts_ask_their_schedules_each_round():
    assert [proximal(Step(1.0, 1, 0.5)).share(r)["mu"] for r in (1, 2, 3)] == [1.0, 0.5, 0.25]
    rule, x = average(Step(1.0, 1, 0.5)), np.zeros(5)
    for number in (1, 2, 3):
        x, _ = rule.step(x, {}, Mean(np.ones(5)), Round(number, 10))
    np.testing.assert_allclose(x, 1 + 0.5 + 0.25)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Constant("a"), "value must be a number finite, got 'a'"),
        (lambda: Constant(float("nan")), "value must be finite, got nan"),
        (lambda: Step(1.0, 0), "every must be >= 1, got 0"),
        (lambda: Step(1.0, 1.5), "every must be a whole number >= 1, got 1.5"),
        (lambda: Step(1.0, 2, 0.0), "factor must be > 0, got 0.0"),
        (lambda: Cosine(1.0, 0), "rounds must be >= 1, got 0"),
        (lambda: Exponential(1.0, 0.0), "factor must be > 0, got 0.0"),
        (lambda: WarmUp(Constant(1.0), -1), "rounds must be >= 0, got -1"),
        (lambda: InverseSqrt(1.0, 0), "scale must be > 0, got 0"),
    ],
)
def test_bad_options(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("table", "schedule"),
    [
        ({"kind": "constant", "value": 0.3}, Constant(0.3)),
        ({"kind": "step", "value": 1.0, "every": 4}, Step(1.0, 4)),
        ({"kind": "exponential", "value": 0.1, "factor": 0.9}, Exponential(0.1, 0.9)),
        ({"kind": "cosine", "value": 0.1, "rounds": 9, "end": 0.01}, Cosine(0.1, 9, 0.01)),
        ({"kind": "inverse-sqrt", "value": 1, "warmup": 5}, WarmUp(InverseSqrt(1), 5)),
    ],
    ids=["constant", "step", "exponential", "cosine", "warm-up"],
)
def test_a_table_is_a_schedule(table, schedule):
    assert from_table("rate", table) == schedule
    rule = catalog.build("fedadam", learning_rate=table).server
    model, delta = np.zeros(3, np.float32), np.array([1.0, -2.0, 0.5])
    state = rule.init(model)
    for number in range(1, 12):
        before = AdaptiveState.of(state)
        mean = Mean(delta)
        moved, state = rule.step(model, state, mean, Round(number, 1, 0))
        after = AdaptiveState.of(state)
        m, v = 0.9 * before.m + 0.1 * delta, 0.99 * before.v + 0.01 * delta**2
        assert np.allclose(after.m, m) and np.allclose(after.v, v)
        expected = model + schedule(number) * m / (np.sqrt(v) + 1e-3)
        assert moved == pytest.approx(expected, rel=1e-6)
        model = moved


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"kind": "linear"}, "rate.kind must be one of "),
        ({"value": 1.0}, "rate.kind must be one of "),
        ({"kind": "step", "value": 1.0}, "rate.every must be given for the kind 'step', got none"),
        ({"kind": "constant", "value": 1.0, "every": 2}, "key of rate must be one of "),
        ({"kind": "exponential", "value": 1.0, "factor": -1}, "rate.factor must be > 0, got -1"),
        ({"kind": "constant", "value": -1.0}, "rate.value must be >= 0, got -1.0"),
        ({"kind": "constant", "value": 1.0, "warmup": 0.5}, "rate.warmup must be a whole number"),
    ],
    ids=["kind", "none", "lacks", "excess", "factor", "negative", "warm-up"],
)
def test_a_table_that_is_no_schedule_is_refused(table, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        from_table("rate", table)


def test_an_option_that_takes_no_schedule_says_so():
    with pytest.raises(ValueError, match="tau must be a number > 0, got Constant"):
        catalog.build("fedadam", tau={"kind": "constant", "value": 1.0})
