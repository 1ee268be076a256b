"""What clients keep, in Ray's object store: for workers on machines without the driver's folder.

The arrays stay on the nodes that made them, where Ray spills them to disk when memory is short.
The driver writes a copy of each, array by array, as a file of the run folder: from there comes the
checkpoint, and what goes down with a node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError

from simulation.records.client_states import Shelf, StateError, Stored
from strategies.core import Vector


@dataclass(frozen=True)
class Held:
    """A client's state in Ray's object store.

    Args:
        ref: of an array [clients, ...].
        row: which row.
        stored: the driver's file of it, which only the driver can read.
    """

    ref: Any
    row: int
    stored: Stored

    def load(self) -> Vector:
        """Return a copy of the row, so that the store may spill the array again.

        Raises:
            StateError: if the array went down with its node.
        """
        try:
            return np.array(ray.get(self.ref)[self.row])
        except RayError as error:
            raise StateError(f"lost with its node: {error}") from error


class Holdings:
    """The driver's view of the states in the object store.

    Args:
        shelf: where it writes their files.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._held: dict[int, Held] = {}
        self._rows: dict[Any, int] = {}
        self._round = 0

    def keep(
        self, round: int, clients: Sequence[int], ref: Any, values: NDArray[np.float32]
    ) -> Mapping[int, Stored]:
        """Note what clients keep, and write it.

        Args:
            round: after which round.
            clients: whose rows these are, in order.
            ref: of the array.
            values: the array [clients, ...], which is not held.
        """
        if round != self._round:
            self._round = round
            self._let_go()
        for row, client in enumerate(clients):
            stored = self._shelf.put(client, round, values[row])
            self._held[client] = Held(ref, row, stored)
        self._rows[ref] = len(clients)
        return {client: self._held[client].stored for client in clients}

    def handle(self, stored: Stored) -> Held:
        """Return what stands for a state; it is read from its file if the store has it no more."""
        held = self._held.get(stored.client)
        if held is None or held.stored != stored:
            held = self._held[stored.client] = _put(stored)
            self._rows[held.ref] = 1
        return held

    def _let_go(self) -> None:
        """Let Ray free arrays most of whose clients have moved on; the files have the others."""
        alive = Counter(held.ref for held in self._held.values())
        self._rows = {ref: rows for ref, rows in self._rows.items() if 2 * alive[ref] > rows}
        self._held = {c: held for c, held in self._held.items() if held.ref in self._rows}


def from_files(args: Sequence[Any]) -> tuple[Any, ...]:
    """Return a call's arguments with the states put into the store anew, from their files."""
    return tuple(
        [_put(one.stored) if isinstance(one, Held) else one for one in arg]
        if isinstance(arg, list)
        else arg
        for arg in args
    )


def _put(stored: Stored) -> Held:
    return Held(ray.put(stored.load()[None]), 0, stored)
