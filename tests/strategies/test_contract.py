"""The laws of strategies.protocols, over every algorithm of the catalogue."""

import io
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies import catalog
from strategies.algorithm import Algorithm
from strategies.client_rule import Local
from strategies.optional_protocols import wants_server_update
from strategies.privacy import NOISE
from strategies.protocols import Round, State
from strategies.random_streams import stream
from strategies.reducing import bound, during, fold_all, merge_all
from strategies.spec import Spec
from strategies.updates import Mean, Update
from tests.strategies.conftest import measured_uploads

SIZE, CLIENTS = 7, 12
SPEC = Spec(("w", "b", "moving"), ((2, 2), (1,), (2,)), trainable=2)
CUT = SPEC.trainable_size
MODEL = np.linspace(-1, 1, SIZE, dtype=np.float32)

every_algorithm = pytest.mark.parametrize("name", catalog.names())


SERVER = np.linspace(-1, 2, SIZE)
"""What the server trains by itself, for reducers that compare updates with it."""


def build(name: str) -> Algorithm:
    algorithm = catalog.build(name)
    if not wants_server_update(algorithm.reducer):
        return algorithm
    return replace(algorithm, reducer=replace(algorithm.reducer, server=SERVER))


@pytest.fixture
def algorithm(name: str) -> Algorithm:
    return build(name)


def reduced(algorithm: Algorithm, updates: list[Update]) -> Mean:
    partial = None
    for update in updates:
        partial = algorithm.reducer.fold(partial, update)
    return measured(algorithm.reducer.finish(partial))


def measured(mean: Mean) -> Mean:
    """Add the loss of the round's local training, as a driver does."""
    return replace(mean, metrics={"loss": 1.5, **mean.metrics})


def assert_same_mean(a: Mean, b: Mean, rtol: float) -> None:
    np.testing.assert_allclose(a.delta, b.delta, rtol=rtol, atol=rtol)
    assert a.extras.keys() == b.extras.keys()
    for extra in a.extras:
        np.testing.assert_allclose(a.extras[extra], b.extras[extra], rtol=rtol, atol=rtol)
    assert a.weight == pytest.approx(b.weight, rel=rtol)
    assert a.scale == pytest.approx(b.scale, rel=rtol)
    assert (a.clients, a.sensitivity) == (b.clients, b.sensitivity)
    near = 1e-9 if rtol else 0  # drift is a difference of sums
    assert {**a.metrics, "loss": 0} == pytest.approx({**b.metrics, "loss": 0}, rel=near)


def run(algorithm: Algorithm, updates, rounds: int = 3) -> tuple[np.ndarray, State]:
    model, state = MODEL, algorithm.init(SPEC, MODEL)
    for number in range(1, rounds + 1):
        cohort = updates(algorithm, CLIENTS, SIZE, seed=number)
        cohort = [cut_extras(update) for update in cohort]
        at = Round(number, population=20)
        model, state = algorithm.step(SPEC, model, state, reduced(algorithm, cohort), at)
    return model, state


def cut_extras(update: Update) -> Update:
    extras = {name: extra[:CUT] for name, extra in update.extras.items()}
    return replace(update, extras=extras, trainable=CUT)


@st.composite
def splits(draw: st.DrawFn) -> list[list[int]]:
    """Any grouping of the clients, in any order."""
    order = draw(st.permutations(range(CLIENTS)))
    cuts = sorted(draw(st.sets(st.integers(1, CLIENTS - 1))))
    return [order[a:b] for a, b in zip([0, *cuts], [*cuts, CLIENTS], strict=True)]


@every_algorithm
@given(split=splits(), seed=st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_any_split_of_the_clients_gives_the_same_mean(name, split, seed, updates):
    algorithm = build(name)
    cohort = updates(algorithm, CLIENTS, SIZE, seed=seed)
    total = None
    for group in split:
        partial = None
        for client in group:
            partial = algorithm.reducer.fold(partial, cohort[client])
        total = partial if total is None else algorithm.reducer.merge(total, partial)
    assert_same_mean(algorithm.reducer.finish(total), reduced(algorithm, cohort), 1e-12)


@every_algorithm
def test_fold_is_merge_of_lift(name, algorithm, updates):
    reducer = algorithm.reducer
    cohort = updates(algorithm, CLIENTS, SIZE)
    merged = reducer.lift(cohort[0])
    for update in cohort[1:]:
        merged = reducer.merge(merged, reducer.lift(update))
    # Where the processor's BLAS fuses product and sum, only whole numbers times float32 are exact.
    rtol = 0 if name == "fedavg" else 1e-12
    assert_same_mean(reducer.finish(merged), reduced(algorithm, cohort), rtol)


@every_algorithm
@pytest.mark.parametrize("own", [False, True])
def test_merging_all_gives_the_bits_of_one_by_one(algorithm, updates, own):
    reducer = algorithm.reducer
    lifted = [reducer.lift(update) for update in updates(algorithm, CLIENTS, SIZE)]
    merged = lifted[0]
    for partial in lifted[1:]:
        merged = reducer.merge(merged, partial)
    kept = lifted[1:] if own else lifted
    before = pickle.dumps(kept)
    total = merge_all(reducer, [None, *lifted, None], own)
    assert pickle.dumps(kept) == before
    assert_same_mean(reducer.finish(total), reducer.finish(merged), rtol=0)
    assert merge_all(reducer, [None]) is None


@every_algorithm
def test_folding_all_at_once_gives_the_bits_of_one_by_one(algorithm, updates):
    cohort = updates(algorithm, CLIENTS, SIZE)
    partial = fold_all(algorithm.reducer, None, cohort[:2])
    partial = fold_all(algorithm.reducer, partial, cohort[2:])
    together = measured(algorithm.reducer.finish(partial))
    assert together.delta.tobytes() == reduced(algorithm, cohort).delta.tobytes()
    assert_same_mean(together, reduced(algorithm, cohort), rtol=0)


@every_algorithm
def test_a_round_changes_only_how_a_reducer_finishes(name, algorithm, updates):
    cohort = [cut_extras(u) for u in updates(algorithm, CLIENTS, SIZE)]
    state = algorithm.init(SPEC, MODEL)
    reducer = bound(algorithm.reducer, algorithm.share(state, 1))
    of_round = during(reducer, Round(2, 20, seed=4), state)
    assert (of_round == reducer) and (of_round is not reducer) == (name in OF_ROUNDS)
    total = fold_all(reducer, None, cohort)
    again = during(reducer, Round(2, 20, seed=4), state)
    first, second = (one.finish(total) for one in (of_round, again))
    assert first.delta.tobytes() == second.delta.tobytes()


OF_ROUNDS = ("centred-clipping", "bucketing", "dnc", "signguard", "fltrust", "afl")
"""Entries whose mean depends on the round."""


@every_algorithm
def test_two_runs_give_equal_bits(algorithm, updates):
    (first, state), (second, again) = run(algorithm, updates), run(algorithm, updates)
    assert first.tobytes() == second.tobytes()
    assert not np.array_equal(first, MODEL)
    for key in state:
        assert np.asarray(state[key]).tobytes() == np.asarray(again[key]).tobytes()


@every_algorithm
def test_inputs_are_never_changed(algorithm, updates):
    cohort = [cut_extras(u) for u in updates(algorithm, CLIENTS, SIZE)]
    for update in cohort:
        for array in (update.delta, *update.extras.values()):
            array.setflags(write=False)
    reducer = algorithm.reducer
    # Partials that come out of Ray's object store are read-only as well.
    a, b = (frozen(reducer.lift(u)) for u in cohort[:2])
    before = pickle.dumps((a, b))
    mean = reducer.finish(frozen(reducer.merge(a, b)))
    for update in cohort[2:]:
        mean = reducer.finish(reducer.merge(reducer.lift(update), a))
    assert pickle.dumps((a, b)) == before
    mean = reduced(algorithm, cohort)

    model = MODEL.copy()
    state = algorithm.init(SPEC, model)
    for array in (model, mean.delta, *mean.extras.values(), *state.values()):
        if isinstance(array, np.ndarray):
            array.setflags(write=False)
    keys = set(state)
    moved, after = algorithm.step(SPEC, model, state, mean, Round(1, 20))
    assert moved.dtype == model.dtype and moved.shape == model.shape
    assert set(state) == set(after) == keys
    np.testing.assert_array_equal(model, MODEL)


def frozen(partial: object) -> object:
    """Return the partial as Ray hands it over: pickled with protocol 5, buffers read-only."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(partial, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=[bytes(b.raw()) for b in buffers])


@every_algorithm
def test_a_partial_from_another_process_merges(algorithm, updates):
    reducer = algorithm.reducer
    cohort = updates(algorithm, CLIENTS, SIZE)
    halves = []
    for half in (cohort[:5], cohort[5:]):
        partial = None
        for update in half:
            partial = reducer.fold(partial, update)
        halves.append(frozen(partial))
    mean = reducer.finish(frozen(reducer.merge(*halves)))
    assert_same_mean(mean, reduced(algorithm, cohort), 1e-12)


@every_algorithm
def test_state_goes_through_a_checkpoint(algorithm, updates):
    model, state = run(algorithm, updates, rounds=2)
    arrays = {k: v for k, v in state.items() if isinstance(v, np.ndarray)}
    numbers = {k: v for k, v in state.items() if not isinstance(v, np.ndarray)}
    file = io.BytesIO()
    np.savez(file, **arrays)
    file.seek(0)
    restored = {**np.load(file), **json.loads(json.dumps(numbers))}

    cohort = [cut_extras(u) for u in updates(algorithm, CLIENTS, SIZE, seed=3)]
    mean, at = reduced(algorithm, cohort), Round(3, 20)
    expected, _ = algorithm.step(SPEC, model, state, mean, at)
    resumed, _ = algorithm.step(SPEC, model, restored, mean, at)
    assert resumed.tobytes() == expected.tobytes()


@every_algorithm
def test_moving_statistics_are_averaged_by_every_server_rule(algorithm, updates):
    cohort = [cut_extras(u) for u in updates(algorithm, CLIENTS, SIZE)]
    mean = reduced(algorithm, cohort)
    moved, _ = algorithm.step(SPEC, MODEL, algorithm.init(SPEC, MODEL), mean, Round(1, 20))
    # Noise for privacy covers the statistics, too: they would leak as well.
    delta = algorithm.noise(mean, Round(1, 20)).delta if algorithm.noise else mean.delta
    expected = (MODEL[CUT:].astype(np.float64) + delta[CUT:]).astype(np.float32)
    np.testing.assert_array_equal(moved[CUT:], expected)


@every_algorithm
def test_algorithms_can_be_sent_to_workers(algorithm):
    assert pickle.loads(pickle.dumps(algorithm)) == algorithm


def adaptive(lr, beta1, second):
    def rule(x, d):
        v = second(1e-3**2, d**2)
        return x + lr * (1 - beta1) * d / (np.sqrt(v) + 1e-3)

    return rule


def mean(x, d):
    return x + d


def clip(d, norm=1.0):
    return d * min(1.0, norm / np.linalg.norm(d))


def dp_adaptive(x, d, norm=0.1):
    rng = stream(3, NOISE, 1)
    rng.normal()  # the noise of the count comes first, and is that of z = 1 in a small cohort
    return x + clip(d, norm) + rng.normal(0.0, (1 - 1 / 4) ** -0.5 * norm, 5)


def q_fedavg(x, d, q=0.1, loss=1.5, big_l=1 / 0.1):
    h = q * loss ** (q - 1) * big_l**2 * np.sum(d**2) + big_l * loss**q
    return x + big_l * loss**q * d / h


def fedams(x, d):
    return x + 0.1 * 0.1 * d / np.sqrt(np.maximum(1e-4, 0.01 * d**2))


ONE_CLIENT = {
    **dict.fromkeys(("fedavg", "fedsgd", "fedprox", "fedprox-adaptive"), mean),
    **dict.fromkeys(("fedavgm", "fednova", "scaffold", "fedper", "fedbn"), mean),
    **dict.fromkeys(("fedrep", "ditto", "apfl", "pfedme", "lg-fedavg", "fedbabu", "ifca"), mean),
    # What FedSpeed's clients add to their update is added where they train.
    **dict.fromkeys(("per-fedavg", "fedsam", "fedasam", "mofedsam", "fedspeed"), mean),
    **dict.fromkeys(("moon", "fedntd", "fedlc", "feddecorr"), mean),
    **dict.fromkeys(("median", "trimmed-mean", "krum", "multi-krum", "rfa", "bulyan"), mean),
    "fedadagrad": adaptive(0.1, 0.0, lambda v, s: v + s),
    "fedadam": adaptive(0.01, 0.9, lambda v, s: 0.99 * v + 0.01 * s),
    "fedyogi": adaptive(0.01, 0.9, lambda v, s: v - 0.01 * s * np.sign(v - s)),
    # With all clients taking part, h = -alpha * d and the model moves by d - h / alpha.
    "feddyn": lambda x, d: x + 2 * d,
    "fedams": fedams,
    # One client's updates do not differ: the step is 1, as 1 / 2 is less.
    "fedexp": mean,
    "fedacg": lambda x, d: x + 1.85 * d,
    "feddc": lambda x, d: x + 2 * d,
    "fedcm": mean,
    "mimelite": mean,
    **dict.fromkeys(("term", "feddisco", "afl", "fedproto", "feddistill"), mean),
    **dict.fromkeys(("bucketing", "nnm", "dnc", "foolsgold", "signguard"), mean),
    "centred-clipping": lambda x, d: x + clip(d),
    "fltrust": lambda x, d: x + np.linalg.norm(SERVER[:5]) / np.linalg.norm(d) * d,
    "q-fedavg": q_fedavg,
    "norm-clipping": lambda x, d: x + clip(d),
    "dp-fedavg-adaptive": dp_adaptive,
    "dp-fedavg": lambda x, d: x + clip(d) + stream(3, NOISE, 1).normal(0.0, 1.0, 5),
}
"""The model after round 1 of a single client that moved the model ``x`` by ``d``."""


@every_algorithm
def test_one_client_of_weight_one_gives_its_closed_form(name, algorithm):
    x = np.array([0.3, -0.2, 1.5, 0.0, -4.0])
    d = np.array([0.01, -0.5, 2.0, 0.3, 1e-4])
    spec = Spec(("w",), ((5,),), 1)
    state = algorithm.init(spec, x)
    extras = {}
    if algorithm.client.after is not None:
        own = {key: np.zeros(5) for key in algorithm.client.own}
        extras, _ = algorithm.client.after(d, algorithm.share(state, 1), own, Local(1, 0.1))
    extras = {**extras, **measured_uploads(algorithm.client, -d)}
    metrics = {"initial_loss": 1.5, "discrepancy": 0.0, "relative_size": 1.0}
    update = Update(0, 1, d, 1, extras, metrics, learning_rate=0.1)
    total = measured(algorithm.reducer.finish(algorithm.reducer.lift(update)))
    moved, _ = algorithm.step(spec, x, state, total, Round(1, population=1, seed=3))
    np.testing.assert_allclose(moved, ONE_CLIENT[name](x, d), rtol=1e-12)


def test_every_entry_has_a_closed_form():
    assert set(ONE_CLIENT) == set(catalog.names())
