"""Values in pieces that travel with calls and answers, past the object stores of the nodes.

Ray sends what is larger than 100 KB from object store to object store. After a host was cut off,
these may find each other half a minute later than a worker and its driver do. Values are pickled as
Ray pickles all that it carries between these processes: who can send one could send the other.
"""

from __future__ import annotations

import pickle
from typing import Any

import ray

from simulation.engines.policy import POLICY


class Apart:
    """A worker's side: a value as bytes, cut into pieces.

    Args:
        value: anything that can be pickled.
    """

    def __init__(self, value: Any) -> None:
        self._whole = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    def __len__(self) -> int:
        """Return the number of pieces."""
        return -(-len(self._whole) // POLICY.piece_bytes)

    def some(self, first: int, count: int) -> list[bytes]:
        """Return some of the pieces."""
        size = POLICY.piece_bytes
        return [self._whole[i * size : (i + 1) * size] for i in range(first, first + count)]


class Pieces:
    """The driver's side: a value that a worker has, asked for piece by piece.

    Args:
        actor: the worker, whose node has the value.
        ref: Ray's reference to it.
    """

    def __init__(self, actor: Any, ref: Any) -> None:
        self._actor = actor
        # In a list: Ray would fetch what is an argument of its own.
        self._count = actor.take_apart.remote([ref]).future()
        self._parts: list[Any] = []

    def done(self) -> bool:
        """Ask for what is missing; tell whether all is there."""
        if not self._count.done() or self._count.exception() is not None:
            return False
        left = self._count.result() - len(self._parts)
        while left > 0:
            some = min(left, POLICY.pieces_each)
            asked = self._actor.pieces.options(num_returns=some).remote(len(self._parts), some)
            self._parts += [one.future() for one in (asked if some > 1 else [asked])]
            left -= some
        return all(one.done() and one.exception() is None for one in self._parts)

    def result(self) -> Any:
        """Return the value."""
        return pickle.loads(b"".join(one.result() for one in self._parts))


class ValueLate(RuntimeError):
    """A value that a call takes does not come to the worker's node in time."""


def bring(actor: Any, ref: Any) -> None:
    """Send a worker a value of this node, in pieces; calls that are sent later find it there.

    Args:
        actor: the worker.
        ref: Ray's reference to the value.
    """
    apart = Apart(ray.get(ref, timeout=POLICY.pull_first))
    for first in range(0, len(apart), POLICY.pieces_each):
        some = apart.some(first, min(POLICY.pieces_each, len(apart) - first))
        actor.keep.remote(ref.binary(), len(apart), *some)
