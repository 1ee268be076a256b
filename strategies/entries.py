"""All entries of the catalogue; see :mod:`strategies.entry`."""

from __future__ import annotations

from strategies.entry import Entry
from strategies.families import (
    averaging,
    drift,
    fair,
    objectives,
    personal,
    private,
    robust,
    server,
    sharpness,
)

__all__ = ["ENTRIES", "Entry"]

ENTRIES: dict[str, Entry] = {
    **averaging.FAMILY,
    **server.FAMILY,
    **drift.FAMILY,
    **objectives.FAMILY,
    **sharpness.FAMILY,
    **personal.FAMILY,
    **fair.FAMILY,
    **robust.FAMILY,
    **private.FAMILY,
}
"""All algorithms by key, in the order of the pages."""
