"""Rules that every array of a dataset keeps, and the words in which a broken one is told."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.sources import DataError

log = logging.getLogger("sunflower.data")


@lru_cache(maxsize=1000)
def warn_once(text: str) -> None:
    """Log a warning, unless this process has done so: the runs of a study load the same data."""
    log.warning("%s", text)


def require(kept: bool, name: str, rule: str, got: str) -> None:
    """Raise DataError with the dataset, the rule and what was received, unless it is kept."""
    if not kept:
        raise DataError(f"dataset {name}: {rule}, got {got}")


def numbers(name: str, part: str, value: Any) -> NDArray[Any]:
    """Return a part of a dataset as an array of finite numbers, floats as float32.

    Raises:
        DataError: naming the part and what was received.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of unequal length
        raise DataError(f"dataset {name}: {part} must be an array, got {error}") from None
    kept = array.dtype.kind in "biuf"
    require(kept, name, f"{part} must be an array of numbers", f"dtype {array.dtype}")
    if array.dtype.kind == "f":
        # Half the memory, and what Keras computes in.
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
        bad = array.size - int(np.isfinite(array).sum())
        require(bad == 0, name, f"{part} must be finite", f"{bad} values that are not")
    return np.ascontiguousarray(array)
