"""Encoded updates in Flower messages: how a client puts one in, and how a strategy reads it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, Message

from strategies.encodings.encoding import Encoding
from strategies.random_streams import stream
from strategies.spec import Spec, Vector

ENCODED = "encoded"
"""Record of an encoded update, in the place of ``arrays``: the message as bytes, and the part of
the delta that is no trained weight's."""

DRAWS = 0x456E
"""Purpose of the random streams: the draws of a client's message."""


def draws(seed: int, round: int, client: int) -> np.random.Generator:
    """Return the random stream of a client's message in a round, from its start."""
    return stream(seed, DRAWS, round, client)


def record_of(message: bytes, rest: Vector) -> ArrayRecord:
    """Return the record of an encoded update.

    Args:
        message: of the trained part.
        rest: the other entries of the delta.
    """
    bits = np.frombuffer(message, np.uint8)
    return ArrayRecord({"message": Array(bits), "rest": Array(np.ascontiguousarray(rest))})


@dataclass(frozen=True)
class Reader:
    """Reads clients' encoded updates.

    Args:
        encoding: of the trained part.
        seed: of the run, which the clients have too.
    """

    encoding: Encoding
    seed: int

    def delta(self, reply: Message, spec: Spec, round: int, client: int) -> Vector | None:
        """Return the delta [P] of a reply; None where it holds whole arrays.

        Args:
            reply: of a client.
            spec: of the model.
            round: the round.
            client: the client's number.

        Raises:
            ValueError: for a message of another length than the encoding's.
        """
        if ENCODED not in reply.content.array_records:
            return None
        found = reply.content.array_records[ENCODED]
        message = found["message"].numpy().tobytes()
        shapes = spec.shapes[: spec.trainable]
        read = self.encoding.decode(message, shapes, lambda: draws(self.seed, round, client))
        return np.concatenate([read, found["rest"].numpy().astype(np.float32)])
