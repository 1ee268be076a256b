"""What clients are sent of the server's model, where it comes encoded, and how much of it.

The server makes one message in every round after the first. Who has had all of them before has the
same model as everybody; who was away is sent what it has missed, or the whole model where that is
shorter, as whoever takes part for the first time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.config.sizes import FLOAT_BYTES
from strategies.encodings.broadcast import Broadcast
from strategies.spec import Spec, Vector

PREFIX = "download."
"""How keys in the state begin."""

NEVER = -1
"""In the place of a message's number: a client that has no model yet."""


class Download:
    """The model that clients have, and up to which message each has it.

    Args:
        broadcast: makes the messages.
        spec: of the model.
        clients: how many are registered.
    """

    def __init__(self, broadcast: Broadcast, spec: Spec, clients: int) -> None:
        self.broadcast = broadcast
        self.whole = FLOAT_BYTES * spec.size
        rest = FLOAT_BYTES * (spec.size - spec.trainable_size)
        self.message = broadcast.encoding.length(broadcast.shapes) + rest
        self._model: Vector | None = None
        self._number = 0
        self._last: NDArray[np.int64] = np.full(clients, NEVER, np.int64)

    def send(self, model: Vector) -> Vector:
        """Make a round's message of the server's model [P]; return the model that clients have."""
        if self._model is None:
            self._model = model.copy()
        else:
            self._number += 1
            self._model = self.broadcast.received(model, self._model, self._number)
        return self._model

    def bytes_for(self, clients: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many bytes bring each client [K] to the model of the last message."""
        last = self._last[np.asarray(clients, np.int64)]
        return np.where(
            last == NEVER,
            self.whole,
            np.minimum(self.whole, self.message * (self._number - last)),
        )

    def deliver(self, clients: Sequence[int]) -> int:
        """Note that clients have the model of the last message; return the bytes of all of them."""
        found = int(self.bytes_for(clients).sum())
        self._last = self._last.copy()  # A checkpoint may still hold the old one.
        self._last[np.asarray(clients, np.int64)] = self._number
        return found

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint holds; nothing before the first round."""
        if self._model is None:
            return {}
        found = {"model": self._model, "number": self._number, "last": self._last}
        return {f"{PREFIX}{name}": value for name, value in found.items()}

    def restore(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Go on from a state; return what else it holds."""
        own = {name for name in state if name.startswith(PREFIX)}
        if own:
            self._model = np.asarray(state[f"{PREFIX}model"], np.float32)
            self._number = int(state[f"{PREFIX}number"])
            self._last = np.asarray(state[f"{PREFIX}last"], np.int64)
        return {name: value for name, value in state.items() if name not in own}
