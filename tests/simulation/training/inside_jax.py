"""Tests that run in a process where Keras is on JAX; ``test_jax.py`` starts that process."""

# ruff: noqa: E402 - Keras' backend is chosen before it is imported
from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from simulation.training.backend import ModelError, backend

backend("jax").prepare(1, 0.0)

import jax
import keras

from simulation import simulate
from simulation.config.experiment import parse
from simulation.datasets import inputs
from simulation.runs.run import Listener
from simulation.training.jax import memory, runner
from simulation.training.jax.fast_layers import fast_call
from simulation.training.jax.needs import Needs
from simulation.training.jax.traced import traced
from simulation.training.plan import Asked, Examples
from strategies.client_rule import ClientRule
from tests.simulation.training import jax_cases
from tests.simulation.training.jax_cases import CASES, Case, job_of, trainer_of

DROPPED = Case("dropped")
UNEQUAL = (1, 500, 7, 64, 3, 120, 8, 31, 2, 90, 16, 5)


@pytest.fixture(scope="module")
def lanes() -> Any:
    return trainer_of(DROPPED, "jax", 4)


def job(trainer: Any, data: Any, places: list[int], held: bool = False) -> Any:
    """The job of some of the clients of UNEQUAL, each with its own rows."""
    ends = np.cumsum(UNEQUAL)
    rows = np.random.default_rng(2).integers(0, len(data.y_train), ends[-1])
    at = np.concatenate([rows[ends[p] - UNEQUAL[p] : ends[p]] for p in places])
    examples = Examples(inputs.rows(data.x_train, at), data.y_train[at])
    beside = (UNEQUAL, None, places) if held else None
    sizes = [UNEQUAL[p] for p in places]
    return trainer.plan.job(places, sizes, 3, examples, Asked(epochs=2), beside=beside)


def deltas(trainer: Any, made: Any) -> Any:
    return np.stack([o.update.delta for o in trainer.train(trainer.info.initial, made)])


def test_lanes_give_what_training_one_by_one_gives(lanes: Any) -> None:
    wide, data = lanes
    narrow, _ = trainer_of(DROPPED, "jax", 1)
    everybody = list(range(len(UNEQUAL)))
    together = deltas(wide, job(wide, data, everybody))
    alone = np.concatenate([deltas(narrow, job(narrow, data, [p])) for p in everybody])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert np.abs(alone).max(1).min() > 1e-3


def test_same_bits_again_and_with_the_others_masked(lanes: Any) -> None:
    wide, data = lanes
    everybody = list(range(len(UNEQUAL)))
    together = deltas(wide, job(wide, data, everybody))
    assert (deltas(wide, job(wide, data, everybody)) == together).all()
    for some in ([3], [1, 10], [0, 2, 4, 11]):
        assert (deltas(wide, job(wide, data, some, held=True)) == together[some]).all()


def test_a_client_that_diverges_leaves_those_beside_it_alone(lanes: Any) -> None:
    wide, data = lanes
    few = [5, 6, 7, 8]
    good = deltas(wide, job(wide, data, few))
    whole = job(wide, data, few)
    bad = whole.examples.x.astype(np.float32)
    bad[: UNEQUAL[5]] = np.nan
    trainer_, _ = trainer_of(DROPPED, "jax", 4)
    spoilt = job(trainer_, data, few)
    object.__setattr__(spoilt, "examples", Examples(bad, whole.examples.y))
    found = deltas(trainer_, spoilt)
    assert np.isnan(found[0]).any()
    np.testing.assert_allclose(found[1:], good[1:], atol=1e-6)


def test_stragglers_and_no_steps_at_all(lanes: Any) -> None:
    wide, data = lanes
    made = job_of(DROPPED, wide, data, (9, 20, 8, 17), steps=[0, 2, None, 1])
    first, second, _, _ = wide.train(wide.info.initial, made)
    assert not first.update.delta.any()
    assert second.update.steps == 2
    assert second.update.delta.any()


def test_learning_rate_is_no_shape(lanes: Any) -> None:
    wide, data = lanes
    with counted() as programs:
        made = job_of(DROPPED, wide, data, (8, 8), learning_rate=0.1, steps=[1, 1])
        one = wide.train(wide.info.initial, made)
    assert not programs
    slower = job_of(DROPPED, wide, data, (8, 8), learning_rate=0.05, steps=[1, 1])
    half = wide.train(wide.info.initial, slower)
    assert one[0].update.learning_rate == pytest.approx(0.1)
    np.testing.assert_allclose(one[0].update.delta, 2 * half[0].update.delta, atol=1e-6)


class counted:
    """The programs that JAX compiles meanwhile, by JAX's own count."""

    def __enter__(self) -> list[str]:
        self.found: list[str] = []
        self.on = True

        def heard(event: str, seconds: float, **more: Any) -> None:
            if self.on and event == "/jax/core/compile/backend_compile_duration":
                self.found.append(str(more.get("fun_name")))

        jax.monitoring.register_event_duration_secs_listener(heard)
        return self.found

    def __exit__(self, *_: object) -> None:
        self.on = False


def test_few_programs_for_many_cohorts_of_unequal_clients(tmp_path: Path) -> None:
    """200 rounds of cohorts that change, of 1,000 clients from 1 to some 300 examples."""
    rng = np.random.default_rng(4)
    sizes = np.clip(rng.lognormal(2, 1.3, 1000).astype(int), 1, 500)
    count = int(sizes.sum())
    y = rng.integers(0, 3, count + 40)
    x = (rng.normal(size=(3, 8))[y] + rng.normal(size=(count + 40, 8))).astype(np.float32)
    first, owners = slice(count), np.repeat(np.arange(1000), sizes)
    test = {"x_test": x[count:], "y_test": y[count:]}
    np.savez(tmp_path / "data.npz", x=x[first], y=y[first], owners=owners, **test)
    made = parse(
        {
            "dataset": str(tmp_path / "data.npz"), "clients": 1000, "cohort": 20, "rounds": 200,
            "partition": {"kind": "natural"}, "model": "logistic", "evaluation": {"every": 20},
            "resources": {"engine": "inline", "backend": "jax", "lanes": 16},
        }
    )  # fmt: skip
    before: list[int] = []

    class Beginning(Listener):
        def begin(self, *_: Any) -> None:
            before.append(len(programs))  # Keras has built the model, operation by operation.

    with counted() as programs:
        simulate(made, out=tmp_path / "run", listener=Beginning())
    assert 0 < len(programs) - before[0] <= 6, programs


def test_hooks_shared_and_own_vectors() -> None:
    rule = ClientRule(
        hook=lambda g, w, w0, shared, own: g + shared["mu"] * (w - w0) - own["c"] + shared["c"],
        own=("c",),
    )
    made, data = trainer_of(Case("mlp", jax_cases.plain_images), "jax", 2, rule)
    size = made.plan.trainable
    shared = {"mu": 0.5, "c": np.linspace(-1, 1, size)}
    own = [{"c": np.full(size, k, np.float32)} for k in (0.0, 1.0, -1.0)]
    rows = np.arange(3 * 4)
    examples = Examples(data.x_train[rows], data.y_train[rows])
    initial = made.info.initial
    jobs = made.plan.job([0, 1, 2], [4, 4, 4], 1, examples, Asked(shared=shared), own)
    plain = made.plan.job([0, 1, 2], [4, 4, 4], 1, examples, Asked(shared={"mu": 0.0, "c": 0.0}))
    with_rule = np.stack([o.update.delta for o in made.train(initial, jobs)])
    without = np.stack([o.update.delta for o in made.train(initial, plain)])
    pulls = np.stack([shared["c"] - k["c"] for k in own])
    np.testing.assert_allclose(with_rule, without - 0.05 * pulls, atol=1e-6)


def fast_layers() -> Iterator[Any]:
    at = keras.layers
    for padding in ("valid", "same"):
        for strides, dilation in ((1, 1), (2, 1), (1, 2)):
            more = {"padding": padding, "strides": strides, "dilation_rate": dilation}
            for make in (
                lambda more=more: (at.Conv2D(3, (3, 2), **more), (7, 8, 2)),
                lambda more=more: (at.Conv1D(3, 4, **more), (9, 2)),
                lambda more=more: (at.SeparableConv2D(3, 3, **more), (7, 8, 2)),
                lambda more=more: (at.DepthwiseConv2D(3, depth_multiplier=2, **more), (7, 7, 3)),
            ):
                few = padding == "valid" or strides == dilation == 1
                yield pytest.param(make, marks=pytest.mark.soak if few else ())
    yield lambda: (at.Conv1D(3, 3, padding="causal", dilation_rate=2, activation="relu"), (9, 2))
    yield lambda: (at.Conv2D(3, 1, strides=2, use_bias=False), (6, 6, 4))
    yield lambda: (at.MaxPooling2D((2, 3)), (7, 8, 2))
    yield lambda: (at.MaxPooling1D(2), (7, 2))


@pytest.mark.parametrize("make", list(fast_layers()))
def test_fast_layers_are_the_layers(make: Any) -> None:
    layer, shape = make()
    x = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    model = keras.Sequential([keras.Input(shape), layer])
    plain = np.asarray(model(x))
    assert fast_call(layer) is not None
    with traced(model):
        fast = np.asarray(model(x))
    np.testing.assert_allclose(fast, plain, atol=1e-5)
    assert "call" not in vars(layer)


def test_largest_value_that_comes_first_gets_the_gradient() -> None:
    from simulation.training.jax.fast_layers import max_pool

    x = np.array([1.0, 3.0, 3.0, 3.0], np.float32).reshape(1, 2, 2, 1)
    slope = jax.grad(lambda v: max_pool(v, (2, 2)).sum())(x)
    assert np.asarray(slope).ravel().tolist() == [0, 1, 0, 0]


class OwnStep(keras.Sequential):
    def train_step(self, *args: Any) -> Any:
        return super().train_step(*args)


class Centred(keras.layers.Layer):
    def call(self, inputs: Any) -> Any:
        return inputs - keras.ops.mean(inputs, axis=0, keepdims=True)


class Doubled(keras.layers.Layer):
    def call(self, inputs: Any) -> Any:
        return 2 * inputs


@keras.saving.register_keras_serializable("tests")
class Branching(keras.Model):
    def __init__(self, units: int, **more: Any) -> None:
        super().__init__(**more)
        self.units, self.flat = units, keras.layers.Flatten()
        self.dense = keras.layers.Dense(units)

    def call(self, inputs: Any) -> Any:
        flat = self.flat(inputs)
        return self.dense(flat if float(flat[0, 0]) > 0 else -flat)

    def get_config(self) -> dict[str, Any]:
        return {"units": self.units}


def of_layers(kind: type[keras.Sequential], *layers: Any) -> Callable[..., Any]:
    def build(shape: Any, classes: Any) -> Any:
        flat = [keras.layers.Flatten(), *layers, keras.layers.Dense(classes)]
        return kind([keras.Input(shape), *flat])

    return build


def two_outputs(shape: Any, classes: Any) -> Any:
    x = keras.Input(shape)
    flat = keras.layers.Flatten()(x)
    return keras.Model(x, [keras.layers.Dense(classes)(flat), keras.layers.Dense(1)(flat)])


def several_means(shape: Any, classes: Any) -> Any:
    model = of_layers(keras.Sequential)(shape, classes)
    model.compile(loss=lambda y, out: keras.ops.mean(keras.ops.square(out)))
    return model


MIXES = "must take each example by itself .*use the backend tensorflow"

REFUSED = {
    "own_step": (
        of_layers(OwnStep),
        "must not bring its own train_step .*got OwnStep: use the backend tensorflow",
    ),
    "centred": (of_layers(keras.Sequential, Centred()), MIXES),
    "branching": (
        lambda shape, classes: Branching(classes),
        "must be one that JAX can trace .*ConcretizationTypeError.*: use the backend tensorflow",
    ),
    "two_outputs": (two_outputs, "must have one output, got a list"),
    "several_means": (several_means, MIXES),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_jax_cannot_train_is_said_in_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, text = REFUSED[name]
    monkeypatch.setattr(jax_cases, "mlp_of_test", build, raising=False)
    with pytest.raises(ModelError) as caught:
        trainer_of(Case("mlp_of_test"), "jax")
    assert "\n" not in str(caught.value)
    assert re.search(text, str(caught.value)), str(caught.value)


def test_layers_of_ones_own_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    build = of_layers(keras.Sequential, Doubled())
    monkeypatch.setattr(jax_cases, "mlp_of_test", build, raising=False)
    made, data = trainer_of(Case("mlp_of_test"), "jax", 1)
    assert np.isfinite(deltas(made, job_of(DROPPED, made, data, (3, 9)))).all()


def test_bfloat16_computes_and_float32_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for policy in ("float32", "mixed_bfloat16"):

        def build(shape: Any, classes: Any, policy: str = policy) -> Any:
            hidden = keras.layers.Dense(8, activation="relu", dtype=policy)
            return of_layers(keras.Sequential, hidden)(shape, classes)

        monkeypatch.setattr(jax_cases, "mlp_of_test", build, raising=False)
        made, data = trainer_of(Case("mlp_of_test"), "jax", 1)
        assert {v.dtype for v in made.model.trained} == {"float32"}
        found.append(deltas(made, job_of(DROPPED, made, data, (30, 9))))
    plain, mixed = found
    apart = np.abs(plain - mixed).max() / np.abs(plain).max()
    assert 0 < apart < 0.1, "rounded to eight bits, and no more than that"


def test_lanes_are_those_whose_program_fits() -> None:
    def device(limit: int | None, platform: str = "gpu") -> Any:
        stats = None if limit is None else {"bytes_limit": limit}
        return SimpleNamespace(platform=platform, memory_stats=lambda: stats)

    asked: list[int] = []

    def needed(lanes: int) -> int:
        asked.append(lanes)
        return 1000 + 100 * lanes

    assert memory.lanes_that_fit(needed, device(10_000)) == 64
    assert asked[:2] == [1, 2]
    assert 256 not in asked, "what is too large by far is not compiled"
    assert memory.lanes_that_fit(needed, device(10**9)) == 256
    assert memory.lanes_that_fit(needed, device(500)) == 1
    assert memory.lanes_that_fit(needed, device(None)) == memory.ON_PROCESSORS
    assert memory.lanes_that_fit(needed, device(10**9, "cpu")) == memory.ON_PROCESSORS


@pytest.mark.soak
def test_a_compiled_program_tells_what_it_needs(lanes: Any) -> None:
    made, data = lanes
    needed = Needs(made.model, made.spec, made.plan.rule, data, 8, False)
    few, many = needed.of(2), needed.of(8)
    weights = 4 * made.spec.size
    assert 8 * weights < many
    assert few < many


def test_memory_that_is_short_halves_the_lanes(
    lanes: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made, data = trainer_of(Case("logistic"), "jax", 4)
    plain, asked = made.runner.programs.run, []

    def run(given: Any, state: Any, *more: Any) -> Any:
        asked.append(len(state.sums))
        if len(state.sums) > 2:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")
        return plain(given, state, *more)

    monkeypatch.setattr(made.runner.programs, "run", run)
    first = deltas(made, job_of(Case("logistic"), made, data, (8, 3, 9, 20, 5)))
    assert asked[0] == 4
    assert set(asked[1:]) == {2}
    assert "2 clients side by side" in caplog.text
    calm, _ = trainer_of(Case("logistic"), "jax", 2)
    again = deltas(calm, job_of(Case("logistic"), calm, data, (8, 3, 9, 20, 5)))
    np.testing.assert_allclose(first, again, atol=1e-6)


@pytest.mark.soak
def test_saved_models_are_those_of_the_weights(lanes: Any, tmp_path: Any) -> None:
    made, data = trainer_of(CASES["batchnorm"], "jax", 2)
    weights = made.info.initial + 0.01
    (tmp_path / "model.keras").write_bytes(made.save(weights))
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [type(layer).__name__ for layer in loaded.layers][:2] == ["Rescaling", "Conv2D"]
    found = made.evaluate(weights, data.x_test, data.y_test, np.arange(40))
    loss, accuracy = loaded.evaluate(data.x_test, data.y_test, verbose=0)
    assert loss == pytest.approx(found.loss[0] / 40, abs=1e-5)
    assert accuracy == pytest.approx(found.right[0] / 40)


def test_more_clients_than_a_call_takes(lanes: Any) -> None:
    made, data = lanes
    count = made.most + 1
    with pytest.raises(ValueError, match=f"clients must be at most {made.most}, got {count}"):
        made.train(made.info.initial, job_of(DROPPED, made, data, [1] * count))
    assert runner.QUEUE * made.lanes == made.most
    assert made.group([1] * 100, 7) == 7
    assert made.group([1] * 100, 70) == made.most


def test_a_run_beside_a_saved_model_starts_from_the_initial_weights(lanes: Any) -> None:
    """The trainers of a process share one Keras model, which holds what was saved last."""
    made, _ = lanes
    before = made.info.initial.copy()
    assert made.save(before + 1)
    again = made.of(DROPPED.experiment("jax", 4), ClientRule())
    np.testing.assert_array_equal(again.info.initial, before)
