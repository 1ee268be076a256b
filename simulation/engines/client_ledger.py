"""Which clients keep something from round to round, and what stands for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from simulation.records.client_states import Handle, StateFile, StateFolder, StateRow


class ClientLedger:
    """The driver's list of what clients keep.

    Args:
        shelf: where workers put states; None: they come back with the results of training.
        kept: returns what a training call says of its clients' states, for its ticket.
    """

    def __init__(self, shelf: StateFolder | None, kept: Callable[[Any], Any]) -> None:
        self.stored: dict[int, StateFile] = {}
        self._shelf, self._kept = shelf, kept
        self._rows: dict[int, Handle] = {}

    def state_of(self, client: int) -> Handle | None:
        """Return what stands for a client's state; None before its first round."""
        return self.stored.get(client) or self._rows.get(client)

    @property
    def known(self) -> list[int]:
        """Clients that keep something, ascending."""
        return sorted(self.stored.keys() | self._rows.keys())

    def keep(self, round: int, clients: Sequence[int], ticket: Any) -> None:
        """Note what the clients that a training call has trained keep from this round on.

        Args:
            round: the round.
            clients: those that contributed, in the order of training.
            ticket: of the call.
        """
        found = self._kept(ticket)
        for row, client in enumerate(clients):
            if self._shelf is not None:
                self.stored[client] = self._shelf.at(client, round, found[row])
            else:
                self._rows[client] = StateRow(found, row)

    def restore(self, stored: Mapping[int, StateFile]) -> None:
        """Let clients go on with what a checkpoint lists."""
        self.stored, self._rows = dict(stored), {}
