"""Devices from a file, CSV or Parquet: a row for a device, a column for a property.

Needed is one of ``step_seconds``, ``examples_per_second`` and ``computation``; the others are
``up``, ``down`` (bytes a second) or ``communication``, ``latency``, ``idle_watts``,
``compute_watts``, ``network_watts``, ``tier`` and ``edge`` (text). ``computation`` (milliseconds
for an example, forward alone; training takes three times as long) and ``communication`` (kbit a
second, both ways) are those of the public device traces of FedScale (Lai et al., 2022, arXiv
2105.11367). With a column ``client`` the rows belong to these clients; without it each client draws
one of the rows.
"""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from simulation.config.errors import ConfigError
from strategies.random_streams import stream

ROWS = 0x4476
"""Purpose of the random stream of who has which row."""

SPEEDS = ("step_seconds", "examples_per_second", "computation")
"""Columns one of which a file must have."""

BACKWARD = 3.0
"""How many times as long as a forward pass a step of training takes."""

WATTS = ("idle_watts", "compute_watts", "network_watts")


class Rows(NamedTuple):
    """What a file says of all clients."""

    columns: dict[str, NDArray[np.float64]]
    tiers: tuple[tuple[str, ...], NDArray[np.int16]] | None


def read(path: Path, sha256: str, clients: int, seed: int) -> Rows:
    """Return the devices of so many clients.

    Raises:
        ConfigError: for a file that is another one now, lacks a column or holds bad values.
    """
    table = table_of("devices.path", path, sha256)
    names = table.column_names
    speeds = [name for name in SPEEDS if name in names]
    if len(speeds) != 1:
        raise ConfigError(
            f"devices.path must have one of the columns {', '.join(SPEEDS)}, "
            f"got {', '.join(speeds or names)} ({path})"
        )
    at = _places(table, path, clients, seed)
    found = {speeds[0]: numbers("devices.path", table, speeds[0], path, above=True)[at]}
    for name in ("up", "down", "communication"):
        if name in names:
            found[name] = numbers("devices.path", table, name, path, above=True)[at]
    for name in ("latency", *WATTS):
        if name in names:
            found[name] = numbers("devices.path", table, name, path)[at]
    if "tier" not in names:
        return Rows(_in_seconds(found), None)
    kinds, which = _texts(table, "tier")
    return Rows(_in_seconds(found), (kinds, which[at].astype(np.int16)))


def edges(
    path: Path, sha256: str, clients: int, seed: int
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the names in the column ``edge``, and which of them each client has [N].

    Raises:
        ConfigError: for a file that is another one now, or lacks the column.
    """
    table = table_of("devices.path", path, sha256)
    if "edge" not in table.column_names:
        raise ConfigError(
            "devices.path must have the column edge where schedule.group_by is 'column', "
            f"got {', '.join(table.column_names)} ({path})"
        )
    kinds, which = _texts(table, "edge")
    return kinds, which[_places(table, path, clients, seed)]


def _texts(table: pa.Table, name: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the different texts of a column in the order of their coming, and each row's place."""
    text = [str(value) for value in table[name].to_pylist()]
    places = {value: place for place, value in enumerate(dict.fromkeys(text))}
    return tuple(places), np.array([places[value] for value in text], np.int64)


def _in_seconds(found: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Return columns as a fleet has them."""
    if "examples_per_second" in found:
        found["example_seconds"] = 1 / found.pop("examples_per_second")
    if "computation" in found:
        found["example_seconds"] = found.pop("computation") * BACKWARD / 1000
    if "communication" in found:
        bytes_a_second = found.pop("communication") * 1000 / 8
        found = {"up": bytes_a_second, "down": bytes_a_second, **found}
    return found


def _places(table: pa.Table, path: Path, clients: int, seed: int) -> NDArray[np.int64]:
    """Return the row of each client."""
    if "client" not in table.column_names:
        return stream(seed, ROWS).integers(0, table.num_rows, clients)
    ids = table["client"].to_numpy().astype(np.int64)
    order = np.argsort(ids, kind="stable")
    place = np.minimum(np.searchsorted(ids[order], np.arange(clients)), len(ids) - 1)
    missing = np.flatnonzero(ids[order][place] != np.arange(clients))
    if len(missing):
        raise ConfigError(
            f"devices.path must have a row for each of {clients} clients, got none for client "
            f"{missing[0]} ({path})"
        )
    return np.asarray(order[place], np.int64)


def table_of(key: str, path: Path, sha256: str) -> pa.Table:
    """Return a file as a table.

    Raises:
        ConfigError: when it is gone, another one now, no table, or empty.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{key} must be a file, got {str(path)!r} ({error.strerror})") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ConfigError(
            f"{key} must be the file that was given at first, got another one: {path}"
        )
    try:
        table = _parsed(data, path.suffix)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{key} must be a CSV or Parquet file, got {path} ({reason})") from None
    if not table.num_rows:
        raise ConfigError(f"{key} must have rows, got none ({path})")
    return table


@lru_cache(2)
def _parsed(data: bytes, suffix: str) -> pa.Table:
    if suffix == ".parquet":
        return pq.read_table(io.BytesIO(data))
    return pyarrow.csv.read_csv(io.BytesIO(data))


def numbers(
    key: str, table: pa.Table, name: str, path: Path, above: bool = False
) -> NDArray[np.float64]:
    """Return a column of numbers, none of which is negative.

    Args:
        key: of the configuration, for messages.
        table: the file's.
        name: of the column.
        path: of the file.
        above: whether they must be greater than 0.

    Raises:
        ConfigError: for a column that is missing, or others than such numbers.
    """
    if name not in table.column_names:
        raise ConfigError(
            f"{key} must have the column {name}, got {', '.join(table.column_names)} ({path})"
        )
    try:
        values: Any = np.asarray(table[name].to_numpy(), np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"{key}: the column {name} must be numbers, got text ({path})") from None
    bad = ~np.isfinite(values) | ((values <= 0) if above else (values < 0))
    if bad.any():
        sign = "> 0" if above else ">= 0"
        row = int(np.flatnonzero(bad)[0])
        raise ConfigError(
            f"{key}: the column {name} must be {sign}, got {values[row]:g} in row {row} ({path})"
        )
    return np.asarray(values, np.float64)
