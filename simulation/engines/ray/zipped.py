"""Values made smaller for their way over a slow link, without the loss of a bit.

A partial is a sum of float32 updates times whole numbers, held in float64: its low bytes hold few
bits, and its high bytes are alike. Sorted by place, bytes of that kind compress to two thirds.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH = 8
"""Bytes of a float64."""


@dataclass(frozen=True)
class Zipped:
    """A value whose arrays are compressed (zstd, by pyarrow). Ray carries it as any other.

    Args:
        frame: the value without its arrays, pickled, as Ray pickles all that it carries.
        arrays: the bytes of each array, sorted by place and compressed.
        sizes: how many bytes each has in truth.
    """

    frame: bytes
    arrays: tuple[bytes, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, value: Any) -> Zipped:
        """Compress a value's arrays."""
        found: list[pickle.PickleBuffer] = []
        frame = pickle.dumps(value, 5, buffer_callback=found.append)
        plain = [np.frombuffer(buffer.raw(), np.uint8) for buffer in found]
        return cls(frame, tuple(map(_compressed, plain)), tuple(one.size for one in plain))

    def open(self) -> Any:
        """Return the value; its arrays cannot be written to, as those that Ray brings."""
        pairs = zip(self.arrays, self.sizes, strict=True)
        return pickle.loads(self.frame, buffers=[_plain(one, size) for one, size in pairs])


def _compressed(plain: NDArray[np.uint8]) -> bytes:
    from pyarrow import Codec  # Not at the start: a worker may never need it.

    whole = plain.size - plain.size % WIDTH
    places = plain[:whole].reshape(-1, WIDTH).T.tobytes() + plain[whole:].tobytes()
    packed: bytes = Codec("zstd", compression_level=1).compress(places, asbytes=True)
    return packed


def _plain(packed: bytes, size: int) -> bytes:
    from pyarrow import Codec

    if not size:
        return b""
    places = np.frombuffer(Codec("zstd").decompress(packed, size, asbytes=True), np.uint8)
    whole = size - size % WIDTH
    return places[:whole].reshape(WIDTH, -1).T.tobytes() + places[whole:].tobytes()
