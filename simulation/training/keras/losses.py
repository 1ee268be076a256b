"""The loss that a model is compiled with: which it is, and what each example's is, in the graph."""

from __future__ import annotations

import inspect
from typing import Any

import keras
from keras import ops

from simulation.training.keras import private

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


def per_example(model: keras.Model, y: Any, output: Any, weights: Any) -> Any:
    """Return each example's loss, float32 [n], of a model for which :func:`by_example` holds."""
    loss, factor = resolved(model, y, output)
    assert loss is not None
    values = ops.cast(_values(loss, y, output), "float32")
    values = ops.mean(ops.reshape(values, [ops.shape(values)[0], -1]), axis=1)
    values = values if factor == 1.0 else values * factor
    return values if weights is None else values * weights


def _values(loss: keras.losses.Loss, y: Any, output: Any) -> Any:
    # As Loss.__call__ does: targets in the loss's type, whatever type they have.
    cast = [ops.cast(ops.convert_to_tensor(part), loss.dtype) for part in (y, output)]
    return loss.call(*cast)
