"""Models that share compiled functions give the bits that they would give alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from simulation.training.tensorflow import keras_twins
from simulation.training.tensorflow.process import prepare_tensorflow

prepare_tensorflow(1)

ROWS = np.random.default_rng(0)
X = ROWS.normal(size=(40, 6)).astype(np.float32)
Y = ROWS.integers(0, 3, 40)

Methods = dict[str, Callable[..., Any]]


@pytest.fixture
def twins() -> keras_twins.Twins:
    return keras_twins.Twins()


@pytest.fixture
def lending(twins: keras_twins.Twins) -> Methods:
    names = ("fit", "evaluate", "predict")
    return {n: keras_twins._lending(twins, n, getattr(keras.Model, n)) for n in names}


@pytest.fixture(scope="module")
def alone() -> Methods:
    return {n: getattr(keras.Model, n) for n in ("fit", "evaluate", "predict")}


def build(rate: float = 0.01, optimizer: type = keras.optimizers.Adam, units: int = 4) -> Any:
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(units, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Dense(3),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer(rate), loss=loss, metrics=["accuracy"])
    return model


def message(methods: Methods, number: int, weights: Any, **options: Any) -> list[Any]:
    """What a client does in a message: a new model, trained, measured; its numbers."""
    keras.utils.set_random_seed(number)
    if number % 2:
        keras.backend.clear_session()
    model = build(**options)
    if weights is not None:
        model.set_weights(weights)
    history = methods["fit"](model, X, Y, epochs=2, batch_size=8, verbose=0)
    again = methods["fit"](model, X[:20], Y[:20], epochs=1, batch_size=8, verbose=0)
    assert history.model is model and model.history is again
    measured = methods["evaluate"](model, X, Y, verbose=0)
    shown = methods["predict"](model, X, verbose=0)
    slots = [np.array(v) for v in model.optimizer.variables]
    logs = [*history.history["loss"], *again.history["accuracy"]]
    return [*model.get_weights(), *slots, np.array(logs), np.array(measured), shown]


def chain(methods: Methods, **options: Any) -> Iterator[list[Any]]:
    weights = None
    for number in range(2):
        found = message(methods, number, weights, **options)
        weights = found[:8]
        yield found


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.Adam,
        pytest.param(keras.optimizers.Adagrad, marks=pytest.mark.soak),
    ],
)
def test_the_bits_are_the_same(
    optimizer: type, alone: Methods, lending: Methods, twins: keras_twins.Twins
) -> None:
    """Batch statistics, dropout, optimizer slots, shuffling: all as without twins."""
    pairs = zip(chain(alone, optimizer=optimizer), chain(lending, optimizer=optimizer), strict=True)
    for ours, theirs in pairs:
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
    # Functions are traced once.
    (twin,) = twins._twins.values()
    traced = twin.model.train_function
    message(lending, 9, None, optimizer=optimizer)
    assert twin.model.train_function is traced


def test_a_model_that_is_kept_needs_no_twin(lending: Methods, twins: keras_twins.Twins) -> None:
    model = build()
    for _ in range(3):
        lending["fit"](model, X, Y, verbose=0)
    assert not twins._twins


def test_models_that_differ_have_different_twins(
    lending: Methods, twins: keras_twins.Twins
) -> None:
    for _ in range(2):
        lending["evaluate"](build(), X, Y, verbose=0)
        lending["evaluate"](build(rate=0.1), X, Y, verbose=0)
        lending["evaluate"](build(units=5), X, Y, verbose=0)
    assert len(twins._twins) == 3


class Own(keras.Model):
    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


class OwnLayer(layers.Layer):
    def call(self, x: Any) -> Any:
        return 2 * x


def functional(kind: type = keras.Model, extra: Any = None, loss: Any = "mse") -> Any:
    x = keras.Input((6,))
    y = layers.Dense(3)(x if extra is None else extra(x))
    model = kind(x, y)
    model.compile("sgd", loss)
    return model


def test_what_a_configuration_does_not_say_runs_as_it_is() -> None:
    normal = layers.Normalization()
    normal.adapt(X)
    assert keras_twins.key_of(functional()) is not None
    frozen = functional()
    frozen.layers[1].trainable = False
    assert keras_twins.key_of(frozen) != keras_twins.key_of(functional())
    patched = functional()
    patched.train_step = patched.train_step
    plain = [
        functional(Own),
        functional(extra=OwnLayer()),
        functional(extra=layers.Lambda(lambda x: x)),
        functional(extra=normal),
        functional(loss=lambda y, p: keras.ops.sum(y - p)),
        keras.Sequential([keras.Input((6,)), layers.Dense(3)]),
        patched,
    ]
    assert [keras_twins.key_of(model) for model in plain] == [None] * len(plain)


def test_callbacks_see_their_own_model(lending: Methods, twins: keras_twins.Twins) -> None:
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seen.append(self.model)

    models = [build() for _ in range(2)]
    for model in models:
        lending["fit"](model, X, Y, verbose=0, callbacks=[Watch()])
    assert seen == models and not twins._twins
