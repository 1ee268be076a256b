"""Numbers as bits: what an encoded message is made of, and how long it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Parts = Mapping[str, NDArray[Any]]
"""The numbers of a message, by the names of its fields."""

_THREES = np.array([81, 27, 9, 3, 1], np.uint8)
"""Places of five values out of three in a byte: 3^5 = 243."""


@dataclass(frozen=True)
class Field:
    """Numbers of one kind in a message.

    Args:
        name: of the part that they are.
        count: how many there are.
        kind: ``float``: of 32 bits; ``whole``: from 0 to ``2^width - 1``; ``three``: 0, 1 or 2,
            five of them in a byte.
        width: bits of each whole number.
    """

    name: str
    count: int
    kind: Literal["float", "whole", "three"]
    width: int = 32

    @property
    def bits(self) -> int:
        """How many bits they take together."""
        if self.kind == "three":
            return 8 * -(-self.count // len(_THREES))
        return self.count * self.width


def length(fields: Sequence[Field]) -> int:
    """Return how many bytes a message of some fields has; only its end is filled up."""
    return -(-sum(field.bits for field in fields) // 8)


def pack(fields: Sequence[Field], parts: Parts) -> bytes:
    """Return a message: the bits of each field, one after the other, the highest bit first.

    Raises:
        ValueError: for a part of another length than its field, or a number that does not fit.
    """
    found = [_bits(field, np.asarray(parts[field.name])) for field in fields]
    return np.packbits(np.concatenate([np.zeros(0, np.uint8), *found])).tobytes()


def unpack(fields: Sequence[Field], data: bytes) -> dict[str, NDArray[Any]]:
    """Return the parts of a message.

    Raises:
        ValueError: for a message of another length than its fields have.
    """
    if len(data) != length(fields):
        raise ValueError(f"message must have {length(fields)} bytes, got {len(data)}")
    bits, first, parts = np.unpackbits(np.frombuffer(data, np.uint8)), 0, {}
    for field in fields:
        parts[field.name] = _numbers(field, bits[first : first + field.bits])
        first += field.bits
    return parts


def _bits(field: Field, values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.shape != (field.count,):
        raise ValueError(f"{field.name} must have shape ({field.count},), got {values.shape}")
    if field.kind == "float":
        return np.unpackbits(values.astype(">f4").view(np.uint8))
    most = 2 if field.kind == "three" else 2**field.width - 1
    if field.count and not 0 <= values.min() <= values.max() <= most:
        raise ValueError(
            f"{field.name} must be from 0 to {most}, got {values.min()} to {values.max()}"
        )
    if field.kind == "three":
        filled = np.zeros(field.bits // 8 * len(_THREES), np.uint8)
        filled[: field.count] = values
        return np.unpackbits((filled.reshape(-1, len(_THREES)) * _THREES).sum(1, dtype=np.uint8))
    places = np.arange(field.width - 1, -1, -1, dtype=np.uint64)
    return ((values.astype(np.uint64)[:, None] >> places) & np.uint64(1)).astype(np.uint8).ravel()


def _numbers(field: Field, bits: NDArray[np.uint8]) -> NDArray[Any]:
    if field.kind == "float":
        return np.packbits(bits).view(">f4").astype(np.float32)
    if field.kind == "three":
        found = np.packbits(bits)[:, None] // _THREES % 3
        return found.ravel()[: field.count].astype(np.int64)
    places = 2 ** np.arange(field.width - 1, -1, -1, dtype=np.int64)
    return np.einsum("ij,j->i", bits.reshape(field.count, field.width).astype(np.int64), places)
