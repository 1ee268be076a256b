"""Whether a model takes each example by itself, so that rows which fill a batch up do no harm."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simulation.datasets import inputs
from simulation.training.backend import ModelError
from simulation.training.jax import refused
from simulation.training.jax.prepared import PreparedModel
from simulation.training.jax.step import Batch, Client, Given, forward

ROWS, COUNTING = 4, 2
"""Rows of the batch that shows whether examples are independent, and how many of them count."""

SAME = 1e-5
"""How far the loss may be off when rows that do not count are others, relatively."""


def check_rows_apart(model: PreparedModel, x: Any, y: Any, weighted: bool) -> None:
    """Raise ModelError where rows that only fill a batch up change the loss of the others."""
    count = min(len(y), ROWS)
    first = [i % count for i in range(ROWS)]
    others = [*first[:COUNTING], *([first[-1]] * (ROWS - COUNTING))]
    client = Client(
        model.values(model.trained), model.values(model.statistics), [],
        model.values(model.rest), np.stack([*model.values(model.seeds)]) if model.seeds else None,
        model.values(model.metrics.variables), None,
    )  # fmt: skip
    given = Given([], model.values(model.frozen), 0.0, {}, [], {})
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
        plain = refused.other_backend(
            f"model {model.keras.name!r} must be one that JAX can trace", reason
        )
        raise refused.untraceable(model.keras, error) or plain from error
    zeros = np.zeros_like(y[_rows(others)])
    zeros[:COUNTING] = y[_rows(first)][:COUNTING]
    three = compiled(inputs.each(_blank, inputs.rows(x, _rows(first))), zeros)
    for found in (two, three):
        if not all(
            np.allclose(a, b, rtol=SAME, atol=1e-6) for a, b in zip(one, found, strict=True)
        ):
            raise refused.other_backend(
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
