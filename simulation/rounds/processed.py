"""How many examples clients trained on, every epoch and every step counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def examples_seen(rows: Mapping[str, Any], batch: int | np.ndarray[Any, Any] | None) -> int | None:
    """Return how many examples clients trained on, every epoch counted; None: not known.

    An epoch of n examples is ceil(n / batch) steps, the last of which is a short one.

    Args:
        rows: columns of training: ``examples`` and ``steps``, what each client did of them.
        batch: examples of a step, perhaps of each client; None: all that it has.
    """
    steps = np.asarray(rows.get("steps", np.nan))
    if steps.dtype.kind == "f" and not np.isfinite(steps).all():
        return None
    whole, sizes = steps.astype(np.int64), np.maximum(np.asarray(rows["examples"], np.int64), 1)
    each = sizes if batch is None else batch
    epoch = -(-sizes // each)
    return int((whole // epoch * sizes + np.minimum(sizes, whole % epoch * each)).sum())
