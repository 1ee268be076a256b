"""The seam between training backends and all that uses them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from simulation.training.measured import Described
from strategies.core import Spec, Update, Vector


@dataclass(frozen=True)
class Trained:
    """An update, and what the client keeps: its rule's state and its optimiser's slots.

    ``counted``: what its accuracy counts, in examples; ``states``: variables [S] of the model's own
    metrics, which add up over clients.
    """

    update: Update
    own: Mapping[str, Vector]
    slots: Vector | None
    counted: float = 0.0
    states: Vector | None = None


class ModelError(ValueError):
    """A model that cannot be built or does not fit the data."""


@dataclass(frozen=True)
class ModelInfo:
    """What the server must know of the model: its layout and its initial weights [P]."""

    spec: Spec
    initial: Vector
    learning_rate: float
    described: Described
