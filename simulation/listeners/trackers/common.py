"""What trackers share: a record's numbers, flat settings, ids that outlive an interruption."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any


def numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a record, what was not measured and the round itself left out."""
    return {
        name: float(value)
        for name, value in record.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "round"
    }


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested keys joined by dots; what is None is left out."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value


def remembered(file: Path, make: Callable[[], str]) -> str:
    """Return the text of a file, which is made where there is none: an id that a resume finds."""
    if not file.exists():
        file.write_text(make(), encoding="utf-8")
    return file.read_text(encoding="utf-8")
