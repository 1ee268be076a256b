"""What clients do in a round: epochs or a number of steps, on batches or on all that they have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from simulation.config.fields import is_number

if TYPE_CHECKING:
    from simulation.config.sections import Training

ALL = "all"
"""The batch size of who takes steps on all examples."""

ROUNDING = 1e-9
"""Of a step that a number of epochs may be over, as 0.1 of 10 steps is one."""


def _epochs(value: Any) -> Any:
    if not is_number(value) or not 0 < value < math.inf:
        raise ValueError("must be a number > 0")
    return int(value) if value == int(value) else float(value)


def _batch(value: Any) -> Any:
    if value == ALL and isinstance(value, str):
        return value
    if not is_number(value) or not 1 <= value < math.inf or value != int(value):
        raise ValueError("must be a whole number >= 1, or 'all'")
    return int(value)


Epochs = Annotated[int | float, BeforeValidator(_epochs), Field(gt=0)]

Batch = Annotated[int | Literal["all"], BeforeValidator(_batch)]


@dataclass(frozen=True)
class LocalWork:
    """The local work of clients; the last step of an epoch takes what is left of the examples.

    With n examples, batches of b and E epochs a client takes ``ceil(E ceil(n / b))`` steps.

    Args:
        epochs: E, perhaps a part of one; of no account where steps are counted.
        batch: b, examples of a step; None: all that a client has.
        count: steps that each client takes, whatever it has; None: those of its epochs.
    """

    epochs: float = 1
    batch: int | None = None
    count: int | None = None

    def steps_per_epoch(self, sizes: Any) -> NDArray[np.int64]:
        """Return the steps of an epoch of clients of some sizes."""
        whole = np.asarray(sizes, np.int64)
        return np.minimum(whole, 1) if self.batch is None else -(-whole // self.batch)

    def steps(self, sizes: Any) -> NDArray[np.int64]:
        """Return the steps that clients of some sizes take; who has no examples takes none."""
        each = self.steps_per_epoch(sizes)
        if self.count is not None:
            return np.where(each > 0, self.count, 0)
        if isinstance(self.epochs, int):
            return each * self.epochs
        return np.ceil(each * self.epochs - ROUNDING).astype(np.int64)

    def passes(self, sizes: Any) -> NDArray[np.int64]:
        """Return how many epochs clients of some sizes begin."""
        each = self.steps_per_epoch(sizes)
        return -(-self.steps(sizes) // np.maximum(each, 1))

    def examples(self, sizes: Any) -> NDArray[np.int64]:
        """Return how many examples clients of some sizes train on, every epoch counted."""
        whole, each = np.asarray(sizes, np.int64), self.steps_per_epoch(sizes)
        epochs, rest = np.divmod(self.steps(sizes), np.maximum(each, 1))
        batch = whole if self.batch is None else self.batch
        return epochs * whole + np.minimum(whole, rest * batch)

    def about(self, examples: float, clients: float = 1) -> float:
        """Return about how many examples so many clients train on, who have so many together."""
        if self.count is None:
            return examples * self.epochs
        each = examples / clients if clients else 0.0
        return clients * self.count * (each if self.batch is None else min(each, self.batch))


def local_work(training: Training) -> LocalWork:
    """Return the local work that an experiment says."""
    batch = None if training.batch_size == ALL else int(training.batch_size)
    return LocalWork(training.local_epochs, batch, training.local_steps)
