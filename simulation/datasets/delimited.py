"""Tables in delimited text: ``.csv`` and ``.tsv`` files, also compressed ones (``.csv.gz``).

The delimiter is the comma, semicolon, tab or bar that the first line has most of; the first line
names the columns. Empty fields, and the usual words for them (NA, NaN, null), are missing values.
"""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from simulation.datasets.errors import DataError

ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")

DELIMITERS = ",;\t|"

HEAD = 2**16
"""Bytes in which the delimiter is looked for."""

NUMBER = re.compile(r"\s*[-+]?\d*\.?\d+(e[-+]?\d+)?\s*", re.IGNORECASE)


def is_meant(path: Path) -> bool:
    """Tell whether a file's name ends as that of a delimited file."""
    return path.name.lower().endswith(ENDINGS)


def read(name: str, path: Path) -> pa.Table:
    """Read a delimited file; its columns get the types of what they hold.

    Raises:
        DataError: when it cannot be read, its rows have different lengths, or its first line does
            not name the columns.
    """
    try:
        with pa.input_stream(path) as stream:
            delimiter = _delimiter(stream.read(HEAD).decode("utf-8-sig", errors="replace"))
        table = _parsed(path, delimiter, ".")
        if delimiter != "," and _has_decimal_commas(table):
            table = _parsed(path, delimiter, ",")
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"dataset {name}: {path} must be a delimited file, got {reason}") from None
    return table.rename_columns(_names(name, path, table.column_names))


def _delimiter(head: str) -> str:
    first = next((line for line in head.splitlines() if line.strip()), "")
    return max(DELIMITERS, key=re.sub(r'"[^"]*"', "", first).count)


def _parsed(path: Path, delimiter: str, point: str) -> pa.Table:
    return csv.read_csv(
        path,
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=csv.ConvertOptions(strings_can_be_null=True, decimal_point=point),
    )


def _names(name: str, path: Path, names: list[str]) -> list[str]:
    """Return the names of the columns, checked."""
    names = [column.strip() for column in names]
    rule = f"dataset {name}: the first line of {path.name} must name the columns"
    # pandas numbers columns without names from 0, and leaves the index of its rows without one.
    counted = [str(place) for place in range(len(names))]
    if all(NUMBER.fullmatch(column) for column in names) and names != counted:
        raise DataError(f"{rule}, got the numbers {', '.join(names[:3])}")
    unnamed = [place for place, column in enumerate(names) if not column and place]
    if unnamed:
        raise DataError(f"{rule}, got no name for column {unnamed[0] + 1}")
    twice = next((column for column in names if names.count(column) > 1), None)
    if twice is not None:
        raise DataError(f"{rule}, each differently, got {twice!r} twice")
    return names


def _has_decimal_commas(table: pa.Table) -> bool:
    texts = [c for c in table.itercolumns() if pa.types.is_string(c.type) and len(c) > c.null_count]
    return any(pc.all(pc.match_substring_regex(c, r"^\s*[-+]?\d+,\d+\s*$")).as_py() for c in texts)
