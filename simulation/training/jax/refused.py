"""What the backend does not train: said in one line that names the backend which does."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from simulation.datasets import inputs
from simulation.training.backend import ModelError
from simulation.training.keras import private

if TYPE_CHECKING:
    from simulation.training.jax.prepared import PreparedModel

OWN_STEPS = ("train_step", "test_step", "compute_metrics")
"""Methods of Keras' models that this backend has others in the place of."""

ROWS, COUNTING = 4, 2
"""Rows of the batch that shows whether examples are independent, and how many of them count."""

SAME = 1e-5
"""How far the loss may be off when rows that do not count are others, relatively."""


def check(model: keras.Model) -> None:
    """Raise ModelError for a model that JAX cannot train in lanes."""
    for name in OWN_STEPS:
        if getattr(type(model), name) is not getattr(keras.Model, name):
            raise _other(
                f"model {model.name!r} must not bring its own {name}", type(model).__name__
            )
    optimizer = model.optimizer
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise _other(
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
        raise _other(f"model {model.name!r} must have no stateful layer", stateful[0])


def _other(what: str, got: str) -> ModelError:
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
    return _other(f"model {model.name!r} must be one that JAX can trace", reason)


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


def check_rows_apart(model: PreparedModel, x: Any, y: Any, weighted: bool) -> None:
    """Raise ModelError where rows that only fill a batch up change the loss of the others."""
    from simulation.training.jax.step import Batch, Client, Given, forward

    count = min(len(y), ROWS)
    first = [i % count for i in range(ROWS)]
    others = [*first[:COUNTING], *([first[-1]] * (ROWS - COUNTING))]
    client = Client(
        model.values(model.trained), model.values(model.statistics), [],
        model.values(model.rest), np.stack([*model.values(model.seeds)]) if model.seeds else None,
        model.values(model.metrics.variables), None,
    )  # fmt: skip
    given = Given([], model.values(model.frozen), 0.0, {})
    counts = np.arange(ROWS) < COUNTING
    weights = np.ones(ROWS, np.float32) if weighted else None

    def loss(taken: Any, targets: Any) -> Any:
        batch = Batch(taken, targets, weights, COUNTING)
        goal, (_, _, _, after) = forward(
            model, given, client, model.inputs(taken), batch, jnp.asarray(counts)
        )
        return [goal, *after["statistics"]]

    try:
        compiled = jax.jit(loss)
        one, two = (compiled(inputs.rows(x, at), y[at]) for at in (_rows(first), _rows(others)))
    except ModelError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        plain = _other(f"model {model.keras.name!r} must be one that JAX can trace", reason)
        raise untraceable(model.keras, error) or plain from error
    zeros = np.zeros_like(y[_rows(others)])
    zeros[:COUNTING] = y[_rows(first)][:COUNTING]
    three = compiled(inputs.each(_blank, inputs.rows(x, _rows(first))), zeros)
    for found in (two, three):
        if not all(
            np.allclose(a, b, rtol=SAME, atol=1e-6) for a, b in zip(one, found, strict=True)
        ):
            raise _other(
                f"model {model.keras.name!r} must take each example by itself (batch "
                "normalisation aside)",
                "a layer or loss of its own that mixes a batch's examples",
            )


def _rows(at: list[int]) -> Any:
    return np.asarray(at, np.int64)


def _blank(part: Any) -> Any:
    """Return a batch whose rows that do not count are zeros."""
    blank = np.zeros_like(part)
    blank[:COUNTING] = part[:COUNTING]
    return blank
