"""Initial weights as TensorFlow draws them, so that a run starts alike on either backend.

Keras' initialisers draw from their backend's generator. Here they draw, in NumPy, from that of
TensorFlow: Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), ten rounds,
its key and counter scrambled from the seed. Uniform numbers are those of TensorFlow to the bit;
normal ones but for the last bits of the processor's sine and logarithm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax.numpy as jnp
import keras
import numpy as np
from numpy.typing import NDArray

from simulation.training.keras import private

MULTIPLIERS, WEYL = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
SCRAMBLE = (0x3EC8F720, 0x02461E29)
SEEDS = 2**31 - 2
"""Keras takes seeds modulo this on TensorFlow."""

RESERVED = 256
"""Blocks of random numbers that TensorFlow reserves for four truncated normal ones."""

TRUNCATED = 2.0
"""Standard deviations within which truncated normal numbers are."""


def philox(counter: NDArray[np.uint64], key: Sequence[int]) -> NDArray[np.uint64]:
    """Return the random words [n, 4] of counters [n, 4], all below 2^32."""
    c, k, low = counter.copy(), list(key), np.uint64(0xFFFFFFFF)
    for _ in range(ROUNDS):
        first, second = (c[:, 2 * i] * np.uint64(MULTIPLIERS[i]) for i in (0, 1))
        high = [p >> np.uint64(32) for p in (first, second)]
        c = np.stack(
            [high[1] ^ c[:, 1] ^ np.uint64(k[0]), second & low,
             high[0] ^ c[:, 3] ^ np.uint64(k[1]), first & low], 1,
        )  # fmt: skip
        k = [(word + weyl) % 2**32 for word, weyl in zip(k, WEYL, strict=True)]
    return c


class Stream:
    """TensorFlow's stateless random numbers of a seed of two whole numbers."""

    def __init__(self, seed: Sequence[int]) -> None:
        words = [word for part in seed for word in (part % 2**32, (part >> 32) % 2**32)]
        mixed = philox(np.array([words], np.uint64), SCRAMBLE)[0]
        self.key, self._tail = mixed[:2].tolist(), mixed[2:]

    def blocks(self, at: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """Return the words [n, 4] of some blocks."""
        low, high = at & np.uint64(0xFFFFFFFF), at >> np.uint64(32)
        tail = np.broadcast_to(self._tail, (len(at), 2))
        return philox(np.column_stack([low, high, tail]), self.key).astype(np.uint32)

    def uniform(self, count: int) -> NDArray[np.float32]:
        """Return uniform numbers in [0, 1)."""
        words = self.blocks(np.arange(-(-count // 4), dtype=np.uint64))
        return as_float(words).reshape(-1)[:count]

    def normal(self, count: int) -> NDArray[np.float32]:
        """Return standard normal numbers."""
        words = self.blocks(np.arange(-(-count // 4), dtype=np.uint64))
        return box_muller(words.reshape(-1, 2)).reshape(-1)[:count]

    def truncated(self, count: int) -> NDArray[np.float32]:
        """Return standard normal numbers, without those beyond two standard deviations."""
        groups = np.arange(-(-count // 4), dtype=np.uint64) * np.uint64(RESERVED)
        found = np.full((len(groups), 4), np.nan, np.float32)
        filled = np.zeros(len(groups), int)
        for block in range(RESERVED):
            left = np.flatnonzero(filled < 4)
            if not len(left):
                break
            words = self.blocks(groups[left] + np.uint64(block))
            drawn = box_muller(words.reshape(-1, 2)).reshape(-1, 4)
            for column in drawn.T:
                fits = (np.abs(column) < TRUNCATED) & (filled[left] < 4)
                found[left[fits], filled[left[fits]]] = column[fits]
                filled[left[fits]] += 1
        return found.reshape(-1)[:count]


def as_float(words: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Return words as numbers in [0, 1), by their low 23 bits."""
    bits = np.uint32(127 << 23) | (words & np.uint32(0x7FFFFF))
    return bits.view(np.float32) - np.float32(1)


def box_muller(pairs: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Return normal numbers [n, 2] of pairs of words."""
    first, second = as_float(pairs[:, 0]), as_float(pairs[:, 1])
    angle = np.float32(2 * np.pi) * second
    radius = np.sqrt(np.float32(-2) * np.log(np.maximum(first, np.float32(1e-7))))
    return np.stack([np.sin(angle) * radius, np.cos(angle) * radius], 1)


@contextmanager
def without_tensorflow() -> Iterator[None]:
    """Let Keras not load TensorFlow, as it does here and there wherever that is installed."""
    library = private.lazy_tensorflow()
    before, library._available = library._available, False
    try:
        yield
    finally:
        library._available = before


@contextmanager
def as_on_tensorflow() -> Iterator[None]:
    """Let Keras' initialisers draw the numbers that they draw on TensorFlow, in float32."""
    backend_random, draw_seed = private.random_draws()
    plain = {n: getattr(backend_random, n) for n in ("uniform", "normal", "truncated_normal")}

    def stream_of(seed: Any) -> Stream:
        return Stream([int(part) % SEEDS for part in np.asarray(draw_seed(seed))])

    def drawn(kind: str, shape: Any, dtype: Any, seed: Any) -> NDArray[np.float32] | None:
        if keras.backend.standardize_dtype(dtype or keras.config.floatx()) != "float32":
            return None
        stream: Any = getattr(stream_of(seed), kind)
        return stream(int(np.prod(shape))).reshape(shape)

    def uniform(
        shape: Any, minval: Any = 0.0, maxval: Any = 1.0, dtype: Any = None, seed: Any = None
    ) -> Any:
        found = drawn("uniform", shape, dtype, seed)
        if found is None:
            return plain["uniform"](shape, minval, maxval, dtype, seed)
        least, most = np.float32(minval), np.float32(maxval)
        return jnp.asarray(found * (most - least) + least)

    def normal(
        shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None
    ) -> Any:
        found = drawn("normal", shape, dtype, seed)
        if found is None:
            return plain["normal"](shape, mean, stddev, dtype, seed)
        return jnp.asarray(found * np.float32(stddev) + np.float32(mean))

    def truncated_normal(
        shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None
    ) -> Any:
        found = drawn("truncated", shape, dtype, seed)
        if found is None:
            return plain["truncated_normal"](shape, mean, stddev, dtype, seed)
        return jnp.asarray(found * np.float32(stddev) + np.float32(mean))

    changed = {"uniform": uniform, "normal": normal, "truncated_normal": truncated_normal}
    for name, function in changed.items():
        setattr(backend_random, name, function)
    try:
        with without_tensorflow():  # Seeding loads it.
            yield
    finally:
        for name, function in plain.items():
            setattr(backend_random, name, function)
