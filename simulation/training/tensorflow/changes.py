"""What a client rule changes of a client's steps: its gradients, and its loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from simulation.training.keras.objectives import ModelObjective
from strategies.objective import HELD, LAST, OF_CLASSES


class Changes(NamedTuple):
    """What changes a client's steps; None for nothing.

    Args:
        hook: from gradients to those to apply.
        term: ``term(x, y, output, features)``: what is added to a batch's loss.
        frozen: weights that are not trained, and what they are.
        begin: the received weights.
        numbers: what the server shares that are no vectors.
    """

    hook: Callable[[list[Any]], list[Any]] | None
    term: Callable[[Any, Any, Any, Sequence[Any]], Any] | None
    frozen: Sequence[tuple[keras.Variable, Any]] = ()
    begin: Sequence[Any] = ()
    numbers: Mapping[str, Any] = {}

    def restore(self) -> None:
        """Put the weights back that are not trained: a decay of weights moves them, too."""
        for variable, value in self.frozen:
            variable.assign(value)


def term_of(
    objective: ModelObjective | None, weights: Sequence[keras.Variable], begin: Sequence[Any],
    shared: Mapping[str, Any], own: Mapping[str, Any], parts: Callable[..., list[Any]],
) -> Any:  # fmt: skip
    """Return what a client adds to the loss of a batch; None for nothing.

    Args:
        objective: of the client rule.
        weights: the model's variables.
        begin: their values as received.
        shared: what the server shares: vectors [T], numbers, or means of classes.
        own: the client's state, vectors [T].
        parts: cuts a vector into the values of the first so many weights.
    """
    if objective is None:
        return None
    numbers = {
        name: value for name, value in shared.items() if value.shape.rank == 0 or name in OF_CLASSES
    }
    received = list(zip(weights, begin, strict=True))
    last = None
    if objective.objective.last:
        # In its first round a client has none, and its state is zeros.
        new = tf.reduce_all(own[LAST] == 0)
        count = sum(variable.trainable for variable in weights)
        kept = [
            tf.where(new, there, here)
            for there, here in zip(begin[:count], parts(own[LAST], count), strict=True)
        ]
        last = list(zip(weights, [*kept, *begin[count:]], strict=True))

    def term(x: Any, y: Any, output: Any, features: Sequence[Any]) -> Any:
        held = own.get(HELD)
        return objective.term(x, y, output, features, None, received, last, numbers, held)

    return term
