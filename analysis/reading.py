"""Read the files of a run folder; say which file is wrong and where."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.json as json_lines
import pyarrow.parquet as pq

METRICS = ("seconds", "examples", "bytes_up", "bytes_down")
# The line's number of clients that took part; `clients` is the experiment's registered number.
RENAMED = {"clients": "participants"}

PLAIN = {pa.int64(), pa.float64(), pa.bool_(), pa.string(), pa.null()}
"""Types of values that PyArrow reads from lines of JSON as Python does."""


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: must hold a JSON object, got {type(value).__name__}")
    return value


def read_rounds(path: Path) -> pd.DataFrame:
    """Read ``rounds.jsonl``: the last line may be torn, a round written twice counts once.

    Returns:
        A row per round with its metrics (null where not measured) and the running totals
        ``elapsed`` [s], ``bytes_total`` (both directions) and ``uploads_total`` (of clients).
    """
    frame = read_table(path).rename(columns=RENAMED)
    for name in ("round", "server_accuracy", "server_loss", *METRICS):
        if name not in frame:
            frame[name] = pd.Series(dtype=float)
    # null in every round so far: a number all the same
    numbers = {*METRICS, *frame.columns[frame.isna().all()]}
    if others := {c: float for c in numbers if frame[c].dtype != float}:
        frame = frame.astype(others)
    frame["elapsed"] = frame["seconds"].fillna(0.0).cumsum()
    frame["bytes_total"] = frame[["bytes_up", "bytes_down"]].fillna(0.0).sum(axis=1).cumsum()
    frame["uploads_total"] = frame["bytes_up"].fillna(0.0).cumsum()
    return frame


def read_table(path: Path) -> pd.DataFrame:
    """Return what the lines of ``rounds.jsonl`` say, in the order of rounds."""
    text = path.read_bytes()
    options = json_lines.ReadOptions(use_threads=False, block_size=max(1, len(text)))
    with suppress(pa.ArrowException, KeyError):  # torn, say, or wrong
        table = json_lines.read_json(pa.BufferReader(text), read_options=options)
        whole = table.schema.field("round").type == pa.int64()
        if whole and set(table.schema.types) <= PLAIN and table["round"].null_count == 0:
            frame: pd.DataFrame = table.cast(pa.schema(map(as_number, table.schema))).to_pandas()
            if frame["round"].is_monotonic_increasing and frame["round"].is_unique:
                return frame
    lines = text.split(b"\n")
    while lines and not lines[-1].strip():
        lines.pop()
    records = {int(r["round"]): r for r in read_lines(lines, path)}
    return pd.DataFrame([records[r] for r in sorted(records)])


def as_number(field: pa.Field) -> pa.Field:
    """Return a column as floats where no value tells its type, or where a metric is whole."""
    return (
        field.with_type(pa.float64())
        if pa.types.is_null(field.type) or field.name in METRICS
        else field
    )


def read_lines(lines: Sequence[bytes], path: Path) -> list[dict[str, Any]]:
    """Return the rounds of lines of JSON; the last may be torn: the run was interrupted then."""
    try:  # together: a study has 100,000 of them
        found = json.loads(b"[" + b",".join(lines) + b"]")
        if all(isinstance(record, dict) and isinstance(record["round"], int) for record in found):
            return list(found)
    except (ValueError, KeyError):
        pass  # one by one, to say which it is
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            int(record["round"])
            records.append(record)
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}: line {number} is no round: {line[:60]!r}") from error
    return records


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame | None:
    """Read a Parquet file, or a folder of parts in the order of their names; None without.

    Args:
        path: the file or the folder.
        columns: the columns to read; all of them without.
    """
    if path.is_dir():
        parts = [read_parquet(p, columns) for p in sorted(path.glob("*.parquet"))]
        frames = [p for p in parts if p is not None]
        return pd.concat(frames, ignore_index=True) if frames else None
    if not path.exists():
        return None
    try:
        with pq.ParquetFile(path) as file:
            frame: pd.DataFrame = file.read(columns=columns).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path}: cannot be read as Parquet ({error})") from error
    return frame
