"""Means of features or logits by class, of the rows that a client has: for both backends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from simulation.datasets import inputs
from simulation.datasets.inputs import Inputs
from simulation.training.keras.objectives import ModelObjective
from strategies.objective import KNOWN, MEANS
from strategies.spec import Spec, Vector

MOST_ROWS = 256
"""Rows of a call; a client of fewer takes the next power of two, so that few shapes compile."""


class MeasuredMeans:
    """What clients tell of their classes, each measured by itself: its bits are its own.

    Args:
        objective: of the client rule.
        spec: layout of the model.
        variables: the model's, in the layout's order.
        scaled: from examples to what the model takes.
        compiled: makes a function of arrays one of the backend's.
    """

    def __init__(
        self, objective: ModelObjective, spec: Spec, variables: Sequence[keras.Variable],
        scaled: Callable[[Any], Any], compiled: Callable[[Callable[..., Any]], Callable[..., Any]],
    ) -> None:  # fmt: skip
        def sums(values: Sequence[Any], x: Any, y: Any, valid: Any) -> Any:
            pairs = list(zip(variables, values, strict=True))
            return objective.sums(scaled(x), y, valid, pairs)

        self._sums, self._spec = compiled(sums), spec

    def of(self, model: Vector, x: Inputs, y: NDArray[Any]) -> Mapping[str, Vector]:
        """Return the means by class and the classes that have rows, under the names of uploads.

        Args:
            model: a client's weights [P].
            x: its examples.
            y: their targets.
        """
        values = self._spec.unravel(np.ascontiguousarray(model, np.float32))
        rows = min(MOST_ROWS, 1 << (len(y) - 1).bit_length())
        sums, counts = np.zeros(self._spec.of_classes), np.zeros(self._spec.of_classes[0])
        for first in range(0, len(y), rows):
            at = np.arange(first, first + rows)
            valid, at = at < len(y), np.minimum(at, len(y) - 1)
            found = self._sums(values, inputs.rows(x, at), y[at], valid)
            some, count = (np.asarray(part, np.float64) for part in found)
            sums, counts = sums + some, counts + count
        means = sums / np.maximum(counts, 1.0)[:, None]
        return {
            MEANS: means.ravel().astype(np.float32),
            KNOWN: (counts > 0).astype(np.float32),
        }
