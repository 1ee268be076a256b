"""Sparse cross-entropy as one kernel of the processor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from simulation.training.keras import private


@contextmanager
def one_kernel(loss: Any) -> Iterator[None]:
    """Let sparse cross-entropy be one kernel of the processor, while a graph is traced.

    Where ops are to be deterministic, TensorFlow writes this loss as a dozen of them, since the
    kernel on GPUs adds in any order. The one on processors takes row by row and is deterministic:
    6% of a step on 6 images. Losses of one's own, and processes that see a GPU, are left alone.

    Args:
        loss: the loss object.
    """
    loss = keras.losses.get(loss) if isinstance(loss, str) else loss
    function = private.wrapped_function(loss)
    loss = loss if function is None else function
    known = type(loss) is keras.losses.SparseCategoricalCrossentropy
    if not known and loss is not keras.losses.sparse_categorical_crossentropy:
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
