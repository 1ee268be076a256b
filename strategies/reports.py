"""What clients reported when they last took part: the losses that power-of-choice goes by.

A driver remembers them from round to round and puts them into the checkpoint beside the server
rule's state, under names of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from strategies.protocols import State

CLIENTS, LOSSES = "cohort.clients", "cohort.losses"
"""Keys in the state: the clients' numbers, int64 [n], and their losses, float64 [n]."""


@dataclass
class Reports:
    """The last loss of every client that has reported one.

    Args:
        losses: by client.
    """

    losses: dict[int, float] = field(default_factory=dict)

    def add(self, clients: Iterable[int], losses: Iterable[Any]) -> None:
        """Remember what the clients of a round reported."""
        for client, loss in zip(clients, losses, strict=True):
            self.losses[int(client)] = float(loss)

    def beside(self, state: State) -> State:
        """Return ``state`` as a plain mapping, with the reports if there are any."""
        if not self.losses:
            return dict(state)
        known = sorted(self.losses)
        return {
            **state,
            CLIENTS: np.array(known, np.int64),
            LOSSES: np.array([self.losses[client] for client in known]),
        }


def apart(state: Mapping[str, Any]) -> tuple[dict[str, Any], Reports]:
    """Return a state without the reports, and these: the inverse of :meth:`Reports.beside`."""
    rest = {name: value for name, value in state.items() if name not in (CLIENTS, LOSSES)}
    if CLIENTS not in state:
        return rest, Reports()
    pairs = zip(state[CLIENTS].tolist(), state[LOSSES].tolist(), strict=True)
    return rest, Reports(dict(pairs))
