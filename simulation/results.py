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

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

FORMAT = 1

PACKAGES = ("sunflower-fl", "flwr", "keras", "numpy", "ray", "tensorflow")


PARTED = ("clients.parquet", "timeline.parquet")
"""Tables that grow by a part each round."""


OWNERS = "owners.parquet"
"""Who the natural clients are."""


class RunError(ValueError):
    """A run folder that cannot be used as asked."""


def replace(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old one or the new one, even if power fails."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        # On a full disk, room for the next attempt; the old file stays.
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def to_json(value: Any) -> str:
    """Return JSON in one line; NaN and infinities become null, NumPy numbers plain ones."""
    return json.dumps(_plain(value), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def versions() -> dict[str, str]:
    """Return the versions that a run depends on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def weights_sha256(vector: np.ndarray[Any, Any]) -> str:
    """Return the sha256 of the flat float32 model, little-endian: equal only for equal bits."""
    return hashlib.sha256(np.ascontiguousarray(vector, "<f4").tobytes()).hexdigest()


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
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            # Half a line, on a full disk, would hide the lines after it.
            if path.exists():
                os.truncate(path, size)
            raise

    def add_part(self, name: str, rows: Mapping[str, Any]) -> None:
        """Add the rows of a round, one column of which is the round, to one of PARTED."""
        if not len(rows["round"]):
            return
        parts = self.path / name
        parts.mkdir(exist_ok=True)
        part = parts / f"round-{int(rows['round'].max()):06d}.parquet"
        hidden = part.with_name(f".{part.name}.tmp")
        try:
            pq.write_table(pa.table(dict(rows)), hidden)
            os.replace(hidden, part)
        except BaseException:
            hidden.unlink(missing_ok=True)
            raise

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
        hidden = self.path / ".all_clients.parquet.tmp"
        pq.write_table(pa.table(dict(rows)), hidden)
        os.replace(hidden, self.path / "all_clients.parquet")

    def add_model(self, data: bytes) -> None:
        """Write ``model.keras``."""
        replace(self.path / "model.keras", data)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Join the parts of the tables and write ``summary.json``, the last file."""
        if summary["status"] == "complete":
            for name in PARTED:
                self._join(name)
        text = json.dumps(_plain(summary), indent=2) + "\n"
        replace(self.path / "summary.json", text.encode())

    def _join(self, name: str) -> None:
        parts = self.path / name
        with_parts = sorted(parts.glob("round-*.parquet")) if parts.is_dir() else []
        if with_parts:
            joined = self.path / f".{name}.tmp"
            # A part may lack a column that others have: a metric that nobody gave in that round.
            tables = pa.concat_tables(map(pq.read_table, with_parts), promote_options="default")
            pq.write_table(tables, joined)
            # At every moment the rows are all in one place: see _take_apart.
            os.replace(parts, self._aside(name))
            os.replace(joined, parts)
            shutil.rmtree(self._aside(name))

    def _aside(self, name: str) -> Path:
        return self.path / f".{name.removesuffix('.parquet')}.parts"


def check_free(path: Path) -> None:
    """Raise RunError unless ``path`` is free for a new run."""
    if path.exists() and (not path.is_dir() or any(p.name != "run.lock" for p in path.iterdir())):
        way = "go on in it with --resume, or " if (path / "config.json").exists() else ""
        raise RunError(f"out: {path} exists already and is never overwritten; {way}choose another")


def read_rounds(path: Path) -> list[dict[str, Any]]:
    """Return the records of ``rounds.jsonl``; a torn last line (a crash) is left out."""
    return read_lines(path / "rounds.jsonl")


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of a file, a line each, up to the first that is torn."""
    if not file.exists():
        return []
    records = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found = json.loads(line)
        except json.JSONDecodeError:
            break
        if not isinstance(found, dict):
            break
        records.append(found)
    return records


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, or None when the file is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def is_complete(path: Path, digest: str) -> bool:
    """Tell whether ``path`` holds a finished run of the experiment with this digest."""
    config, summary = read_json(path / "config.json"), read_json(path / "summary.json")
    return bool(
        config and summary and config.get("hash") == digest and summary.get("status") == "complete"
    )


COUNTED = {"accuracy": "counted", "train_accuracy": "train_counted"}
"""Columns that say what an accuracy counts: all examples, unless positions are masked."""


def column_means(rows: Mapping[str, Any], names: Sequence[str]) -> dict[str, float | None]:
    """Return example-weighted means of per-client columns, NaN rows left out."""
    means: dict[str, float | None] = {}
    for name in names:
        by = COUNTED.get(name, "examples")
        weight = np.asarray(rows[by if by in rows else "examples"], np.float64)
        values = np.asarray(rows[name], np.float64)
        known = np.isfinite(values) & (weight > 0)
        total = weight[known].sum()
        means[name] = float((values[known] * weight[known]).sum() / total) if total else None
    return means


def client_table(
    round: int,
    rows: Mapping[str, Any],
    evaluated: Mapping[str, Any] | None,
    attackers: Collection[int] = (),
) -> dict[str, Any]:
    """Return a round's rows of ``clients.parquet``.

    Args:
        round: the round.
        rows: columns of training.
        evaluated: columns of the same clients' evaluation, if there was any.
        attackers: clients that attack.
    """
    clients = rows["client"].tolist()
    table: dict[str, Any] = {
        "round": np.full(len(clients), round, np.int32),
        "client": rows["client"].astype(np.int64),
        "examples": rows["examples"].astype(np.int64),
    }
    own = [] if evaluated is None else metrics_in(evaluated)
    place = {} if evaluated is None else {c: i for i, c in enumerate(evaluated["client"].tolist())}
    known = [(i, place[c]) for i, c in enumerate(clients) if c in place]
    held = np.zeros(len(clients), np.int64)
    for name in ("loss", "accuracy", *own):
        column = np.full(len(clients), np.nan)
        for i, j in known:
            assert evaluated is not None
            held[i] = evaluated["examples"][j]
            if held[i] > 0:
                column[i] = evaluated[name][j]
        table[name] = column
    for name in ("train_loss", "train_accuracy", *metrics_in(rows)):
        table[name] = rows[name].astype(np.float64)
    table["validation"] = held
    if "steps" in rows and np.isfinite(rows["steps"]).all():
        table["steps"] = np.asarray(rows["steps"], np.int64)
    table["attacker"] = np.isin(table["client"], sorted(attackers))
    return table


PLAIN = ("client", "examples", "steps", "batch", "loss", "accuracy", "train_loss", "train_accuracy")


def metrics_in(rows: Mapping[str, Any]) -> list[str]:
    """Return the columns of the model's own metrics."""
    known = (*PLAIN, *COUNTED.values())
    return [name for name, column in rows.items() if name not in known and np.ndim(column) == 1]
