"""How many lanes fit into a device's memory: asked of the compiled program, not guessed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

log = logging.getLogger("sunflower.jax")

CANDIDATES = (256, 128, 64, 32, 16, 8, 4, 2, 1)
"""Numbers of lanes that are tried, the largest first."""

ON_PROCESSORS = 8
"""Lanes on processors, which gain little by more."""

SHARE = 0.8
"""Of the memory that a process may take, what the program of all lanes may need."""


def needs(compiled: Any) -> int:
    """Return how many bytes a compiled program takes: arguments, results and what is between."""
    found = compiled.memory_analysis()
    whole = found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
    return int(whole - found.alias_size_in_bytes)


def limit_of(device: Any) -> int | None:
    """Return how many bytes of a device this process may take; None where nothing tells."""
    stats = device.memory_stats() or {}
    limit = stats.get("bytes_limit")
    return None if limit is None else int(limit)


def lanes_that_fit(
    needed: Callable[[int], int], device: Any, candidates: Sequence[int] = CANDIDATES
) -> int:
    """Return the largest number of lanes whose program fits into a device's memory.

    Args:
        needed: from lanes to the bytes that their program takes.
        device: JAX's device.
        candidates: falling numbers of lanes.
    """
    limit = limit_of(device)
    if limit is None or device.platform == "cpu":
        return ON_PROCESSORS
    # Memory grows in proportion: the smallest programs, which compile fast, tell of the others.
    one, two = needed(1), needed(2)
    each = max(1, two - one)
    for lanes in candidates:
        if one + each * (lanes - 1) <= SHARE * limit and needed(lanes) <= SHARE * limit:
            return lanes
    log.warning("one client's program needs more memory than the device has to give")
    return 1
