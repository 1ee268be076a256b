"""Files that a setting names: what they hold decides, wherever they are."""

from __future__ import annotations

import hashlib
from pathlib import Path


def content_sha256(key: str, path: Path) -> str:
    """Return the sha256 of the content of the file that ``key`` names.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"{key} must be a file, got {str(path)!r} ({error.strerror})") from None
