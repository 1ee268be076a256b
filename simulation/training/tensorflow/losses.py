"""The loss that a model is compiled with: which it is, and what each example's is, in the graph."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from simulation.training.tensorflow import private

EACH = ("sum_over_batch_size", "mean", "none", None)
"""Reductions under which what Keras reports is the mean of the examples' losses."""


def resolved(model: keras.Model, y: Any, output: Any) -> tuple[keras.losses.Loss | None, float]:
    """Return the loss object of a model's one output, as Keras resolves it, and its weight.

    None where the model only adds losses by itself.

    Args:
        model: a compiled model.
        y: targets [n, ...], only for their shape.
        output: the model's output for them, only for its shape.
    """
    whole = private.compiled_loss(model)
    if whole is None:
        return None, 1.0
    if not whole.built:
        whole.build(y, output)
    loss, weight = private.loss_of_output(whole)
    return loss, 1.0 if weight is None else float(weight)


def total(model: keras.Model, x: Any, y: Any, output: Any, weights: Any, training: bool) -> Any:
    """Return a batch's loss as Keras' ``fit`` and ``evaluate`` compute it, penalties included."""
    options = {} if weights is None else {"sample_weight": weights}
    if "training" in inspect.signature(model.compute_loss).parameters:
        options["training"] = training  # Models written for early versions do not take it.
    return model.compute_loss(x=x, y=y, y_pred=output, **options)


def by_example(model: keras.Model, y: Any, output: Any, weights: Any) -> bool:
    """Tell whether a batch's loss is the mean of losses that examples have by themselves.

    It is not for a loss that gives one number for a batch, for sums, for penalties that a model
    adds, and where masked positions change what is averaged over.
    """
    own = type(model).compute_loss is not keras.Model.compute_loss
    if own or model.losses or type(model).test_step is not keras.Model.test_step:
        return False
    loss, _ = resolved(model, y, output)
    if loss is None:
        return False
    each = loss.reduction in EACH
    if not each and (loss.reduction != "mean_with_sample_weight" or weights is not None):
        return False
    if isinstance(loss, keras.losses.Circle) or private.mask_of(output) is not None:
        return False
    values = _values(loss, y, output)
    return len(values.shape) > 0 and private.mask_of(values) is None


def per_example(model: keras.Model, y: Any, output: Any, weights: Any) -> tf.Tensor:
    """Return each example's loss, float32 [n], of a model for which :func:`by_example` holds."""
    loss, factor = resolved(model, y, output)
    assert loss is not None
    values = tf.cast(_values(loss, y, output), tf.float32)
    values = tf.reduce_mean(tf.reshape(values, [tf.shape(values)[0], -1]), axis=1)
    values = values if factor == 1.0 else values * factor
    return values if weights is None else values * weights


def _values(loss: keras.losses.Loss, y: Any, output: Any) -> Any:
    # As Loss.__call__ does: targets in the loss's type, whatever type they have.
    cast = [tf.cast(tf.convert_to_tensor(part), loss.dtype) for part in (y, output)]
    return loss.call(*cast)


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
