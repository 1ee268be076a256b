"""Targets: what ``y`` may be, how many classes there are, and which class an example is of.

The model gets targets as they were given: of any shape, whole numbers in their own type (class
numbers, one for each example, as int64) and floats as float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.datasets.arrays import numbers, require


def checked(name: str, part: str, value: Any) -> NDArray[Any]:
    """Return the targets of one side, checked and in their type.

    Raises:
        DataError: naming the part, the rule and what was received.
    """
    several = isinstance(value, tuple) and any(isinstance(one, np.ndarray) for one in value)
    if several or isinstance(value, Mapping):
        kind = "mapping" if isinstance(value, Mapping) else "tuple"
        require(False, name, f"{part} must be one array of targets", f"a {kind} of {len(value)}")
    array = numbers(name, part, value)
    rule = f"{part} must hold a target per example, [N, ...]"
    require(array.ndim >= 1, name, rule, f"shape {array.shape}")
    if array.dtype.kind == "f":
        return array
    if array.ndim == 1 or array.shape[1:] == (1,):
        lowest = int(array.min(initial=0))
        rule = f"{part} must hold class numbers from 0 upwards (floats for a regression)"
        require(lowest >= 0, name, rule, str(lowest))
    if array.ndim == 1:
        return np.ascontiguousarray(array, np.int64)
    # TensorFlow's arithmetic takes no booleans.
    return array.astype(np.uint8) if array.dtype.kind == "b" else array


def are_one_hot(y: NDArray[Any]) -> bool:
    """Tell whether targets are [N, C], C >= 2, with one 1 in every row and 0 otherwise."""
    if y.ndim != 2 or y.shape[1] < 2:
        return False
    ones = y == 1
    return bool((ones.sum(axis=1) == 1).all()) and int(np.count_nonzero(y)) == len(y)


def classes_of(y: NDArray[Any]) -> NDArray[np.int64] | None:
    """Return the class of every example, int64 [N]; None where an example has no one class."""
    if y.dtype.kind != "f" and (y.ndim == 1 or y.shape[1:] == (1,)):
        return y.reshape(-1).astype(np.int64, copy=False)
    return np.argmax(y, axis=1).astype(np.int64) if are_one_hot(y) else None


def number_of_classes(
    name: str, y_train: NDArray[Any], y_test: NDArray[Any], given: Any
) -> int | None:
    """Return how many classes there are: a one-hot row's length, or the highest number and one.

    Args:
        name: the dataset's, for messages.
        y_train: targets for training.
        y_test: targets for testing.
        given: what the user says, or None.

    Raises:
        DataError: when that does not fit the targets.
    """
    if are_one_hot(y_train) and are_one_hot(y_test):
        length = int(y_train.shape[1])
        rule = f"classes must be the length of a one-hot row ({length})"
        require(given is None or given == length, name, rule, repr(given))
        return length
    if y_train.dtype.kind == "f":
        require(given is None, name, "classes must be None for a regression", repr(given))
        return None
    highest = int(max(y_train.max(), y_test.max()))
    one_each = y_train.ndim == 1 or y_train.shape[1:] == (1,)
    if given is not None:
        # Of many numbers an example, one may mark what is left out: 255 at the border of a mask.
        least = highest if one_each else 0
        kept = not isinstance(given, bool) and isinstance(given, Integral) and int(given) > least
        require(kept, name, f"classes must be a whole number above {least}", repr(given))
        return int(given)
    if not one_each:
        return highest + 1
    examples = len(y_train) + len(y_test)
    # A label such as 20240131 is no class number, and a model would get an output for each.
    rule = f"labels must be class numbers below the number of examples ({examples})"
    require(highest < examples, name, rule, str(highest))
    return highest + 1


def looks(y: NDArray[Any]) -> str:
    """Return what targets look like, for messages: ``float32 targets of shape [N, 3]``."""
    return f"{y.dtype} targets of shape [{', '.join(['N', *map(str, y.shape[1:])])}]"
