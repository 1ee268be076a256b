"""A table that grows while a run is under way: a folder of parts, joined into one file at the end.

A part holds the rows of some rounds and is called by the last of them.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from simulation.config.atomic import replacing


class Parts:
    """The parts of one table; those that are added wait for :meth:`write`.

    Args:
        path: of the table.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._aside = path.with_name(f".{path.stem}.parts")
        self._waiting: list[Mapping[str, Any]] = []
        self._lock = threading.Lock()

    def add(self, rows: Mapping[str, Any]) -> None:
        """Add the rows of a round: columns, of which one is the round."""
        with self._lock:
            self._waiting.append(rows)

    def write(self) -> None:
        """Write what waits as one part."""
        some = len(self._waiting)
        if not some:
            return
        table = _table(self._waiting[:some])
        self.path.mkdir(exist_ok=True)
        with replacing(self._free(_last_round(table))) as hidden:
            pq.write_table(table, hidden)
        with self._lock:
            del self._waiting[:some]

    def drop_after(self, last: int) -> None:
        """Drop the rows of all rounds after ``last``."""
        for part in self._all():
            if _named(part) <= last:
                continue
            table = pq.read_table(part)
            kept = table.filter(pc.less_equal(table["round"], last))
            if not len(kept):
                part.unlink()
                continue
            # Under its old name the part is still one that holds no later rounds.
            with replacing(part) as hidden:
                pq.write_table(kept, hidden)
            os.replace(part, self._free(_last_round(kept)))

    def take_apart(self) -> None:
        """Make the table a folder of parts again, if it had been joined already."""
        # After a crash, whichever has the proper name is whole; without it, the other is.
        if self._aside.is_dir() and self.path.exists():
            shutil.rmtree(self._aside)
        elif self._aside.is_dir():
            os.replace(self._aside, self.path)
        if self.path.is_file():
            last = _last_round(pq.read_table(self.path, columns=["round"]))
            self._aside.mkdir()
            os.replace(self.path, self._aside / f"round-{last:06d}.parquet")
            os.replace(self._aside, self.path)

    def join(self) -> None:
        """Make one file of the parts."""
        parts = self._all() if self.path.is_dir() else []
        if not parts:
            return
        # A part may lack a column that others have: a metric that nobody gave in its rounds.
        schema = pa.unify_schemas(map(pq.read_schema, parts), promote_options="default")
        with replacing(self.path) as joined:
            with pq.ParquetWriter(joined, schema) as writer:
                for part in parts:
                    writer.write_table(_with_all(pq.read_table(part), schema))
            # At every moment the rows are all in one place: see take_apart.
            os.replace(self.path, self._aside)
        shutil.rmtree(self._aside)

    def _all(self) -> list[Path]:
        return sorted(self.path.glob("round-*.parquet"), key=lambda part: (_named(part), part.name))

    def _free(self, last: int) -> Path:
        """Return the path of a new part. An app may come back to a round."""
        path, number = self.path / f"round-{last:06d}.parquet", 1
        while path.exists():
            number += 1
            path = self.path / f"round-{last:06d}.{number}.parquet"
        return path


def _table(rounds: list[Mapping[str, Any]]) -> pa.Table:
    tables = [
        pa.table({name: np.concatenate([one[name] for one in some]) for name in names})
        for names, some in _alike(rounds)
    ]
    return pa.concat_tables(tables, promote_options="default")


def _alike(
    rounds: list[Mapping[str, Any]],
) -> Iterator[tuple[tuple[str, ...], list[Mapping[str, Any]]]]:
    """Yield rounds that follow each other and have the same columns, with their names."""
    for names, some in groupby(rounds, key=tuple):
        yield names, list(some)


def _with_all(table: pa.Table, schema: pa.Schema) -> pa.Table:
    return pa.concat_tables([table, schema.empty_table()], promote_options="default").select(
        schema.names
    )


def _last_round(table: pa.Table) -> int:
    return int(pc.max(table["round"]).as_py())


def _named(part: Path) -> int:
    return int(part.stem.partition("-")[2].partition(".")[0])
