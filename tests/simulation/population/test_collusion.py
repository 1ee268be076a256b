"""Attackers that collude: their formulas with NumPy, the laws of reducers, and whole runs."""

import itertools
import pickle

import numpy as np
import pytest
from flwr.serverapp import strategy as flower
from scipy.stats import norm

from simulation.config.attack import COLLUDING
from simulation.config.experiment import parse
from simulation.population.attackers import attacked
from simulation.population.collusion import BEYOND, Colluding, supported
from simulation.runs.run import simulate
from strategies import Krum, Median, TrimmedMean, WeightedMean, clipped
from strategies.protocols import Round
from strategies.random_streams import stream
from strategies.reducing import bound, fold_all, merge_all
from strategies.updates import Update

RNG = np.random.default_rng(41)
BAD = frozenset({1, 4, 8})
ROWS = (RNG.normal(size=(12, 6)) + np.linspace(-1, 2, 6)).astype(np.float32)
HONEST = np.array([row for i, row in enumerate(ROWS) if i not in BAD], np.float64)
MEAN, SPREAD = HONEST.mean(axis=0), HONEST.std(axis=0)


def updates(rows=ROWS):
    return [Update(i, 3 + i, row, metrics={"loss": 1.0}) for i, row in enumerate(rows)]


def seen(kind, strength=None, rows=ROWS):
    reducer = Colluding(WeightedMean("uniform"), BAD, kind, strength)
    partial = None
    for update in updates(rows):
        partial = reducer.fold(partial, update)
    return reducer, partial


def test_alie_hides_behind_its_supporters():
    n, a = 12, 3
    supporters = n // 2 + 1 - a
    z = norm.ppf((n - a - supporters) / (n - a))
    reducer, partial = seen("alie")
    np.testing.assert_allclose(reducer.sent(partial), MEAN - z * SPREAD, rtol=1e-6)
    reducer, partial = seen("alie", 1.5)
    np.testing.assert_allclose(reducer.sent(partial), MEAN - 1.5 * SPREAD, rtol=1e-6)
    # Of 50 workers, 24 of them corrupted, two supporters make a majority.
    assert supported(26, 24) == pytest.approx(norm.ppf(24 / 26))
    assert supported(1, 1) == supported(1, 9) == 0.0 and supported(3, 9) > 0


def test_ipm_turns_the_mean_round():
    reducer, partial = seen("ipm", 0.7)
    np.testing.assert_allclose(reducer.sent(partial), -0.7 * MEAN, rtol=1e-6)


def test_fang_goes_beyond_all_against_the_mean():
    now = Round(3, 12, seed=8)
    reducer = Colluding(WeightedMean("uniform"), BAD, "fang", 2.0).during(now, {})
    low, high = HONEST.min(axis=0), HONEST.max(axis=0)
    assert (low > 0).any() or (high < 0).any(), "an end on the other side of 0 is wanted, too"
    for update in reducer.theirs(fold_all(reducer, None, updates())):
        u = stream(8, BEYOND, 3, update.client).uniform(size=6)
        ends = np.where(MEAN > 0, low, high)
        other = [(e / 2 if e > 0 else 2 * e) if m > 0 else (2 * e if e > 0 else e / 2)
                 for e, m in zip(ends, MEAN, strict=True)]  # fmt: skip
        np.testing.assert_allclose(update.delta, ends + u * (other - ends), rtol=1e-6)
        assert ((update.delta <= low + 1e-6) == (MEAN > 0)).all()
    draws = {u.delta.tobytes() for u in reducer.theirs(fold_all(reducer, None, updates()))}
    assert len(draws) == len(BAD)
    again = reducer.during(Round(4, 12, seed=8), {})
    assert not draws & {u.delta.tobytes() for u in again.theirs(fold_all(again, None, updates()))}


def sums_of_squares(point):
    return ((HONEST - point) ** 2).sum(axis=1)


@pytest.mark.parametrize("kind", ["min-max", "min-sum"])
def test_the_update_lies_as_far_out_as_it_may_and_no_further(kind):
    reducer, partial = seen(kind)
    sent = reducer.sent(partial)
    gamma = ((MEAN - sent) / SPREAD).mean()
    np.testing.assert_allclose(sent, MEAN - gamma * SPREAD, rtol=1e-5)

    def reach(g):
        found = sums_of_squares(MEAN - g * SPREAD)
        return found.max() if kind == "min-max" else found.sum()

    own = [sums_of_squares(row) for row in HONEST]
    limit = max(one.max() if kind == "min-max" else one.sum() for one in own)
    assert reach(gamma) == pytest.approx(limit, rel=1e-6)
    assert reach(0.99 * gamma) < limit < reach(1.01 * gamma)


@pytest.mark.parametrize("kind", COLLUDING)
@pytest.mark.parametrize(
    "inner", [WeightedMean(), Median(), TrimmedMean(0.2), Krum(3), clipped(WeightedMean(), 0.5)]
)
def test_the_reducer_gets_the_honest_updates_and_theirs(kind, inner):
    reducer = Colluding(inner, BAD, kind, 0.5 if kind == "ipm" else None)
    total = fold_all(reducer, None, updates())
    sent = {update.client: update.delta for update in reducer.theirs(total)}
    rows = [sent.get(i, row) for i, row in enumerate(ROWS)]
    expected = inner.finish(fold_all(inner, None, updates(rows)))
    found = reducer.finish(total)
    np.testing.assert_allclose(found.delta, expected.delta, rtol=1e-6, atol=1e-9)
    assert (found.clients, found.weight) == (expected.clients, expected.weight)


@pytest.mark.parametrize("kind", COLLUDING)
@pytest.mark.parametrize("inner", [WeightedMean(), Median()])
def test_any_grouping_gives_the_same_and_changes_no_argument(kind, inner):
    reducer = Colluding(inner, BAD, kind, 0.5)
    expected = reducer.finish(fold_all(reducer, None, updates())).delta
    groups = [[1, 4], [0, 2], [8], [3, 5, 6, 7], [9, 10, 11]]
    for order in itertools.islice(itertools.permutations(groups), 0, 120, 17):
        partials = [fold_all(reducer, None, [updates()[i] for i in group]) for group in order]
        before = pickle.dumps(partials)
        merged = merge_all(reducer, partials)
        assert pickle.dumps(partials) == before
        np.testing.assert_allclose(reducer.finish(merged).delta, expected, rtol=1e-9)
        # The bits of what is merged in place are those of what is not.
        again = merge_all(reducer, pickle.loads(before), own=True)
        assert reducer.finish(again).delta.tobytes() == reducer.finish(merged).delta.tobytes()


def test_where_nobody_is_honest_they_send_nothing_and_alone_they_change_nothing():
    only = [update for update in updates() if update.client in BAD]
    good = [update for update in updates() if update.client not in BAD]
    for kind in COLLUDING:
        reducer = Colluding(WeightedMean(), BAD, kind, None)
        assert not reducer.finish(fold_all(reducer, None, only)).delta.any()
        expected = WeightedMean().finish(fold_all(WeightedMean(), None, good))
        found = reducer.finish(fold_all(reducer, None, good))
        assert found.delta.tobytes() == expected.delta.tobytes()


def test_equal_updates_leave_no_room():
    same = np.repeat(ROWS[:1], 12, axis=0)
    for kind in ("alie", "min-max", "min-sum"):
        reducer, partial = seen(kind, rows=same)
        np.testing.assert_allclose(reducer.sent(partial), ROWS[0], atol=1e-6)


def test_who_colludes_is_the_experiments_choice():
    plan = {"attack": {"kind": "alie", "fraction": 0.3}, "clients": 10}
    found = attacked(Median(), parse(plan), 10)
    assert isinstance(found, Colluding) and len(found.attackers) == 3
    assert bound(found, {}) == found
    assert attacked(Median(), parse({}), 10) == Median()
    noise = parse(plan | {"attack": {"kind": "noise", "fraction": 0.3}})
    assert attacked(Median(), noise, 10) == Median()
    assert attacked(Median(), parse(plan | {"mode": "centralised"}), 1) == Median()
    ipm = attacked(Median(), parse(plan | {"attack": "ipm"}), 10)
    assert isinstance(ipm, Colluding) and ipm.strength == 0.5


BASE = {
    "dataset": "fashion-mnist-mini",
    "model": "logistic",
    "clients": 12,
    "rounds": 1,
    "resources": {"engine": "inline"},
}


@pytest.mark.parametrize("kind", ["fang", "min-max"])
def test_a_run_gives_the_same_folded_and_by_messages(kind, tmp_path):
    attack = {"kind": kind, "fraction": 0.4}
    attacked_run = parse(BASE | {"attack": attack})
    clean = simulate(parse(BASE), out=tmp_path / "clean")
    ours = simulate(attacked_run, out=tmp_path / "ours")
    folded = simulate(attacked_run, flower.FedAvg(), out=tmp_path / "folded")
    np.testing.assert_allclose(ours.weights, folded.weights, atol=1e-6)
    median = simulate(parse(BASE | {"attack": attack, "strategy": "median"}), out=tmp_path / "m")
    theirs = simulate(attacked_run, flower.FedMedian(), out=tmp_path / "by-messages")
    np.testing.assert_allclose(median.weights, theirs.weights, atol=1e-6)
    assert not np.allclose(ours.weights, clean.weights, atol=1e-3)


@pytest.mark.soak
def test_the_bits_depend_on_no_number_of_workers(tmp_path, ray_cluster):
    plan = BASE | {"attack": {"kind": "alie", "fraction": 0.3}}
    bits = set()
    for resources in ({"engine": "inline"}, {"engine": "ray", "workers": 2}):
        one = parse(plan | {"resources": resources})
        bits.add(simulate(one, out=tmp_path / resources["engine"]).weights.tobytes())
    assert len(bits) == 1
