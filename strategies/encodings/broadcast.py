"""What a server sends in the place of its model: how the model differs from what clients have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strategies.encodings.encoding import Draw, Encoding, Shapes
from strategies.random_streams import stream
from strategies.spec import Vector

BROADCAST = 0x4263
"""Purpose of the random streams: the draws of a message of the server's."""


@dataclass(frozen=True)
class Broadcast:
    """Messages to all clients, each of which turns the model that they have into the next one.

    With x the server's model and y the one that clients have, over the trained part::

        y <- y + damping * C(x - y)

    What C has lost is in the next difference: the server keeps its errors in x - y. Moving
    statistics travel as they are.

    Args:
        encoding: C.
        shapes: of the trained weights.
        size: T, how many entries they have.
        seed: of the run, which the clients have too.

    Source: Philippenko and Dieuleveut (2021), arXiv 2102.12528 (the server's model stays as it is,
    and the difference to what clients have is sent), with the whole message in the memory; errors
    of the server that are sent later, Tang et al. (2019), arXiv 1905.05957.
    """

    encoding: Encoding
    shapes: Shapes
    size: int
    seed: int

    def encode(self, model: Vector, had: Vector, number: int) -> bytes:
        """Return a message, without moving statistics; arguments as those of :meth:`received`."""
        return self.encoding.encode(self._difference(model, had), self.shapes, self._draw(number))

    def decode(self, message: bytes, had: Vector, rest: Vector, number: int) -> Vector:
        """Return the model [P] of a client that gets a message.

        Args:
            message: of the trained part.
            had: the model that it has [P].
            rest: moving statistics, which come beside the message.
            number: of the message.
        """
        read = self.encoding.decode(message, self.shapes, self._draw(number))
        return self._after(had, read, rest)

    def received(self, model: Vector, had: Vector, number: int) -> Vector:
        """Return what clients have after a message: ``decode(encode(...))``, without the bytes.

        Args:
            model: the server's [P].
            had: what they had before [P].
            number: of the message.
        """
        read = self.encoding.sent(self._difference(model, had), self.shapes, self._draw(number))
        return self._after(had, read, model[self.size :])

    def _difference(self, model: Vector, had: Vector) -> Vector:
        return np.asarray(model[: self.size] - had[: self.size], np.float32)

    def _after(self, had: Vector, read: Vector, rest: Vector) -> Vector:
        head = had[: self.size] + np.float32(self.encoding.damping) * read
        return np.concatenate([head, rest]).astype(np.float32)

    def _draw(self, number: int) -> Draw:
        return lambda: stream(self.seed, BROADCAST, number)
