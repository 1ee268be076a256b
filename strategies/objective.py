"""What a client adds to its loss, where it must see more than gradients and weights.

An :class:`Objective` sees what models make of a batch: the client's own, the one that it received,
and the one that it had after its last round. It is written in the array functions that it is given,
``keras.ops`` in a client, so that one text runs on every backend and differentiates itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Outputs:
    """What a model makes of the n rows of a batch.

    Args:
        logits: of K classes [n, K].
        features: what its last layer with weights takes [n, D].
    """

    logits: Any
    features: Any


@dataclass(frozen=True)
class Seen:
    """What an objective sees of a batch.

    Args:
        truth: 1 for the class of each row, else 0 [n, K].
        counts: 1 for the rows that count, 0 for those that only fill the batch up [n].
        own: of the model under way, which is differentiated.
        received: of the model as received; None unless it is asked for.
        last: of the client's model after its last round, or the received one in its first; None
            unless it is asked for.
        held: how many of all rows of the client are of each class [K]; None unless it is asked for.
        means: what the server shares of each class [K, D]: of features, or of logits (D = K); None
            unless it is asked for.
        known: 1 for the classes of which it shares something, else 0 [K].
    """

    truth: Any
    counts: Any
    own: Outputs
    received: Outputs | None = None
    last: Outputs | None = None
    held: Any = None
    means: Any = None
    known: Any = None


Term = Callable[[Any, Seen, Mapping[str, Any]], Any]
"""``term(ops, seen, numbers)``: what is added to a batch's mean loss, a number; ``numbers`` are
those that the server shares."""


@dataclass(frozen=True)
class Objective:
    """What a client adds to its loss.

    Args:
        term: the function.
        received: whether it sees what the received model makes of a batch.
        last: whether it sees what the client's last model makes of it; :data:`LAST` is then among
            the rule's states, and kept without an ``after``.
        held: whether it sees how many rows of each class the client holds.
        entropy: whether the loss that it changes must be the cross-entropy of unweighted rows.
        means: what the client tells of its classes after its training, and sees of those of all:
            the means of the ``"features"`` or ``"logits"`` of its rows; the uploads :data:`MEANS`
            and :data:`KNOWN`, which the server rule shares by the same names.
    """

    term: Term
    received: bool = False
    last: bool = False
    held: bool = False
    entropy: bool = False
    means: Literal["features", "logits"] | None = None


MEANS = "means"
"""Name of the means of each class [K * D], row by row; 0 for a class without rows."""

KNOWN = "known"
"""Name of what tells the classes that have rows [K]: 1, else 0."""

OF_CLASSES = (MEANS, KNOWN)


LAST = "last"
"""Name of the trained weights [T] that a client ended its last round with, among its states."""


HELD = "held"
"""Name of a client's counts of classes [K], beside its states."""


def mean(ops: Any, values: Any, counts: Any) -> Any:
    """Return the mean of a value for each row [n] over the rows that count."""
    return ops.sum(values * counts) / ops.maximum(ops.sum(counts), 1.0)
