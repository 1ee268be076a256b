"""A model while it is traced: layers in their fast form, and rows that only fill a batch up.

A short batch is filled up, so that all batches have one shape. What is averaged over a batch then
goes by the rows that count: the loss, moments of batch normalisation, penalties on activations.
Nothing of this stays on the model, which is saved as it was built.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import jax.numpy as jnp
import keras
import numpy as np

from simulation.training.backend import ModelError
from simulation.training.jax.fast_layers import fast_call
from simulation.training.keras import private


@contextmanager
def traced(model: keras.Model, counts: Any = None) -> Iterator[None]:
    """Let a model be traced.

    Args:
        model: the model.
        counts: which rows of the batch count, bool [B]; None: all do.
    """
    changed: list[tuple[dict[str, Any], str, Any]] = []

    def change(layer: keras.layers.Layer, name: str, value: Any) -> None:
        changed.append((vars(layer), name, vars(layer).get(name)))
        vars(layer)[name] = value

    try:
        for layer in private.layers_of(model):
            fast = fast_call(layer)
            if fast is not None:
                change(layer, *fast)
            if counts is None:
                continue
            if isinstance(layer, keras.layers.BatchNormalization):
                change(layer, "call", _normalised(layer, counts))
            if layer.activity_regularizer is not None:
                penalty = _penalty(layer.activity_regularizer, counts)
                change(layer, "activity_regularizer", penalty)
        yield
    finally:
        for place, name, before in reversed(changed):
            if before is None:
                del place[name]
            else:
                place[name] = before


def _normalised(layer: keras.layers.BatchNormalization, counts: Any) -> Any:
    plain = layer.call

    def call(inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if inputs.shape[0] != counts.shape[0]:
            raise ModelError(
                f"layer {layer.name!r} must normalise over the examples of a batch on the backend "
                f"jax, got {inputs.shape[0]} rows for {counts.shape[0]} examples: use the backend "
                "tensorflow"
            )
        valid = counts.reshape((-1, *[1] * (len(inputs.shape) - 2)))
        return plain(inputs, training=training, mask=valid if mask is None else mask & valid)

    return call


@cache
def divides_penalties() -> bool:
    """Tell whether Keras divides penalties on activations by the rows of a batch.

    It does from release 3.14 on. Ask it first where nothing is traced.
    """
    layer = keras.layers.Activation("linear", activity_regularizer=keras.ops.sum)
    layer(np.ones((2, 1), np.float32))
    return float(layer.losses[0]) == 1.0


def _penalty(plain: Any, counts: Any) -> Any:
    """Where Keras divides by all rows of the batch, by as much more does this multiply."""

    def penalty(output: Any) -> Any:
        valid = counts.reshape((-1, *[1] * (len(output.shape) - 1)))
        whole = plain(jnp.where(valid, output, 0))
        if not divides_penalties():
            return whole
        return whole * counts.shape[0] / jnp.maximum(counts.sum(), 1)

    return penalty


def mask_rows(output: Any, counts: Any) -> None:
    """Leave the rows that do not count out of all that is computed of an output [B, ...].

    Keras' losses average over what a mask leaves.
    """
    valid = counts.reshape((-1, *[1] * max(0, len(output.shape) - 2)))
    mask = private.mask_of(output)
    private.set_mask(output, valid if mask is None else mask & valid)
