"""The run folder: what a run leaves behind, written so that a crash at any moment loses nothing.

======================  ====================================================================
``config.json``         everything needed to repeat the run, versions included
``rounds.jsonl``        one JSON object a line, round 0 (the initial model) first
``clients.parquet``     round, client, examples, loss, accuracy of every client that took part
``all_clients.parquet`` round, client, validation, loss, accuracy, attacker of every client there
                        is, with the final model, where the run measured them
``timeline.parquet``    round, worker, node, kind, start, end, clients, examples of every call
                        of a worker (engine ``ray``)
``lost.jsonl``          round, client and reason of every client that a round lost, if any
``replies.jsonl``       round, client, type and metrics of every reply, for a Flower app
``labels.parquet``      client, label, examples: the label distribution of the partition
``owners.parquet``      client, id: what natural clients are called where the data comes from
``summary.json``        final metrics, ``weights_sha256``, wall time, images/s
``model.keras``         the final model
``checkpoint/``         what a resumed run goes on from
``run.log``             log lines
======================  ====================================================================

While a run is under way, ``clients.parquet`` and ``timeline.parquet`` are folders of parts, which
pandas reads alike.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from simulation.config.atomic import flush, replacing
from simulation.config.errors import RunError
from simulation.config.experiment import Experiment
from simulation.records.files import _plain, replace, to_json
from simulation.records.reading import read_json, read_lines

FORMAT = 1

PACKAGES = ("sunflower-fl", "flwr", "jax", "keras", "numpy", "ray", "tensorflow")

LINES = ("rounds.jsonl", "lost.jsonl")
"""Files that grow by lines each round."""

PARTED = ("clients.parquet", "timeline.parquet")
"""Tables that grow by a part each round."""

OWNERS = "owners.parquet"
"""Who the natural clients are."""


def versions() -> dict[str, str]:
    """Return the versions that a run depends on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


class RunFolder:
    """Write one run.

    Args:
        path: the folder. :meth:`create` makes it, :meth:`reopen` goes on in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, config: Mapping[str, Any]) -> RunFolder:
        """Make a new folder with its ``config.json``.

        Raises:
            RunError: when there is something at ``path`` already, or it cannot be written.
        """
        check_free(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            whole = {"format": FORMAT, "created": now, **config, "versions": versions()}
            replace(path / "config.json", (json.dumps(_plain(whole), indent=2) + "\n").encode())
        except OSError as error:
            raise RunError(f"out: {path} cannot be written ({error.strerror})") from None
        return cls(path)

    @classmethod
    def reopen(
        cls,
        path: Path,
        last_round: int,
        last_line: int | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> RunFolder:
        """Go on in a folder after ``last_round``: later records are dropped.

        Args:
            path: the folder.
            last_round: the last round that is not trained again.
            last_line: the last round that is not measured again; None: ``last_round``.
            config: what the run is now, if it is to have another number of rounds: its ``hash``
                and ``experiment`` replace those of before.
        """
        folder = cls(path)
        last_line = last_round if last_line is None else last_line
        for name, last in {"rounds.jsonl": last_line, "lost.jsonl": last_round}.items():
            kept = [r for r in read_lines(path / name) if r["round"] <= last]
            if (path / name).exists():
                replace(path / name, "".join(to_json(r) + "\n" for r in kept).encode())
        for name in PARTED:
            folder._take_apart(name)
            last = last_line if name == "clients.parquet" else last_round
            for part in (path / name).glob("round-*.parquet"):
                if int(part.stem.partition("-")[2]) > last:
                    part.unlink()
        # Before the new number of rounds stands in config.json: a summary is of a whole run.
        for name in ("summary.json", "model.keras"):
            (path / name).unlink(missing_ok=True)
        old = read_json(path / "config.json") or {}
        if config is not None and old.get("hash") != config["hash"]:
            now = {**old, **{key: config[key] for key in ("hash", "experiment")}}
            replace(path / "config.json", (json.dumps(_plain(now), indent=2) + "\n").encode())
        return folder

    def _take_apart(self, name: str) -> None:
        """Make a table a folder of parts again, if it had been joined already."""
        whole, parts = self.path / name, self._aside(name)
        # After a crash, whichever has the proper name is whole; without it, the other is.
        if parts.is_dir() and whole.exists():
            shutil.rmtree(parts)
        elif parts.is_dir():
            os.replace(parts, whole)
        if whole.is_file():
            table = pq.read_table(whole)
            parts.mkdir()
            for number in np.unique(table["round"].to_numpy()).tolist():
                rows = table.filter(pc.equal(table["round"], number))
                pq.write_table(rows, parts / f"round-{number:06d}.parquet")
            whole.unlink()
            os.replace(parts, whole)

    def add_round(self, record: Mapping[str, Any]) -> None:
        """Append a line to ``rounds.jsonl``."""
        self._append("rounds.jsonl", [record])

    def add_lost(self, lost: Sequence[Mapping[str, Any]]) -> None:
        """Append the clients that a round lost to ``lost.jsonl``."""
        if lost:
            self._append("lost.jsonl", lost)

    def add_reply(self, record: Mapping[str, Any]) -> None:
        """Append a line to ``replies.jsonl``: what a client of a Flower app replied."""
        with open(self.path / "replies.jsonl", "a", encoding="utf-8") as file:
            file.write(to_json(record) + "\n")

    def _append(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        path = self.path / name
        size = path.stat().st_size if path.exists() else 0
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write("".join(to_json(record) + "\n" for record in records))
        except OSError:
            # Half a line, on a full disk, would hide the lines after it.
            if path.exists():
                os.truncate(path, size)
            raise

    def flush(self) -> None:
        """Return when the lines appended so far are on the disk, even if power fails then."""
        for name in LINES:
            if (self.path / name).exists():
                flush(self.path / name)

    def add_part(self, name: str, rows: Mapping[str, Any]) -> None:
        """Add the rows of a round, one column of which is the round, to one of PARTED."""
        if not len(rows["round"]):
            return
        parts = self.path / name
        parts.mkdir(exist_ok=True)
        part = parts / f"round-{int(rows['round'].max()):06d}.parquet"
        with replacing(part) as hidden:
            pq.write_table(pa.table(dict(rows)), hidden)

    def add_labels(self, counts: np.ndarray[Any, Any]) -> None:
        """Write ``labels.parquet`` from counts [clients, classes]."""
        client, label = np.nonzero(counts)
        table = pa.table({"client": client, "label": label, "examples": counts[client, label]})
        pq.write_table(table, self.path / "labels.parquet")

    def add_owners(self, names: Sequence[str | int]) -> None:
        """Write ``owners.parquet``: each client's id, as text if any of them is text."""
        whole = all(isinstance(name, int) for name in names)
        table = {"client": range(len(names)), "id": names if whole else list(map(str, names))}
        pq.write_table(pa.table({k: pa.array(v) for k, v in table.items()}), self.path / OWNERS)

    def add_all_clients(self, rows: Mapping[str, Any]) -> None:
        """Write ``all_clients.parquet``."""
        with replacing(self.path / "all_clients.parquet") as hidden:
            pq.write_table(pa.table(dict(rows)), hidden)

    def add_model(self, data: bytes) -> None:
        """Write ``model.keras``."""
        replace(self.path / "model.keras", data)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Join the parts of the tables and write ``summary.json``, the last file."""
        if summary["status"] == "complete":
            for name in PARTED:
                self._join(name)
        self.flush()
        text = json.dumps(_plain(summary), indent=2) + "\n"
        replace(self.path / "summary.json", text.encode())

    def _join(self, name: str) -> None:
        parts = self.path / name
        with_parts = sorted(parts.glob("round-*.parquet")) if parts.is_dir() else []
        if with_parts:
            # A part may lack a column that others have: a metric that nobody gave in that round.
            tables = pa.concat_tables(map(pq.read_table, with_parts), promote_options="default")
            with replacing(parts) as joined:
                pq.write_table(tables, joined)
                # At every moment the rows are all in one place: see _take_apart.
                os.replace(parts, self._aside(name))
            shutil.rmtree(self._aside(name))

    def _aside(self, name: str) -> Path:
        return self.path / f".{name.removesuffix('.parquet')}.parts"


def check_free(path: Path) -> None:
    """Raise RunError unless ``path`` is free for a new run."""
    if path.exists() and (not path.is_dir() or any(p.name != "run.lock" for p in path.iterdir())):
        way = "go on in it with --resume, or " if (path / "config.json").exists() else ""
        raise RunError(f"out: {path} exists already and is never overwritten; {way}choose another")


def folder_name(experiment: Experiment) -> str:
    """Return what a run folder is called where nobody has named it."""
    slug = re.sub(r"[^a-z0-9.]+", "-", experiment.label.lower()).strip("-")
    dataset = re.sub(r"[^A-Za-z0-9._-]+", "-", experiment.dataset).strip("-")
    return f"{slug}-{dataset}-seed{experiment.seed}"


def free_path(name: str) -> Path:
    """Return a folder under ``runs/`` that does not exist yet: of this name, or with a number."""
    number, base = 1, Path("runs") / name
    path = base
    while path.exists():
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path
