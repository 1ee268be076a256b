"""What a column of a table becomes: numbers, class numbers of texts, one input for each text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from simulation.datasets.arrays import require, warn_once
from simulation.datasets.errors import DataError

MOST_CATEGORIES = 1000
"""Texts of a column that become an input each, at most."""

SHOWN = 20
"""Texts that a line of the log shows, at most."""

Sides = Mapping[str, NDArray[Any]]
"""A column of the part ``train`` and, where there is one, of the part ``test``."""


def is_text(array: NDArray[Any]) -> bool:
    """Tell whether an array holds text."""
    return array.dtype.kind == "U" or (
        array.dtype.kind == "O" and all(isinstance(value, str) for value in array.ravel())
    )


def listed(texts: NDArray[Any]) -> str:
    """Return texts with their numbers, the first ones: ``0 cat, 1 dog``."""
    shown = ", ".join(f"{number} {text}" for number, text in enumerate(texts[:SHOWN]))
    return shown + (f" and {len(texts) - SHOWN:,} more" if len(texts) > SHOWN else "")


def targets(
    name: str, what: str, labels: Sides, label_type: str | None, notes: list[str]
) -> dict[str, Any]:
    """Return ``y_train`` and ``y_test``; texts become class numbers in alphabetical order.

    Args:
        name: the dataset's, for messages.
        what: the column or array that holds them.
        labels: of each side.
        label_type: ``data.label_type``.
        notes: lines for the log; what was done is added.

    Raises:
        DataError: for labels that cannot be of that type.
    """
    if any(is_text(values) for values in labels.values()):
        rule = f"{what} must hold numbers for data.label_type = 'numbers'"
        require(label_type != "numbers", name, rule, "text")
        found = np.unique(np.concatenate([v.astype(str).ravel() for v in labels.values()]))
        labels = {side: np.searchsorted(found, v.astype(str)) for side, v in labels.items()}
        notes.append(f"classes: {listed(found)}")
    return {f"y_{side}": _typed(name, what, y, label_type) for side, y in labels.items()}


def _typed(name: str, what: str, y: NDArray[Any], label_type: str | None) -> NDArray[Any]:
    if label_type == "numbers":
        require(y.dtype.kind in "biuf", name, f"{what} must hold numbers", str(y.dtype))
        return y.astype(np.float32)
    if label_type == "classes" and y.dtype.kind == "f":
        bad = y[~(np.isfinite(y) & (y >= 0) & (y == np.floor(y)))]
        rule = f"{what} must hold whole numbers from 0 for data.label_type = 'classes'"
        require(not bad.size, name, rule, f"{bad.flat[0]:g}" if bad.size else "")
        return y.astype(np.int64)
    return y


def encoded(
    name: str,
    features: Mapping[str, Sides],
    kinds: Mapping[str, Any],
    encode: str | None,
    notes: list[str],
) -> tuple[dict[str, dict[str, NDArray[Any]]], set[str]]:
    """Return feature columns as numbers, and the names of those that hold an input for each text.

    A text column of c different texts in the training part becomes [N, c], in alphabetical order,
    with one 1 in each row; a text that only the test part has becomes a row of zeros, and is told.

    Args:
        name: the dataset's, for messages.
        features: the columns by name.
        kinds: their types, for messages.
        encode: ``data.encode``.
        notes: lines for the log; what was done is added.

    Raises:
        DataError: for a column that holds no numbers, and is not to be encoded or cannot be.
    """
    made: dict[str, dict[str, NDArray[Any]]] = {}
    texts = set()
    for column, sides in features.items():
        if all(array.dtype.kind in "biuf" for array in sides.values()):
            made[column] = dict(sides)
        elif all(array.ndim == 1 and is_text(array) for array in sides.values()):
            rule = (
                f"feature column {column!r} must hold numbers (data.encode = 'categories' makes "
                "an input of each text, data.features names the columns to take)"
            )
            require(encode is not None, name, rule, f"{kinds[column]}")
            made[column] = _categories(name, column, sides, notes)
            texts.add(column)
        else:
            raise DataError(
                f"dataset {name}: feature column {column!r} must hold numbers, or lists of them, "
                f"got {kinds[column]}; data.features names the columns to take"
            )
    if encode is not None and not texts:
        raise DataError(
            f"data.encode must be left out for {name}, whose features hold no text, got {encode!r}"
        )
    return made, texts


def _categories(name: str, column: str, sides: Sides, notes: list[str]) -> dict[str, NDArray[Any]]:
    found = np.unique(sides["train"].astype(str))
    rule = (
        f"feature column {column!r} must hold at most {MOST_CATEGORIES:,} different texts "
        "to be encoded"
    )
    require(len(found) <= MOST_CATEGORIES, name, rule, f"{len(found):,}")
    notes.append(f"column {column!r} became {len(found)} inputs: {listed(found)}")
    made = {side: (v.astype(str)[:, None] == found).astype(np.float32) for side, v in sides.items()}
    for side, rows in made.items():
        unknown = np.flatnonzero(rows.sum(axis=1) == 0)
        if len(unknown):
            line = (
                f"dataset {name}: {len(unknown)} of {len(rows)} {side} rows have a text in column "
                f"{column!r} that no training row has, such as {sides[side][unknown[0]]!r}: all "
                "its inputs are 0 there"
            )
            warn_once(line)
            notes.append(line)
    return made


def values(name: str, column: str, values: pa.ChunkedArray) -> NDArray[Any]:
    """Return a column as an array; a column of lists of one length [N, length, ...].

    Raises:
        DataError: when a value is missing, or is neither a number, text nor such a list.
    """
    if values.null_count:
        raise DataError(
            f"dataset {name}: column {column!r} must have a value in every row, "
            f"got {values.null_count} empty ones of {len(values)}"
        )
    kind, shape = values.type, [len(values)]
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
    flat = values.combine_chunks()
    while isinstance(flat, pa.ExtensionArray):
        flat = flat.storage
    while pa.types.is_nested(flat.type):
        if not hasattr(flat, "flatten") or pa.types.is_struct(flat.type):
            raise DataError(
                f"dataset {name}: column {column!r} must hold numbers, text or lists, got {kind}"
            )
        inner = flat.flatten()
        lengths = np.unique(pc.list_value_length(flat).to_numpy(zero_copy_only=False))
        if len(lengths) != 1 or not lengths[0] > 0:
            raise DataError(
                f"dataset {name}: column {column!r} must hold lists of one length, "
                f"got lengths {', '.join(map(str, lengths))}"
            )
        if inner.null_count:
            raise DataError(f"dataset {name}: column {column!r} must have no empty values in lists")
        shape.append(int(lengths[0]))
        flat = inner
    array: NDArray[Any] = flat.to_numpy(zero_copy_only=False)
    return array.reshape(shape) if len(shape) > 1 else array
