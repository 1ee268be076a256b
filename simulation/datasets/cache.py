"""Sunflower's own cache folder, and files in it that are either whole or absent."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import platformdirs

from simulation.config.atomic import replacing

log = logging.getLogger("sunflower.data")


def cache_dir() -> Path:
    """Return the cache folder: ``$SUNFLOWER_CACHE``, else the user's cache folder of the system."""
    chosen = os.environ.get("SUNFLOWER_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("sunflower")


def sha256(data: bytes | memoryview) -> str:
    """Return the SHA-256 of ``data`` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def write(path: Path, fill: Callable[[IO[bytes]], object]) -> bool:
    """Write ``path`` in one step: ``fill`` gets a temporary file, which then takes its name.

    A reader, or a second writer, never sees half a file. A cache that cannot be written (full
    disk, read-only home) costs time, not the run, so that is logged and False is returned.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, writers=True) as hidden, open(hidden, "wb") as file:
            fill(file)
    except OSError as error:
        log.warning("cache: %s cannot be written (%s)", path, error)
        return False
    return True
