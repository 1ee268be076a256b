"""Optimiser steps that Keras models take in ways of their own.

A model may bring its own ``train_step``; it then decides about the loss, the gradients and when
the optimiser is called. And an optimiser may scale the loss (mixed precision), so that gradients
come out scaled too. In both cases a client rule's hook has its place where the plain gradients
are: in the innermost optimiser's ``apply``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from simulation.training.backend import ModelError
from simulation.training.tensorflow.keras_metrics import KerasMetrics

Gradients = Callable[[list[Any]], list[Any]]
"""From the gradients of all trainable variables to those to apply."""


def is_own(model: keras.Model) -> bool:
    """Tell whether a model's class brings its own ``train_step``."""
    return type(model).train_step is not keras.Model.train_step


def scales_loss(optimizer: keras.Optimizer) -> bool:
    """Tell whether an optimiser expects gradients of a scaled loss."""
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    return scaled or optimizer.loss_scale_factor is not None


def check(model: keras.Model) -> None:
    """Raise ModelError for what cannot be started afresh for every client.

    Only the optimiser that the model is compiled with is reset between clients.
    """
    others = [
        name
        for name, value in vars(model).items()
        if isinstance(value, keras.Optimizer) and value is not model.optimizer
    ]
    if others:
        raise ModelError(
            f"model {model.name!r} must have one optimizer, the one it is compiled with, "
            f"got another in {', '.join(others)}"
        )


@contextmanager
def hooked(model: keras.Model, hook: Gradients | None) -> Iterator[None]:
    """Let gradients go through ``hook`` on their way into the optimiser, while a graph is traced.

    Args:
        model: a compiled model.
        hook: takes unscaled gradients of ``model.trainable_variables``; None for no change.
    """
    if hook is None:
        yield
        return
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    plain, factor = optimizer.apply, optimizer.loss_scale_factor or 1.0

    def apply(grads: Sequence[Any], trainable_variables: Any = None) -> None:
        known = model.trainable_variables
        variables = list(known if trainable_variables is None else trainable_variables)
        given = {id(v): g for v, g in zip(variables, grads, strict=True) if g is not None}
        # What the loss does not depend on has the gradient 0: a proximal term still pulls at it.
        full = [
            tf.convert_to_tensor(given[id(v)]) / factor
            if id(v) in given
            else tf.zeros(v.shape, v.dtype)
            for v in known
        ]
        used = {id(v) for v in variables}
        changed = zip(known, hook(full), strict=True)
        pairs = [(g * factor, v) for v, g in changed if id(v) in used]
        plain([g for g, _ in pairs], [v for _, v in pairs])

    optimizer.apply = apply
    try:
        yield
    finally:
        del optimizer.apply


@contextmanager
def apart(optimizer: keras.Optimizer) -> Iterator[None]:
    """Let an optimiser put ``w - v`` into a place of its own, while a graph is traced.

    To subtract in place, TensorFlow first copies weights that somebody else holds, as the server's
    are at a client's first step. A difference takes the place of ``v`` instead, which nobody needs
    any more: neither the start of a client nor any of its steps copies a weight. The bits are those
    of the subtraction in place.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    plain = inner.assign_sub

    def assign_sub(variable: Any, value: Any) -> None:
        held = variable.value if isinstance(variable, keras.Variable) else variable
        if isinstance(value, tf.IndexedSlices):
            plain(variable, value)
        else:
            held.assign(held - tf.cast(value, held.dtype))

    inner.assign_sub = assign_sub
    try:
        yield
    finally:
        del inner.assign_sub


def _flat(logs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    # The metrics that a model is compiled with come as one mapping among the others.
    for name, value in logs.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        else:
            yield str(name), value


def take_own(
    model: keras.Model,
    x: Any,
    y: tf.Tensor,
    weights: tf.Tensor | None,
    hook: Gradients | None,
    metrics: KerasMetrics,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Take one step as the model does; return loss, what is right and what counts of the batch.

    Loss and accuracy are what ``train_step`` reports, as ``loss`` and as the first name with
    ``accuracy`` in it (NaN without one); metrics are reset before, so that they are those of this
    batch, and then added to what they had seen.

    Raises:
        ModelError: when it reports no loss.
    """
    before = metrics.take()
    metrics.reset()
    with hooked(model, hook), apart(model.optimizer):
        logs = model.train_step((x, y) if weights is None else (x, y, weights))
    metrics.put(before + metrics.take())
    loss, accuracy = reported(model, logs, "train_step")
    rows = tf.cast(tf.shape(y)[0], tf.float32)
    return loss, accuracy * rows, rows


def reported(model: keras.Model, logs: Any, step: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Return loss and accuracy of what a model's own step reports; NaN where it has no accuracy.

    Raises:
        ModelError: when it reports no loss.
    """
    if not isinstance(logs, Mapping) or "loss" not in logs:
        got = ", ".join(map(str, logs)) if isinstance(logs, Mapping) else type(logs).__name__
        raise ModelError(
            f"{step} of model {model.name!r} must return a mapping with 'loss', got {got}"
        )
    all_logs = dict(_flat(logs))
    named = [name for name in all_logs if "accuracy" in name]
    accuracy = all_logs[named[0]] if named else float("nan")
    loss = tf.reduce_mean(tf.cast(logs["loss"], tf.float32))
    return loss, tf.reduce_mean(tf.cast(accuracy, tf.float32))
