"""Datasets from tables: Parquet and delimited files, and what else PyArrow holds as one.

Every row is an example. The label is one column, whom the row belongs to another; the remaining
columns, or those named, are the features: numbers each become one matrix [N, F], a column of lists
becomes an array of its shape, and several of these become several inputs under their names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from simulation.config.sections import Data
from simulation.datasets import columns, delimited
from simulation.datasets.errors import DataError
from simulation.datasets.inputs import Inputs

LABEL = "label"
"""The column of the labels, unless ``data.label`` says another."""

OWNERS = ("writer_id", "character_id", "user_id", "user", "client_id", "client", "speaker_id")
"""Columns that tell a row's owner, unless ``data.owner`` says another; the first one counts."""

UNNAMED = re.compile(r"|__index_level_\d+__|Unnamed: \d+")
"""Names of columns that are the index of a pandas frame which was written as a column."""


class Roles(NamedTuple):
    """Which column of a table is which."""

    label: str
    owner: str | None
    weight: str | None
    features: list[str]


def is_meant(path: Path) -> bool:
    """Tell whether a file's name is that of a table."""
    return path.suffix == ".parquet" or delimited.is_meant(path)


def read(name: str, train: Path, test: Path | None, how: Data) -> dict[str, Any]:
    """Read Parquet or delimited files.

    Args:
        name: the dataset's, for messages.
        train: the file of the training rows.
        test: that of the test rows, if there is one.
        how: which columns are which.

    Raises:
        DataError: when a file cannot be read, or a column is missing or of no use.
    """
    given = {"train": train, "test": test}
    tables = {side: _table(name, path) for side, path in given.items() if path is not None}
    return parts_of(name, tables, how)


def _table(name: str, path: Path) -> pa.Table:
    if delimited.is_meant(path):
        return delimited.read(name, path)
    try:
        return pq.read_table(path, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"dataset {name}: {path} must be a Parquet file, got {reason}") from None


def parts_of(name: str, tables: Mapping[str, pa.Table], how: Data) -> dict[str, Any]:
    """Return arrays from tables ``train`` and, where there is one, ``test``.

    Raises:
        DataError: when a column is missing or of no use.
    """
    train = tables["train"]
    index = _index(train)
    chosen = roles(name, train.column_names, how, index)
    notes = [f"label {chosen.label!r}; features {', '.join(map(repr, chosen.features))}"]
    notes += [f"{c!r} is an index and no feature" for c in index if c not in chosen.features]
    if "test" in tables:
        needed = [*chosen.features, chosen.label, *([chosen.weight] if chosen.weight else ())]
        lacking = [c for c in needed if c not in tables["test"].column_names]
        if lacking:
            raise DataError(
                f"dataset {name}: the test part must have the columns of the training part, "
                f"got none named {lacking[0]!r}"
            )
    labels = {
        side: columns.values(name, chosen.label, t[chosen.label]) for side, t in tables.items()
    }
    made = columns.targets(name, f"column {chosen.label!r}", labels, how.label_type, notes)
    by_column = {
        c: {s: columns.values(name, c, t[c]) for s, t in tables.items()} for c in chosen.features
    }
    kinds = {column: train[column].type for column in chosen.features}
    features, encoded = columns.encoded(name, by_column, kinds, how.encode, notes)
    for side in tables:
        made[f"x_{side}"] = _features({c: f[side] for c, f in features.items()}, encoded)
    for key, side in (("sample_weight", "train"), ("sample_weight_test", "test")):
        if chosen.weight is not None and side in tables:
            made[key] = _weights(name, chosen.weight, tables[side])
    if chosen.owner is not None:
        made |= _owners(name, chosen.owner, train)
    return {**made, "target": f"the column {chosen.label!r}", "notes": notes}


def _index(table: pa.Table) -> list[str]:
    """Return the columns that are the index of the pandas frame which the table was."""
    told = (table.schema.metadata or {}).get(b"pandas")
    try:
        named = json.loads(told)["index_columns"] if told else []
    except (ValueError, KeyError, TypeError):
        named = []
    return [
        column
        for column in table.column_names
        if column in named or UNNAMED.fullmatch(column) is not None
    ]


def roles(name: str, names: Sequence[str], how: Data, index: Sequence[str] = ()) -> Roles:
    """Return which column is the label, which the owner and the weight, and which are features.

    Args:
        name: the dataset's, for messages.
        names: those of all columns.
        how: what the user says.
        index: columns that are features only where they are named.

    Raises:
        DataError: when one that was asked for is missing, or none is left for the features.
    """
    label = how.label or LABEL
    asked = {"label": [label], "features": list(how.features or ())}
    asked |= {key: [c] for key in ("owner", "weight") if (c := getattr(how, key)) is not None}
    for key, wanted in asked.items():
        missing = [column for column in wanted if column not in names]
        if missing:
            raise DataError(
                f"data.{key} must name a column of {name} ({', '.join(names)}), got {missing[0]!r}"
            )
    owner = how.owner or next((c for c in OWNERS if c in names and c != label), None)
    others = (label, owner, how.weight, *index)
    features = list(how.features or [c for c in names if c not in others])
    for key in ("label", "weight"):
        column = label if key == "label" else how.weight
        if not features or column in features:
            got = f"the {key} {column!r}" if features else "none"
            raise DataError(f"data.features must be columns of {name} beside the {key}, got {got}")
    return Roles(label, owner, how.weight, features)


def _owners(name: str, column: str, table: pa.Table) -> dict[str, Any]:
    whose = columns.values(name, column, table[column])
    if whose.ndim != 1 or whose.dtype.kind not in "iubUO":
        raise DataError(
            f"dataset {name}: column {column!r} must hold whole numbers or text, got {whose.dtype}"
        )
    ids, owners = np.unique(whose, return_inverse=True)
    return {"owners": owners.astype(np.int32), "owner_names": ids.tolist()}


def _weights(name: str, column: str, table: pa.Table) -> NDArray[Any]:
    weights = columns.values(name, column, table[column])
    if weights.ndim != 1 or weights.dtype.kind not in "biuf":
        raise DataError(
            f"dataset {name}: column {column!r} must hold numbers, as data.weight says, "
            f"got {table[column].type}"
        )
    return weights


def _features(arrays: Mapping[str, NDArray[Any]], encoded: Collection[str]) -> Inputs:
    """Return one matrix [N, F], one array of lists, or several inputs under their names."""
    if all(array.ndim == 1 or column in encoded for column, array in arrays.items()):
        parts = [a[:, None] if a.ndim == 1 else a for a in arrays.values()]
        return np.concatenate([part.astype(np.float32) for part in parts], axis=1)
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    return {c: array[:, None] if array.ndim == 1 else array for c, array in arrays.items()}
