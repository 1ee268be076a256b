"""What is changed in a step while a graph is traced, and changed back after."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from simulation.training.tensorflow.one_kernel import one_kernel
from simulation.training.tensorflow.process import ONEDNN, prepare_tensorflow, worker_environment
from simulation.training.tensorflow.steps import apart

prepare_tensorflow(1)

RNG = np.random.default_rng(3)
LOGITS = RNG.normal(size=(6, 4)).astype("float32")
LABELS = np.array([0, 1, 2, 3, 0, 1])


def stepper(weight: keras.Variable, optimizer: keras.Optimizer, around: Any) -> Any:
    def step(slope: tf.Tensor) -> None:
        with around(optimizer):
            optimizer.apply([slope], [weight])

    return tf.function(step, autograph=False)


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop", "adagrad"])
def test_a_difference_has_the_bits_of_the_subtraction_in_place(name: str) -> None:
    start = RNG.normal(size=100).astype("float32")
    slopes = RNG.normal(size=(5, 100)).astype("float32")
    ends = []
    for around in (lambda optimizer: nullcontext(), apart):
        weight, optimizer = keras.Variable(start), keras.optimizers.get(name)
        optimizer.build([weight])
        step = stepper(weight, optimizer, around)
        for slope in slopes:
            step(tf.constant(slope))
        assert "assign_sub" not in vars(optimizer)
        ends.append(weight.numpy())
    np.testing.assert_array_equal(*ends)
    assert np.abs(ends[0] - start).max() > 1e-4


def test_weights_that_are_shared_stay_as_they_are() -> None:
    start = tf.constant(RNG.normal(size=1000).astype("float32"))
    before = start.numpy().copy()
    weight, optimizer = keras.Variable(np.zeros(1000, "float32")), keras.optimizers.SGD(0.5)
    optimizer.build([weight])

    @tf.function
    def client(start, slope):
        weight.assign(start)
        with apart(optimizer):
            optimizer.apply([slope], [weight])
        return weight.value.read_value()

    end = client(start, tf.ones(1000))
    np.testing.assert_array_equal(end, before - np.float32(0.5))
    np.testing.assert_array_equal(start, before)


def test_rows_of_an_embedding_are_changed_as_before() -> None:
    weight, optimizer = keras.Variable(np.zeros((4, 2), "float32")), keras.optimizers.SGD(1.0)
    optimizer.build([weight])
    rows = tf.IndexedSlices(tf.ones((2, 2)), tf.constant([1, 1]), tf.constant([4, 2]))
    with apart(optimizer):
        optimizer.assign_sub(weight, rows)
    np.testing.assert_array_equal(weight, [[0, 0], [-2, -2], [0, 0], [0, 0]])


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "sparse_categorical_crossentropy",
    ],
)
def test_one_kernel_gives_the_loss_and_its_slope(loss: object) -> None:
    function = keras.losses.get(loss)
    plain = tf.nn.sparse_softmax_cross_entropy_with_logits
    logits = tf.constant(LOGITS) if hasattr(function, "call") else tf.nn.softmax(LOGITS)

    def graph():
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = tf.reduce_mean(function(LABELS, logits))
        return value, tape.gradient(value, logits)

    expected = tf.function(graph).get_concrete_function()
    with one_kernel(loss):
        found = tf.function(graph).get_concrete_function()
    assert tf.nn.sparse_softmax_cross_entropy_with_logits is plain
    kinds = {op.type for op in found.graph.get_operations()}
    assert "SparseSoftmaxCrossEntropyWithLogits" in kinds
    assert "SparseSoftmaxCrossEntropyWithLogits" not in {
        op.type for op in expected.graph.get_operations()
    }
    for mine, theirs in zip(found(), expected(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-7)


def test_losses_of_ones_own_are_left_alone() -> None:
    plain = tf.nn.sparse_softmax_cross_entropy_with_logits

    class Own(keras.losses.SparseCategoricalCrossentropy):
        pass

    for loss in (Own(from_logits=True), "mse", lambda y, output: output):
        with one_kernel(loss):
            assert tf.nn.sparse_softmax_cross_entropy_with_logits is plain


def test_onednn_is_on_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(ONEDNN, raising=False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert worker_environment(1, 0)[ONEDNN] == "1"
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert ONEDNN not in worker_environment(1, 0)
    monkeypatch.setenv(ONEDNN, "0")
    assert worker_environment(1, 0)[ONEDNN] == "0"


def test_a_tensorflow_imported_before_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(ONEDNN, raising=False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    prepare_tensorflow(1)
    assert f"set {ONEDNN}=1 in the environment" in caplog.text
    caplog.clear()
    prepare_tensorflow(1)
    assert not caplog.text
