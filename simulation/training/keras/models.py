"""Built-in Keras models, and the user's own by ``module:function``.

All built-ins end in logits: the softmax belongs to the loss, where it is stable in float32.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras

from simulation.config import initial, plugins
from simulation.config.sections import Init
from simulation.training.backend import ModelError

Shape = tuple[int, ...]
"""Shape of one example of an input."""


def cnn(shape: Shape, classes: int) -> keras.Model:
    """Two convolutions with pooling, then dense: 225,034 parameters on 28x28x1 and 10 classes."""
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(classes),
        ],
        name="cnn",
    )


def lenet(shape: Shape, classes: int) -> keras.Model:
    """LeNet-5 (LeCun et al. 1998) with ReLU and max pooling: 61,706 parameters on 28x28x1."""
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Conv2D(6, 5, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(16, 5, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(120, activation="relu"),
            keras.layers.Dense(84, activation="relu"),
            keras.layers.Dense(classes),
        ],
        name="lenet",
    )


def mlp(shape: Shape, classes: int) -> keras.Model:
    """Two hidden layers of 200, the "2NN" of McMahan et al. 2017 (arXiv 1602.05629)."""
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Flatten(),
            keras.layers.Dense(200, activation="relu"),
            keras.layers.Dense(200, activation="relu"),
            keras.layers.Dense(classes),
        ],
        name="mlp",
    )


def logistic(shape: Shape, classes: int) -> keras.Model:
    """Multinomial logistic regression, started at zero: the convex case."""
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Flatten(),
            keras.layers.Dense(classes, kernel_initializer="zeros"),
        ],
        name="logistic",
    )


BUILTIN: dict[str, Callable[[Shape, int], keras.Model]] = {
    "cnn": cnn,
    "lenet": lenet,
    "mlp": mlp,
    "logistic": logistic,
}


def build(
    name: str,
    shape: Any,
    classes: int | None,
    seed: int,
    like: Any = None,
    init: Init | None = None,
) -> keras.Model:
    """Build a model with the initial weights that ``seed`` decides, or a file holds.

    Args:
        name: a built-in's name, or ``module:function``; the user's function is called without
            arguments, or with ``(shape, classes)`` when it takes them.
        shape: shape of one example; for a model of several inputs a tuple or mapping of shapes.
        classes: number of classes, or None for regression.
        seed: the experiment's seed.
        like: an example, as the model takes it [1, ...]: a model that makes its weights when it
            is called first is called on it.
        init: the file of initial weights, frozen ones included; None: there is none.

    Raises:
        ModelError: when the function fails or returns something else than a Keras model, or the
            file's weights are not the model's.
    """
    # Weights travel by name, and Keras counts automatic names up in thread-local state: a fresh
    # thread gives every process the same names and leaves the user's own models alone.
    with ThreadPoolExecutor(1) as fresh:
        model = fresh.submit(_build, name, shape, classes, seed, like).result()
        if init is not None:
            fresh.submit(_start_from, init, model).result()
        return model


def _start_from(init: Init, model: keras.Model) -> None:
    from simulation.training.keras.keras_model import statistics

    def entries(model: keras.Model) -> list[Any]:
        return [*model.trainable_variables, *statistics(model)]

    try:
        initial.load(model, init.path, init.sha256, entries)
    except ValueError as error:
        raise ModelError(str(error)) from error


def _build(name: str, shape: Any, classes: int | None, seed: int, like: Any) -> keras.Model:
    # Keras' initialisers without a seed of their own draw from its global generator: set it here,
    # in the worker's process, so that every worker builds the same weights.
    keras.utils.set_random_seed(seed % 2**32)
    if ":" not in name:
        if classes is None:
            raise ModelError(f"model {name!r} classifies, but the dataset has no classes")
        if isinstance(shape, dict) or (shape and isinstance(shape[0], tuple)):
            raise ModelError(
                f"model {name!r} takes one input, but the dataset has {len(shape)}: "
                "name a function of yours, module:function"
            )
        try:
            return BUILTIN[name](shape, classes)
        except ValueError as error:
            raise ModelError(f"model {name!r} cannot take examples of shape {shape}") from error
    try:
        function = plugins.resolve("model", name)
    except ValueError as error:
        raise ModelError(str(error)) from error
    try:
        model = function(*_arguments(function, shape, classes))
    except Exception as error:
        raise ModelError(
            f"model {name!r} failed to build: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(model, keras.Model):
        raise ModelError(f"model {name!r} must return a Keras model, got {type(model).__name__}")
    if not model.built and like is not None:
        try:
            model(like)
        except Exception as error:
            raise ModelError(
                f"model {model.name!r} cannot take examples of shape {shape}: "
                f"{str(error).splitlines()[0]}"
            ) from error
    _check_saves(model)
    return model


def _check_saves(model: keras.Model) -> None:
    """Raise ModelError for a model that could not be saved after the last round."""
    try:
        keras.saving.serialize_keras_object(model)
    except (NotImplementedError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"model {model.name!r} must be one that Keras can save (a get_config of its own "
            f"helps), got {type(error).__name__}: {reason}"
        ) from error


def _arguments(function: Any, shape: Any, classes: int | None) -> tuple[Any, ...]:
    required = [
        p
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return (shape, classes)[: len(required)]
