"""Read what runs have recorded, also of runs that are still under way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_rounds(path: Path) -> list[dict[str, Any]]:
    """Return the records of ``rounds.jsonl``; a torn last line (a crash) is left out."""
    return read_lines(path / "rounds.jsonl")


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of a file, a line each, up to the first that is torn."""
    if not file.exists():
        return []
    records = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found = json.loads(line)
        except json.JSONDecodeError:
            break
        if not isinstance(found, dict):
            break
        records.append(found)
    return records


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, or None when the file is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def is_complete(path: Path, digest: str) -> bool:
    """Tell whether ``path`` holds a finished run of the experiment with this digest."""
    config, summary = read_json(path / "config.json"), read_json(path / "summary.json")
    return bool(
        config and summary and config.get("hash") == digest and summary.get("status") == "complete"
    )


def without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded table without the keys that have no value, at any depth."""
    return {
        key: without_none(value) if isinstance(value, Mapping) else value
        for key, value in table.items()
        if value is not None
    }
