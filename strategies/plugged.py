"""Strategies of other packages, found by the entry-point group ``sunflower.strategies``.

A package that wants ``--strategy fading`` to work wherever it is installed says in its
``pyproject.toml``::

    [project.entry-points."sunflower.strategies"]
    fading = "my_package.strategies:fading"

What is named is a function from options to an :class:`~strategies.Algorithm`, as the catalogue's
own, or an :class:`~strategies.entry.Entry`, which carries a citation as well.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from strategies.algorithm import Algorithm
from strategies.entries import ENTRIES
from strategies.entry import Entry

GROUP = "sunflower.strategies"


@cache
def points() -> dict[str, EntryPoint]:
    """Return the entry points by name, in alphabetical order; the catalogue's own names win."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    return {name: found[name] for name in sorted(found) if name not in ENTRIES}


@cache
def load(name: str) -> Entry:
    """Return a plug-in as an entry of the catalogue.

    Raises:
        ValueError: if it does not import, or is not what it should be.
    """
    point = points()[name]
    try:
        found = point.load()
    except Exception as error:  # another package's code may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"strategy {name!r} must be a plug-in that imports, got {point.value!r} ({reason})"
        ) from error
    if isinstance(found, Entry):
        return found
    made = found() if callable(found) else found
    if not isinstance(made, Algorithm):
        raise ValueError(
            f"strategy {name!r} must be a function that returns an Algorithm, "
            f"got {point.value!r}, which returns {type(made).__name__}"
        )
    builder = found if callable(found) else lambda: made
    return Entry(name, made.name, None, builder)
