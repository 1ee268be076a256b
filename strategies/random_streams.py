"""Random streams by name, so that every draw of a run can be repeated by itself."""

from __future__ import annotations

import numpy as np

from strategies.protocols import Round


def stream(*key: int) -> np.random.Generator:
    """Return the random stream named by ``key``, e.g. ``stream(seed, PURPOSE, round, client)``.

    Equal keys give equal streams, on every machine and in any order of calls; different keys
    give independent ones (NumPy's SeedSequence).
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((len(key), *key))))


def round_stream(at: Round, purpose: int, *key: int) -> np.random.Generator:
    """Return a round's random stream for a purpose; without a seed one that nobody can repeat."""
    if at.seed is None:
        return np.random.default_rng()
    return stream(at.seed, purpose, at.number, *key)
