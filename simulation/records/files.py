"""Files that are whole or absent, and values as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simulation.config.atomic import replacing


def replace(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old one or the new one, even if power fails."""
    with replacing(path, durable=True) as hidden:
        hidden.write_bytes(data)


def to_json(value: Any) -> str:
    """Return JSON in one line; NaN and infinities become null, NumPy numbers plain ones."""
    return json.dumps(_plain(value), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def weights_sha256(vector: np.ndarray[Any, Any]) -> str:
    """Return the sha256 of the flat float32 model, little-endian: equal only for equal bits."""
    return hashlib.sha256(np.ascontiguousarray(vector, "<f4").tobytes()).hexdigest()
