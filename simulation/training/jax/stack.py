"""What clients have learned, left on the device: summed there, and fetched by those who need it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from strategies.stacked import Row

AT_ONCE = 16
"""Rows that are added in one pass over the total."""


class DeviceStack:
    """The deltas of a call's clients: :class:`~strategies.stacked.Stack` on JAX's device.

    Args:
        ends: weights that the clients have ended with [M, P], of which the first are these.
        start: the weights that they have begun with [P].
        moved: which of the clients took a step [C]; the others' rows may hold anything.
        lock: of who writes over the ends.
        room: how many rows are summed at most; as many as there are ends when None.
    """

    def __init__(
        self,
        ends: Any,
        start: Any,
        moved: NDArray[np.bool_],
        lock: AbstractContextManager[Any],
        room: int | None = None,
    ) -> None:
        self._lock = lock
        self.count = len(moved)
        self._room, self.size = room or int(ends.shape[0]), int(ends.shape[1])
        if not moved.all():
            whole = np.zeros(int(ends.shape[0]), bool)
            whole[: self.count] = moved
            ends = _standing(ends, start, whole)
        self._device: tuple[Any, Any] | None = (ends, start)
        self._host: NDArray[np.float32] | None = None
        self._squares: dict[int, NDArray[np.float64]] = {}

    def rows(self) -> list[Row]:
        """Return the clients' deltas."""
        return [Row(self, place, self.size) for place in range(self.count)]

    def vectors(self) -> NDArray[np.float32]:
        """Return the deltas in NumPy's memory [C, P]."""
        with self._lock:
            if self._host is None:
                ends, start = self._on_device()
                self._host = np.asarray(ends)[: self.count] - np.asarray(start)
            return self._host

    def leave_device(self) -> None:
        """Fetch the deltas, as what they are in will be written over."""
        with self._lock:
            self.vectors()
            self._device = None

    def squares(self, size: int) -> NDArray[np.float64]:
        """Return the squared norm of the first ``size`` entries of each [C], summed in float64."""
        with self._lock:
            if size not in self._squares:
                ends, start = self._on_device()
                with jax.enable_x64(True):
                    self._squares[size] = np.asarray(_squares(ends, start, size))
            return self._squares[size]

    def total(
        self, rows: Sequence[Row], weights: Sequence[float], measured: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the weighted sum of rows of one length, and each one's squared norm.

        Args:
            rows: of this stack, or of several.
            weights: of each.
            measured: of how many leading entries the norms are, without weights.
        """
        order = np.full(self._room, self._room, np.int32)
        factors, own = np.zeros(self._room), np.array([row.factor for row in rows])
        factors[: len(rows)] = np.asarray(weights) * own
        with self._lock, jax.enable_x64(True):
            if all(row.stack is self for row in rows):
                ends, start = self._on_device()
                order[: len(rows)] = [row.place for row in rows]
            else:  # Of clients that were trained apart: the same sum, whatever their places.
                ends, start = self._uploaded([row.stack.vectors()[row.place] for row in rows])
                order[: len(rows)] = range(len(rows))
            total, squares = _total(ends, start, order, factors, rows[0].size, measured)
            return np.asarray(total), np.asarray(squares)[: len(rows)] * own**2

    def _on_device(self) -> tuple[Any, Any]:
        if self._device is not None:
            return self._device
        return self._uploaded(list(self.vectors()))

    def _uploaded(self, deltas: Sequence[NDArray[np.float32]]) -> tuple[Any, Any]:
        ends = np.zeros((self._room, self.size), np.float32)
        ends[: len(deltas)] = deltas
        return ends, np.zeros(self.size, np.float32)


@jax.jit
def _standing(ends: Any, start: Any, moved: Any) -> Any:
    return jnp.where(moved[:, None], ends, start)


@partial(jax.jit, static_argnames="size")
def _squares(ends: Any, start: Any, size: int) -> Any:
    deltas = (ends[:, :size] - start[:size]).astype(jnp.float64)
    return jnp.sum(deltas * deltas, 1)


@partial(jax.jit, static_argnames=("size", "measured"))
def _total(ends: Any, start: Any, order: Any, factors: Any, size: int, measured: int) -> Any:
    """Return the sum of ``factors[i] * (ends[order[i]] - start)``; rows past the end add nothing.

    One after the other in the order given, so that a row less changes nothing but what it adds.
    With it, the squared norm of the first ``measured`` entries of each.
    """
    room = ends.shape[0]

    def add(total: Any, one: Any) -> tuple[Any, Any]:
        place, factor = one
        delta = (ends[jnp.minimum(place, room - 1), :size] - start[:size]).astype(jnp.float64)
        square = jnp.sum(delta[:measured] * delta[:measured])
        return total + jnp.where(place < room, factor * delta, 0.0), square

    total, squares = lax.scan(
        add, jnp.zeros(size, jnp.float64), (order, factors), unroll=min(AT_ONCE, room)
    )
    return total, squares
