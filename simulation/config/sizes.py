"""How many bytes things take, and bytes as text."""

from __future__ import annotations

FLOAT_BYTES = 4
"""Bytes of a weight: models, updates and what clients keep are float32."""


def gib(size: float) -> str:
    """Return a number of bytes as text, such as ``1.5 GiB``."""
    return f"{size / 2**30:.1f} GiB"
