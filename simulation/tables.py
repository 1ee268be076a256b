"""Datasets from tables: Parquet files, and what else PyArrow holds as one.

Every row is an example. The label is one column, whom the row belongs to another; the remaining
columns, or those named, are the features: numbers each become one matrix [N, F], a column of lists
becomes an array of its shape, and several of these become several inputs under their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from simulation.inputs import Inputs
from simulation.sections import Data
from simulation.sources import DataError

LABEL = "label"
"""The column of the labels, unless ``data.label`` says another."""

OWNERS = ("writer_id", "character_id", "user_id", "user", "client_id", "client", "speaker_id")
"""Columns that tell a row's owner, unless ``data.owner`` says another; the first one counts."""


def read(name: str, train: Path, test: Path | None, how: Data) -> dict[str, Any]:
    """Read Parquet files.

    Args:
        name: the dataset's, for messages.
        train: the file of the training rows.
        test: that of the test rows, if there is one.
        how: which columns are which.

    Raises:
        DataError: when a file cannot be read, or a column is missing or of no use.
    """
    tables = {}
    for side, path in (("train", train), ("test", test)):
        if path is None:
            continue
        try:
            tables[side] = pq.read_table(path, partitioning=None)
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"dataset {name}: {path} must be a Parquet file, got {reason}"
            ) from None
    return parts_of(name, tables, how)


def parts_of(name: str, tables: dict[str, pa.Table], how: Data) -> dict[str, Any]:
    """Return arrays from tables ``train`` and, where there is one, ``test``.

    Raises:
        DataError: when a column is missing or of no use.
    """
    columns = tables["train"].column_names
    label, owner, features = roles(name, columns, how)
    if "test" in tables:
        lacking = [c for c in [*features, label] if c not in tables["test"].column_names]
        if lacking:
            raise DataError(
                f"dataset {name}: the test part must have the columns of the training part, "
                f"got none named {lacking[0]!r}"
            )
    labels = {side: _values(name, label, table[label]) for side, table in tables.items()}
    if any(values.dtype.kind in "UO" for values in labels.values()):
        found = np.unique(np.concatenate([values.astype(str) for values in labels.values()]))
        labels = {side: np.searchsorted(found, v.astype(str)) for side, v in labels.items()}
    made: dict[str, Any] = {}
    for side, table in tables.items():
        made[f"x_{side}"] = _features(name, table, features)
        made[f"y_{side}"] = labels[side]
    if owner is not None:
        whose = _values(name, owner, tables["train"][owner])
        kept = whose.dtype.kind in "iubUO"
        if not kept:
            raise DataError(
                f"dataset {name}: column {owner!r} must hold whole numbers or text, "
                f"got {whose.dtype}"
            )
        made["owners"] = np.unique(whose, return_inverse=True)[1].astype(np.int32)
    return made


def roles(name: str, columns: Sequence[str], how: Data) -> tuple[str, str | None, list[str]]:
    """Return which column is the label, which the owner, and which are features.

    Raises:
        DataError: when one that was asked for is missing, or none is left for the features.
    """
    label = how.label or LABEL
    asked = {"label": [label], "owner": [] if how.owner is None else [how.owner]}
    asked["features"] = list(how.features or ())
    for key, wanted in asked.items():
        missing = [column for column in wanted if column not in columns]
        if missing:
            raise DataError(
                f"data.{key} must name a column of {name} ({', '.join(columns)}), "
                f"got {missing[0]!r}"
            )
    owner = how.owner or next((c for c in OWNERS if c in columns and c != label), None)
    features = list(how.features or [c for c in columns if c not in (label, owner)])
    if not features or label in features:
        got = f"the label {label!r}" if features else "none"
        raise DataError(f"data.features must be columns of {name} beside the label, got {got}")
    return label, owner, features


def _features(name: str, table: pa.Table, columns: Sequence[str]) -> Inputs:
    arrays = {column: _values(name, column, table[column]) for column in columns}
    for column, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise DataError(
                f"dataset {name}: feature column {column!r} must hold numbers, or lists of them, "
                f"got {table[column].type}; data.features names the columns to take"
            )
    if all(array.ndim == 1 for array in arrays.values()):
        return np.stack([array.astype(np.float32) for array in arrays.values()], axis=1)
    if len(arrays) == 1:
        return arrays[columns[0]]
    return {c: array[:, None] if array.ndim == 1 else array for c, array in arrays.items()}


def _values(name: str, column: str, values: pa.ChunkedArray) -> NDArray[Any]:
    """Return a column as an array; a column of lists of one length [N, length, ...]."""
    if values.null_count:
        raise DataError(
            f"dataset {name}: column {column!r} must have a value in every row, "
            f"got {values.null_count} empty ones"
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
