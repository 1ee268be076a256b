"""A dataset's inputs on the device, once: clients' steps then name rows, and nothing is copied."""

from __future__ import annotations

import weakref
from typing import Any

import jax

from simulation.datasets import inputs
from simulation.datasets.inputs import Inputs
from simulation.training.jax import memory

SHARE = 0.4
"""Of the memory that a process may take, what datasets may have."""


class Placed:
    """Inputs that are on a device, found again by the arrays that they were made of.

    Processors read them where they are: there, nothing is placed.

    Args:
        room: bytes of the device that datasets may have.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self._held: dict[tuple[int, ...], Any] = {}

    def of(self, x: Inputs) -> Any:
        """Return inputs on the device; None where they have no room there."""
        arrays = inputs.arrays(x)
        key = tuple(id(array) for array in arrays)
        if key not in self._held:
            size = sum(array.nbytes for array in arrays)
            if size > self.room:
                return None
            self.room -= size
            self._held[key] = jax.device_put(x, may_alias=False)
            weakref.finalize(arrays[0], self._forget, key, size)
        return self._held[key]

    def _forget(self, key: tuple[int, ...], size: int) -> None:
        del self._held[key]
        self.room += size


_here: dict[Any, Placed] = {}


def placed() -> Placed:
    """Return what is on this process's device."""
    device = jax.devices()[0]
    if device not in _here:
        limit = None if device.platform == "cpu" else memory.limit_of(device)
        _here[device] = Placed(int((limit or 0) * SHARE))
    return _here[device]


def rows_of(there: Any, x: Any) -> Any:
    """Return inputs: ``x`` itself, or those rows of what is on the device."""
    return x if there is None else jax.tree.map(lambda array: array[x], there)
