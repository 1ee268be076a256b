"""What clients keep, in Ray's object store: for workers on machines without the driver's folder.

The arrays stay on the nodes that made them, where Ray spills them to disk when memory is short.
The driver writes a copy of each, array by array, as a file of the run folder: from there comes the
checkpoint, and what goes down with a node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError

from simulation.engines.calls import Call
from simulation.engines.client_ledger import ClientLedger
from simulation.engines.ray.limits import fetched
from simulation.records.client_states import Handle, StateError, StateFile, StateFolder
from strategies.spec import Vector


@dataclass(frozen=True)
class ObjectState:
    """A client's state in Ray's object store.

    Args:
        ref: of an array [clients, ...].
        row: which row.
        stored: the driver's file of it, which only the driver can read.
    """

    ref: Any
    row: int
    stored: StateFile

    def load(self) -> Vector:
        """Return a copy of the row, so that the store may spill the array again.

        Raises:
            StateError: if the array went down with its node, or does not come from there.
        """
        try:
            return np.array(fetched(self.ref)[self.row])
        except RayError as error:
            raise StateError(f"lost with its node: {error}") from error


class ObjectStoreStates:
    """The driver's view of the states in the object store.

    Args:
        shelf: where it writes their files.
    """

    def __init__(self, shelf: StateFolder) -> None:
        self.shelf = shelf
        self._held: dict[int, ObjectState] = {}
        self._rows: dict[Any, int] = {}
        self._round = 0

    def keep(
        self, round: int, clients: Sequence[int], ref: Any, values: NDArray[np.float32]
    ) -> Mapping[int, StateFile]:
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
            stored = self.shelf.put(client, round, values[row])
            self._held[client] = ObjectState(ref, row, stored)
        self._rows[ref] = len(clients)
        return {client: self._held[client].stored for client in clients}

    def handle(self, stored: StateFile) -> ObjectState:
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


def from_files(call: Call) -> Call:
    """Return a call with the states put into the store anew, from their files."""
    given = {field.name: getattr(call, field.name) for field in fields(call)}
    again: dict[str, Any] = {
        name: [_put(one.stored) if isinstance(one, ObjectState) else one for one in value]
        for name, value in given.items()
        if isinstance(value, list)
    }
    return replace(call, **again)


class ObjectStoreLedger(ClientLedger):
    """A ledger of states that stay in the object store.

    Args:
        shelf: where the driver writes their files.
        kept: returns what a training call says of its clients' states, for its ticket.
    """

    def __init__(self, shelf: StateFolder, kept: Callable[[Any], Any]) -> None:
        super().__init__(shelf, kept)
        self._holdings = ObjectStoreStates(shelf)

    def release(self) -> None:
        """Let Ray free all states; the files stay."""
        self._holdings = ObjectStoreStates(self._holdings.shelf)

    def keep(self, round: int, clients: Sequence[int], ticket: Any) -> None:
        """Note what clients keep."""
        values = self._kept(ticket)
        self.stored.update(self._holdings.keep(round, clients, ticket.refs[2], values))

    def state_of(self, client: int) -> Handle | None:
        """Return what stands for a client's state."""
        stored = self.stored.get(client)
        return None if stored is None else self._holdings.handle(stored)


def _put(stored: StateFile) -> ObjectState:
    return ObjectState(ray.put(stored.load()[None]), 0, stored)
