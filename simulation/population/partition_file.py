"""Whose each row is, from a file: a table with the columns ``row`` and ``client``.

CSV or Parquet; rows of the training set and clients are numbered from 0. Rows that the file leaves
out are nobody's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from simulation.config.errors import ConfigError
from simulation.population import device_file

KEY = "partition.path"


def owners(path: Path, sha256: str, rows: int, clients: int) -> NDArray[np.int32]:
    """Return the client of each row, int32 [rows]; -1 for nobody's.

    Raises:
        ConfigError: for a file that is another one now, lacks a column, names a row twice, a row
            or client that there is not, or leaves a client without rows.
    """
    table = device_file.table_of(KEY, path, sha256)
    row, client = (_whole(table, name, path) for name in ("row", "client"))
    for name, values, most in (("row", row, rows), ("client", client, clients)):
        if values.max() >= most:
            raise ConfigError(
                f"{KEY}: the column {name} must be less than {most}, the number of {name}s, "
                f"got {values.max()} ({path})"
            )
    found, times = np.unique(row, return_counts=True)
    if (times > 1).any():
        raise ConfigError(
            f"{KEY} must name each row once, got row {found[times > 1][0]} more than once ({path})"
        )
    empty = np.flatnonzero(np.bincount(client, minlength=clients) == 0)
    if len(empty):
        raise ConfigError(
            f"{KEY} must have a row for each of {clients} clients, got none for client "
            f"{empty[0]} ({path})"
        )
    owner = np.full(rows, -1, np.int32)
    owner[row] = client
    return owner


def _whole(table: pa.Table, name: str, path: Path) -> NDArray[np.int64]:
    values = device_file.numbers(KEY, table, name, path)
    if (values != np.floor(values)).any():
        bad = values[values != np.floor(values)][0]
        raise ConfigError(f"{KEY}: the column {name} must be whole numbers, got {bad:g} ({path})")
    return values.astype(np.int64)
