"""Per-example loss and correctness for any Keras loss, inside the graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf


@contextmanager
def one_kernel(loss: Any) -> Iterator[None]:
    """Let sparse cross-entropy be one kernel of the processor, while a graph is traced.

    Where ops are to be deterministic, TensorFlow writes this loss as a dozen of them, since the
    kernel on GPUs adds in any order. The one on processors takes row by row and is deterministic:
    6% of a step on 6 images. Losses of one's own, and processes that see a GPU, are left alone.
    """
    function = keras.losses.get(loss)
    known = type(function) is keras.losses.SparseCategoricalCrossentropy
    if not known and function is not keras.losses.sparse_categorical_crossentropy:
        yield
        return
    if tf.config.list_logical_devices("GPU"):
        yield
        return
    plain = tf.nn.sparse_softmax_cross_entropy_with_logits

    def fused(labels: Any, logits: Any, name: str | None = None) -> Any:
        if logits.shape.rank != 2 or labels.shape.rank != 1 or logits.dtype != tf.float32:
            return plain(labels=labels, logits=logits, name=name)
        kernel = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits
        return kernel(features=logits, labels=labels, name=name).loss

    tf.nn.sparse_softmax_cross_entropy_with_logits = fused
    try:
        yield
    finally:
        tf.nn.sparse_softmax_cross_entropy_with_logits = plain


def per_example(loss: Any, y: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Return each example's loss, float32 [n], without regularisation terms."""
    function = keras.losses.get(loss)
    call = function.call if isinstance(function, keras.losses.Loss) else function
    # In half precision sums over an example's outputs would overflow.
    output = tf.cast(output, tf.float32) if output.dtype.size < 4 else output
    values = tf.cast(call(_same_rank(y, output), output), tf.float32)
    return tf.reduce_mean(tf.reshape(values, [tf.shape(values)[0], -1]), axis=1)


def correctness(loss: Any, y: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Return 1 where the example is classified right, else 0, float32 [n]; NaN for regression."""
    function = keras.losses.get(loss)
    name = str(getattr(function, "name", getattr(function, "__name__", "")))
    if output.shape.rank is not None and output.shape[-1] != 1 and "crossentropy" in name:
        guess = tf.argmax(output, axis=-1)
        sparse = y.shape.rank is not None and y.shape.rank < output.shape.rank
        truth = tf.cast(y, tf.int64) if sparse else tf.argmax(y, axis=-1)
        right = tf.cast(tf.equal(guess, tf.reshape(truth, tf.shape(guess))), tf.float32)
    elif name == "binary_crossentropy":
        middle = 0.0 if getattr(function, "from_logits", False) else 0.5
        guess = tf.cast(output > middle, tf.float32)
        right = tf.cast(tf.equal(guess, tf.cast(_same_rank(y, output), tf.float32)), tf.float32)
    else:
        return tf.fill([tf.shape(output)[0]], float("nan"))
    return tf.reduce_mean(tf.reshape(right, [tf.shape(right)[0], -1]), axis=1)


def _same_rank(y: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    if output.shape.rank == 2 and output.shape[-1] == 1 and y.shape.rank == 1:
        return tf.cast(y, output.dtype)[:, None]
    return y
