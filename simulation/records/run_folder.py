"""The run folder: what a run leaves behind, written so that a crash at any moment loses nothing.

======================  ====================================================================
``config.json``         everything needed to repeat the run, versions included
``rounds.jsonl``        one JSON object a line, round 0 (the initial model) first
``clients.parquet``     round, client, examples, loss, accuracy of every client that took part
``all_clients.parquet`` round, client, validation, loss, accuracy, attacker of every client there
                        is, with the final model, where the run measured them
``timeline.parquet``    round, worker, node, kind, start, end, clients, examples of every call
                        of a worker (engine ``ray``)
``events.parquet``      round, client, tier, version, dispatched, arrived, staleness, steps, bytes,
                        joules, used, reason of every client asked, where the run has a clock
``lost.jsonl``          round, client and reason of every client that a round lost, if any
``replies.jsonl``       round, client, type and metrics of every reply, for a Flower app
``labels.parquet``      client, label, examples: the label distribution of the partition
``owners.parquet``      client, id: what natural clients are called where the data comes from
``summary.json``        final metrics, ``weights_sha256``, wall time, images/s
``model.keras``         the final model
``best.keras``          the model of the best round, where it is kept; until the end, and for going
                        on, its weights alone are in ``best.safetensors``
``models/``             models of some rounds, where they are kept
``checkpoint/``         what a resumed run goes on from
``run.log``             log lines
======================  ====================================================================

While a run is under way, ``clients.parquet``, ``timeline.parquet`` and ``events.parquet`` are
folders of parts, which pandas reads alike. Lines and parts are written some seconds after they were
added, many at a time.
"""

from __future__ import annotations

import json
import os
import platform
import re
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from simulation.config.atomic import flush, replacing
from simulation.config.errors import RunError
from simulation.config.experiment import Experiment
from simulation.records.delayed import DelayedWriter
from simulation.records.files import _plain, replace, to_json
from simulation.records.parts import Parts
from simulation.records.reading import read_json, read_lines

FORMAT = 1

PACKAGES = ("sunflower-fl", "flwr", "jax", "keras", "numpy", "ray", "tensorflow")

LINES = ("rounds.jsonl", "lost.jsonl")
"""Files that grow by lines each round."""

PARTED = ("clients.parquet", "timeline.parquet", "events.parquet")
"""Tables that grow by parts."""

OWNERS = "owners.parquet"
"""Who the natural clients are."""


BEGUN = ("run.lock", ".config.json.tmp")
"""What a run that was killed at its very start leaves: nothing that anybody could go on from."""


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
        self._lock = threading.Lock()
        self._lines: dict[str, list[Mapping[str, Any]]] = {name: [] for name in LINES}
        self._parts = {name: Parts(path / name) for name in PARTED}
        self._delayed = DelayedWriter(self._write)

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
        for name, parts in folder._parts.items():
            parts.take_apart()
            parts.drop_after(last_line if name == "clients.parquet" else last_round)
        # Before the new number of rounds stands in config.json: a summary is of a whole run.
        for name in ("summary.json", "model.keras", "best.keras"):
            (path / name).unlink(missing_ok=True)
        old = read_json(path / "config.json") or {}
        if config is not None and old.get("hash") != config["hash"]:
            now = {**old, **{key: config[key] for key in ("hash", "experiment")}}
            replace(path / "config.json", (json.dumps(_plain(now), indent=2) + "\n").encode())
        return folder

    def add_round(self, record: Mapping[str, Any]) -> None:
        """Append a line to ``rounds.jsonl``."""
        self._add_lines("rounds.jsonl", [record])

    def add_lost(self, lost: Sequence[Mapping[str, Any]]) -> None:
        """Append the clients that a round lost to ``lost.jsonl``."""
        if lost:
            self._add_lines("lost.jsonl", lost)

    def add_reply(self, record: Mapping[str, Any]) -> None:
        """Append a line to ``replies.jsonl``: what a client of a Flower app replied."""
        with open(self.path / "replies.jsonl", "a", encoding="utf-8") as file:
            file.write(to_json(record) + "\n")

    def add_part(self, name: str, rows: Mapping[str, Any]) -> None:
        """Add the rows of a round, one column of which is the round, to one of PARTED."""
        if len(rows["round"]):
            self._parts[name].add(rows)
            self._delayed.there_is_more()

    def _add_lines(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        with self._lock:
            self._lines[name].extend(records)
        self._delayed.there_is_more()

    def write(self) -> None:
        """Return when all that was added is in its file.

        Raises:
            OSError: if it cannot be written.
        """
        self._delayed.flush()

    def _write(self) -> None:
        # Rows before lines: whoever reads of a round finds its clients.
        for parts in self._parts.values():
            parts.write()
        for name, waiting in self._lines.items():
            some = len(waiting)
            if some:
                self._append(name, waiting[:some])
                with self._lock:
                    del waiting[:some]

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
        """Return when the lines added so far are on the disk, even if power fails then."""
        self.write()
        for name in LINES:
            if (self.path / name).exists():
                flush(self.path / name)

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

    def add_model(self, data: bytes, name: str = "model.keras") -> None:
        """Write a model: the final one, or another under its name."""
        (self.path / name).parent.mkdir(exist_ok=True)
        replace(self.path / name, data)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Join the parts of the tables and write ``summary.json``, the last file."""
        self._delayed.close()
        if summary["status"] == "complete":
            for parts in self._parts.values():
                parts.join()
        self.flush()
        text = json.dumps(_plain(summary), indent=2) + "\n"
        replace(self.path / "summary.json", text.encode())


def check_free(path: Path) -> None:
    """Raise RunError unless ``path`` is free for a new run."""
    if path.exists() and (not path.is_dir() or any(p.name not in BEGUN for p in path.iterdir())):
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
