"""What the backend does not train: said in one line that names the backend which does."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import keras

from simulation.training.backend import ModelError
from simulation.training.keras import private

OWN_STEPS = ("train_step", "test_step", "compute_metrics")
"""Methods of Keras' models that this backend has others in the place of."""


def check(model: keras.Model) -> None:
    """Raise ModelError for a model that JAX cannot train in lanes."""
    for name in OWN_STEPS:
        if getattr(type(model), name) is not getattr(keras.Model, name):
            raise other_backend(
                f"model {model.name!r} must not bring its own {name}", type(model).__name__
            )
    optimizer = model.optimizer
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise other_backend(
            f"model {model.name!r} must not scale its loss (mixed_bfloat16 needs no scale)",
            "mixed_float16",
        )
    others = [
        name
        for name, value in vars(model).items()
        if isinstance(value, keras.Optimizer) and value is not optimizer
    ]
    if others:
        raise ModelError(
            f"model {model.name!r} must have one optimizer, the one it is compiled with, "
            f"got another in {', '.join(others)}"
        )
    stateful = [one.name for one in private.layers_of(model) if getattr(one, "stateful", False)]
    if stateful:
        raise other_backend(f"model {model.name!r} must have no stateful layer", stateful[0])


def other_backend(what: str, got: str) -> ModelError:
    """Return the error for what only the other backend trains."""
    return ModelError(f"{what} on the backend jax, got {got}: use the backend tensorflow")


UNTRACED = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)
"""What JAX raises where a computation depends on values in a way that it cannot trace."""


def untraceable(model: keras.Model, error: BaseException | None) -> ModelError | None:
    """Return the error for a model that JAX cannot trace; None where it failed for another reason.

    Keras puts errors of its own in the place of JAX's, which then stand behind them.
    """
    while error is not None and not isinstance(error, UNTRACED):
        error = error.__cause__ or error.__context__
    if error is None:
        return None
    reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return other_backend(f"model {model.name!r} must be one that JAX can trace", reason)


def unknown(model: keras.Model) -> bool:
    """Tell whether anything of a model is not Keras' own, and might mix a batch's examples."""
    if type(model).compute_loss is not keras.Model.compute_loss:
        return True
    parts: list[Any] = list(private.layers_of(model))
    whole = private.compiled_loss(model)
    if whole is not None:
        loss, _ = private.loss_of_output(whole)
        parts.append(private.wrapped_function(loss) or loss)
    return any(not _module(part).startswith("keras.") for part in parts)


def _module(part: Any) -> str:
    kind = part if inspect.isfunction(part) else type(part)
    return str(kind.__module__)
