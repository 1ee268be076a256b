"""Local training in phases: which weights each one trains, of which model, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from strategies import checks

EVERYTHING = "all"
"""Stands for all weights of the model."""

EXCEPT = "except:"
"""``except:last:1`` stands for all weights but those of the last layer."""

RECEIVED = "received"
"""Name under which a phase's hook sees the received weights, among what the client keeps."""


@dataclass(frozen=True)
class Phase:
    """One of several trainings of a client in a round, each with a fresh optimiser.

    A phase goes on from where the one before it has ended with the same model.

    Args:
        frozen: patterns of the names of weights that it does not train.
        epochs: local epochs, perhaps a part of one; None: the local work that is configured.
        steps: so many steps, in the place of epochs.
        learning_rate: of the client's optimiser; None: as it is configured.
        hook: changes the gradient as a client rule's; it sees the received weights in ``own`` as
            ``received``, and ``w0`` is what the phase begins with.
        second: whether it trains the client's second model, not the one whose change is sent.

    Raises:
        ValueError: for epochs or a rate that are no number > 0, steps that are no number >= 1.
    """

    frozen: tuple[str, ...] = ()
    epochs: float | None = None
    hook: Callable[..., Any] | None = None
    second: bool = False
    steps: int | None = None
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        if self.epochs is not None:
            checks.number("epochs", self.epochs, "> 0")
        if self.steps is not None:
            checks.integer("steps", self.steps, ">= 1")
        if self.learning_rate is not None:
            checks.number("learning_rate", self.learning_rate, "> 0")
