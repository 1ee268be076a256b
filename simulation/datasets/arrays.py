"""Rules that every array of a dataset keeps, and the words in which a broken one is told."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.datasets.errors import DataError

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
    if _is_frame(value):
        value = _frame(name, part, value)
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of unequal length
        got = _shapes(value) or str(error)
        raise DataError(
            f"dataset {name}: {part} must have examples of one shape, got {got}"
        ) from None
    kept = array.dtype.kind in "biuf"
    several = None if kept else _shapes(array)
    require(several is None, name, f"{part} must have examples of one shape", str(several))
    require(kept, name, f"{part} must be an array of numbers", f"dtype {array.dtype}")
    if array.dtype.kind == "f":
        # Half the memory, and what Keras computes in.
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
        bad = array.size - int(np.isfinite(array).sum())
        require(bad == 0, name, f"{part} must be finite", f"{bad} values that are not")
    return np.ascontiguousarray(array)


def _is_frame(value: Any) -> bool:
    return all(hasattr(value, name) for name in ("columns", "dtypes", "iloc"))


def _frame(name: str, part: str, frame: Any) -> NDArray[Any]:
    """Return a pandas frame as an array [N, columns], of the type that holds all its columns."""
    columns = [np.asarray(frame.iloc[:, place]) for place in range(len(frame.columns))]
    for label, column in zip(frame.columns, columns, strict=True):
        got = str(frame[label].dtype) if list(frame.columns).count(label) == 1 else "object"
        require(
            column.dtype.kind in "biuf", name, f"column {label!r} of {part} must hold numbers", got
        )
    return np.stack(columns, axis=1) if columns else np.zeros((len(frame), 0))


def _shapes(rows: Any) -> str | None:
    """Return two shapes of rows that differ, in words; None where they do not."""
    try:
        shapes = list(dict.fromkeys(np.shape(row) for row in rows))
    except (TypeError, ValueError):
        return None
    return " and ".join(map(str, shapes[:2])) if len(shapes) > 1 else None
