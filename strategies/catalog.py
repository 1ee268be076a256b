"""The catalogue: every algorithm by name, with its citation, its options and its parts."""

from __future__ import annotations

from typing import Any

from strategies import checks, plugged
from strategies.algorithm import Algorithm
from strategies.entries import ENTRIES
from strategies.entry import Entry


def names() -> tuple[str, ...]:
    """Return the names of all algorithms: the catalogue's in its order, then the plug-ins'."""
    return (*ENTRIES, *plugged.points())


def entry(name: str) -> Entry:
    """Return an entry.

    Raises:
        ValueError: if there is none of that name (the message names the nearest), or it is a
            plug-in that does not load.
    """
    checks.one_of("strategy", name, names())
    return ENTRIES[name] if name in ENTRIES else plugged.load(name)


def build(name: str, **options: Any) -> Algorithm:
    """Return the algorithm ``name`` with ``options``.

    Example:
        >>> build("fedprox", mu=0.1).client.share(round=1)
        {'mu': 0.1}

    Raises:
        ValueError: for an unknown name or option, or a value out of range.
    """
    return entry(name).build(**options)
