"""The loss of a model that is not compiled: what fits its output and the targets, or one line."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from simulation.config.sections import Training
from simulation.training.backend import ModelError
from simulation.training.keras import private

losses = keras.losses


def activation_of(model: keras.Model) -> str:
    """Return how a model's output ends: ``softmax``, ``sigmoid``, ``linear`` or another name."""
    layer = _last(model)
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    if isinstance(layer, keras.Model):
        return activation_of(layer)
    function = getattr(layer, "activation", None)
    return "linear" if function is None else str(getattr(function, "__name__", function))


def _last(model: keras.Model) -> Any:
    outputs = getattr(model, "outputs", None)
    made_by = private.maker_of(outputs[0]) if outputs else None
    if made_by is not None and made_by is not model:
        return made_by
    return model.layers[-1] if model.layers else None


def loss_for(
    model: keras.Model, training: Training, y: NDArray[Any], output: Any, classes: int | None
) -> keras.losses.Loss | None:
    """Return the loss for a model that is compiled with none; None where there is one already.

    Raises:
        ModelError: when no loss fits its output and the targets.
    """
    if training.loss or private.compiled_loss(model) is not None:
        return None
    if model.compiled and _adds_losses(model):
        return None  # It learns from these alone, as in Keras' fit.
    some = y[: min(len(y), 1000)]
    return fitting(model, some, tuple(output.shape[1:]), classes)


def _adds_losses(model: keras.Model) -> bool:
    """Tell whether a model calls ``add_loss``; regularisers of activities do so for layers."""
    return any(
        private.added_losses(layer) and getattr(layer, "activity_regularizer", None) is None
        for layer in private.layers_of(model)
    )


def fitting(
    model: keras.Model, y: NDArray[Any], shape: tuple[int, ...], classes: int | None
) -> keras.losses.Loss:
    """Return the loss that fits.

    Args:
        model: the model.
        y: targets of some examples [n, ...]; their type and shape decide.
        shape: the output's shape for one example.
        classes: number of classes of the dataset, None where it has none.

    Raises:
        ModelError: when no loss fits; the text says what would.
    """
    ends, last = activation_of(model), shape[-1] if shape else 1
    target, whole = tuple(y.shape[1:]), y.dtype.kind in "biu"
    logits = ends not in ("softmax", "sigmoid")
    per_output = target == shape and (last > 1 or len(shape) > 1 or not whole)
    numbers = whole and not (per_output and last > 1)
    if numbers and last > 1 and ends != "sigmoid":
        return losses.SparseCategoricalCrossentropy(from_logits=logits)
    if numbers and last == 1 and (classes or 2) <= 2 and ends != "softmax":
        return losses.BinaryCrossentropy(from_logits=logits)
    if whole and per_output and classes is not None and classes <= 2 and ends != "softmax":
        return losses.BinaryCrossentropy(from_logits=logits)
    if classes is not None and target == shape and last > 1:
        if ends == "sigmoid":
            return losses.BinaryCrossentropy()
        return losses.CategoricalCrossentropy(from_logits=logits)
    if not whole and classes is None and _fits(target, shape):
        if ends == "linear":
            return losses.MeanSquaredError()
        if ends == "sigmoid" and float(np.min(y)) >= 0 and float(np.max(y)) <= 1:
            return losses.BinaryCrossentropy()
        if ends not in ("softmax", "sigmoid"):
            return losses.MeanSquaredError()
    what = f"class numbers below {classes}" if whole and classes else "numbers"
    raise ModelError(
        f"model {model.name!r} must be compiled with a loss that fits, or end in an output that "
        f"does (softmax or logits of every class, one sigmoid, linear for numbers), got "
        f"{ends} of shape {shape} for targets of shape {target} ({what}, {y.dtype})"
    )


def _fits(target: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Tell whether targets are one for each output, where a last axis of 1 may be left out."""
    return target == shape or (*target, 1) == shape or target == (*shape, 1)


def in_words(loss: keras.losses.Loss) -> str:
    """Return a loss as words for the screen."""
    name = str(loss.name).replace("_", " ")
    if not hasattr(loss, "from_logits"):
        return name
    return f"{name} on {'logits' if loss.from_logits else 'probabilities'}"
