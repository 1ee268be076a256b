"""Where inputs are scaled: by the model itself, or in front of it and so in what is saved too."""

from __future__ import annotations

import itertools
from typing import Any

import keras

from simulation.datasets import inputs

BY_LAYER = (keras.layers.Rescaling, keras.layers.Normalization)
"""Layers that a model rescales its inputs with."""

PASSING = ("Cast", "GetItem", "Reshape", "Transpose", "ExpandDims", "Concatenate", "Stack", "Flip")
"""Operations that leave values as they are: what follows them may still rescale the inputs."""

ARITHMETIC = ("Add", "Subtract", "Multiply", "Divide", "TrueDivide")
"""Operations that rescale inputs, as Keras' ``preprocess_input`` functions use them."""

BYTES = 1 / 255
"""The factor proposed for images of bytes."""


def rescales(model: keras.Model) -> bool:
    """Tell whether a model rescales its inputs: by a layer, or by arithmetic on its inputs."""
    if any(isinstance(layer, BY_LAYER) for layer in model._flatten_layers()):
        return True
    seen = {id(tensor) for tensor in getattr(model, "inputs", None) or []}
    for operation in getattr(model, "operations", ()):
        for node in operation._inbound_nodes:
            if not any(id(tensor) in seen for tensor in node.input_tensors):
                continue
            kind = type(operation).__name__
            if kind in ARITHMETIC:
                return True
            if kind in PASSING:
                seen |= {id(tensor) for tensor in node.outputs}
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
    loss, metrics = model._compile_loss, model._compile_metrics
    accuracy = None if metrics is not None or loss is None else accuracy
    if type(model) is keras.Sequential and (scaled or accuracy is not None):
        first = [_layer(scale)] if scaled else []
        shape, kind = tuple(like.shape[1:]), "float32" if scaled else model.inputs[0].dtype
        whole = keras.Sequential([keras.Input(shape, dtype=kind), *first, *model.layers])
    elif scaled:
        whole = _in_front(model, scale, like)
    elif accuracy is not None and type(model).__name__ == "Functional":
        whole = keras.Model(model._inputs_struct, model._outputs_struct)
    else:
        return model
    whole.name = model.name
    whole.compile(
        optimizer=model.optimizer,
        loss=None if loss is None else loss._user_loss,
        loss_weights=None if loss is None else loss._user_loss_weights,
        metrics=[accuracy] if metrics is None and accuracy is not None else _user(metrics),
        weighted_metrics=None if metrics is None else metrics._user_weighted_metrics,
    )
    return whole


def _user(metrics: Any) -> Any:
    return None if metrics is None else metrics._user_metrics


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
