"""Where inputs are scaled: by the model itself, or in front of it and so in what is saved too."""

from __future__ import annotations

import itertools
from typing import Any

import keras

from simulation.datasets import inputs
from simulation.training.keras import private

BY_LAYER = (keras.layers.Rescaling, keras.layers.Normalization)
"""Layers that a model rescales its inputs with."""

BYTES = 1 / 255
"""The factor proposed for images of bytes."""


def rescales(model: keras.Model) -> bool:
    """Tell whether a model rescales its inputs: by a layer, or by arithmetic on its inputs."""
    if any(isinstance(layer, BY_LAYER) for layer in private.layers_of(model)):
        return True
    seen = {id(tensor) for tensor in getattr(model, "inputs", None) or []}
    for operation in getattr(model, "operations", ()):
        for taken, given in private.applications(operation):
            if not any(id(tensor) in seen for tensor in taken):
                continue
            kind = type(operation).__name__
            if kind in private.ARITHMETIC:
                return True
            if kind in private.PASSING:
                seen |= {id(tensor) for tensor in given}
    return False


def effective(model: keras.Model, scale: Any) -> Any:
    """Return what inputs are multiplied by: 1 instead of 1/255 where the model rescales itself."""
    if not rescales(model):
        return scale
    return inputs.each(lambda by: 1.0 if by == BYTES else by, scale)


def to_save(
    model: keras.Model, scale: Any, like: Any, accuracy: keras.metrics.Metric | None
) -> keras.Model:
    """Return a model that Keras evaluates as it was reported, on inputs as the dataset gives them.

    The scale is its first layer, and it is compiled with an accuracy. A class of one's own whose
    inputs are not scaled is left as it is.

    Args:
        model: a compiled model.
        scale: what its inputs are multiplied by; for several inputs one for each.
        like: an example [1, ...], or several arrays.
        accuracy: the metric of a model that is compiled with none.
    """
    scaled = any(by != 1.0 for by in inputs.arrays(scale))
    own, metrics = private.compile_arguments(model), private.compiled_metrics(model)
    if metrics is not None or private.compiled_loss(model) is None:
        accuracy = None
    if type(model) is keras.Sequential and (scaled or accuracy is not None):
        first = [_layer(scale)] if scaled else []
        shape, kind = tuple(like.shape[1:]), "float32" if scaled else model.inputs[0].dtype
        whole = keras.Sequential([keras.Input(shape, dtype=kind), *first, *model.layers])
    elif scaled:
        whole = _in_front(model, scale, like)
    elif accuracy is not None and type(model) is private.functional():
        whole = keras.Model(model.input, model.output)
    else:
        return model
    whole.name = model.name
    if accuracy is not None:
        own["metrics"] = [accuracy]
    whole.compile(optimizer=model.optimizer, **own)
    return whole


def _layer(scale: float, number: int = 0) -> keras.layers.Layer:
    # A name of its own: the model may have a layer "rescaling" too.
    return keras.layers.Rescaling(scale, dtype="float32", name=f"scale_of_inputs_{number}")


def _in_front(model: keras.Model, scale: Any, like: Any) -> keras.Model:
    """Return a model whose inputs are scaled on their way into another."""
    numbers = itertools.count()

    def given(part: Any, by: float) -> Any:
        kind = "float32" if by != 1.0 else str(part.dtype)
        return keras.Input(tuple(part.shape[1:]), dtype=kind)

    def scaled(part: Any, by: float) -> Any:
        return part if by == 1.0 else _layer(by, next(numbers))(part)

    taken = inputs.each(given, like, scale)
    return keras.Model(taken, model(inputs.each(scaled, taken, scale)))
