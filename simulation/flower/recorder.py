"""What is recorded of a Flower app's run: as much as its messages tell.

An app's rounds are its own affair. A round is what its messages name (``server-round``, or a group
id that is a number), else what is trained together; its line is written when the next one trains,
or the app ends.

Metrics keep the names that the app gives them, with what they are of before them: ``train_mse``,
``client_mae`` (of clients that evaluate), ``server_auc``; loss and accuracy have one name whatever
the app calls them. A round's metric is what the app's strategy makes of the clients' metrics, if it
returns one of that name, else their mean weighted by examples. What is no number is left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from flwr.app import Message

from simulation.flower.codec import bytes_of
from simulation.records.rows import column_means
from simulation.records.run_folder import RunFolder

EXAMPLES = ("num-examples", "num_examples")

STANDARD = ("server_loss", "server_accuracy", "client_loss", "client_accuracy")
"""Keys that every line has, besides those of training."""

NAMES = {
    "train": {
        "train_loss": ("train_loss", "loss"),
        "train_accuracy": ("train_acc", "train_accuracy", "accuracy", "acc"),
    },
    "evaluate": {
        "loss": ("eval_loss", "val_loss", "loss"),
        "accuracy": ("eval_acc", "eval_accuracy", "val_accuracy", "accuracy", "acc"),
    },
    "server": {
        "server_loss": ("loss", "server_loss", "eval_loss", "test_loss"),
        "server_accuracy": ("accuracy", "server_accuracy", "acc", "eval_acc", "test_accuracy"),
    },
}
"""Our names of metrics, and what apps call them: the first that is there counts."""

PREFIX = {"train": "train_", "evaluate": "", "server": "server_"}
"""What comes before other names: in a line, those of ``evaluate`` are the clients'."""

COUNTS = (*EXAMPLES, "partition-id", "num-partitions", "cid")
"""Numbers that are no metrics."""

COLUMNS = ("round", "client", "examples")
"""Columns that no metric may be called."""

CLOSE = 1e-6
"""Relative difference up to which a strategy's mean is ours, rounded otherwise."""


def round_of(message: Message) -> int | None:
    """Return the round that a message names."""
    if message.metadata.group_id.isdigit():
        return int(message.metadata.group_id)
    for record in message.content.config_records.values():
        number = record.get("server-round", record.get("server_round"))
        if isinstance(number, int):
            return number
    return None


def metrics_of(reply: Message) -> dict[str, float]:
    """Return every number in a reply's metric records (and in those of old clients' configs)."""
    records: list[Mapping[str, Any]] = [*reply.content.metric_records.values()]
    records += [c for k, c in reply.content.config_records.items() if k.endswith(".metrics")]
    return {name: value for record in records for name, value in numbers(record).items()}


def named(kind: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics of a kind of message under the names of their columns."""
    found: dict[str, float] = {}
    rest = {name: value for name, value in metrics.items() if name not in COUNTS}
    for ours, theirs in NAMES[kind].items():
        name = next((name for name in theirs if name in rest), None)
        if name is not None:
            found[ours] = rest.pop(name)
    for name, value in rest.items():
        column = name if name.startswith(PREFIX[kind]) else f"{PREFIX[kind]}{name}"
        found.setdefault(f"metric_{column}" if column in COLUMNS else column, value)
    return found


def in_line(kind: str, column: str) -> str:
    """Return the key of a column in ``rounds.jsonl``."""
    return f"client_{column.removeprefix('client_')}" if kind == "evaluate" else column


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics that are numbers."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float | np.number) and not isinstance(value, bool)
    }


class Recorder:
    """Listens to an app's messages and writes its run folder.

    Args:
        folder: the run folder.
        observe: called with every line of ``rounds.jsonl``.
        before: the lines of an earlier part of the run, whose rounds come once more.
    """

    def __init__(
        self,
        folder: RunFolder,
        observe: Callable[[Mapping[str, Any]], None],
        before: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.folder, self.observe, self._before = folder, observe, list(before)
        self.round = self.lost = self._written = 0
        self._since = time.perf_counter()
        self._rows: dict[str, list[dict[str, float]]] = {"train": [], "evaluate": []}
        self._asked: set[int] = set()
        self._aggregates: dict[int, dict[str, float]] = {}
        self._bytes = {"up": 0, "down": 0}
        self._failed: list[dict[str, Any]] = []

    def sent(self, messages: Sequence[Message]) -> None:
        """Hear what the server sends."""
        training = [m for m in messages if kind_of(m) == "train"]
        unnumbered = self._unnumbered([m.metadata.dst_node_id for m in training])
        for message in messages:
            number = round_of(message)
            number = unnumbered if number is None else number
            if number != self.round:
                self._end()
                self.round = number
            self._bytes["down"] += bytes_of(message)
        self._asked.update(m.metadata.dst_node_id for m in training)

    def _unnumbered(self, clients: Sequence[int]) -> int:
        """Return the round of messages that name none, of which some train clients."""
        again = not self._asked.isdisjoint(clients) or bool(self._rows["evaluate"])
        together = len(clients) > 1 and bool(self._rows["train"])
        return self.round + 1 if clients and (not self.round or again or together) else self.round

    def came(self, message: Message, reply: Message) -> None:
        """Hear a reply to a message."""
        client = message.metadata.dst_node_id
        if reply.has_error():
            reason = reply.error.reason.splitlines()[0].removeprefix(f"client {client}: ")
            lost = {"round": self.round, "client": client, "reason": reason}
            self._failed.append(lost)
            self.folder.add_lost([lost])
            self.lost += 1
            return
        self._bytes["up"] += bytes_of(reply)
        kind, metrics = kind_of(message), metrics_of(reply)
        line = {"round": self.round, "client": client, "type": message.metadata.message_type}
        self.folder.add_reply({**line, "metrics": metrics})
        if kind in self._rows:
            size = next((metrics[name] for name in EXAMPLES if name in metrics), 0.0)
            row = {"client": float(client), "examples": size}
            self._rows[kind].append({**named(kind, metrics), **row})

    def aggregated(self, kind: str, round: int, metrics: Mapping[str, Any]) -> None:
        """Hear what the server has made of clients' metrics, or measured itself."""
        found = {in_line(kind, k): v for k, v in named(kind, numbers(metrics)).items()}
        self._aggregates.setdefault(round, {}).update(found)

    def weightless(self) -> str | None:
        """Say that no client of the round has examples; None when some have."""
        for rows in self._rows.values():
            if rows and not any(row["examples"] for row in rows):
                return (
                    f"round {self.round}: all weights are 0, as none of its {len(rows)} clients "
                    "has examples"
                )
        return None

    def close(self) -> None:
        """Write the last round."""
        self._end()

    def _end(self) -> None:
        trained, measured = (_columns(self._rows[kind]) for kind in ("train", "evaluate"))
        heard = len(trained["client"]) or len(measured["client"]) or self._failed
        if heard or (self.round == 0 and self._aggregates.get(0)):
            self._write(self.round, trained, measured)
            if len(trained["client"]):
                rows = {"round": np.full(len(trained["client"]), self.round, np.int32)}
                self.folder.add_part("clients.parquet", rows | _table(trained, measured))
        self._rows, self._asked = {"train": [], "evaluate": []}, set()
        self._bytes, self._failed = {"up": 0, "down": 0}, []
        self._since = time.perf_counter()

    def _write(self, round: int, trained: Mapping[str, Any], measured: Mapping[str, Any]) -> None:
        means = {
            in_line(kind, name): value
            for kind, rows in (("train", trained), ("evaluate", measured))
            for name, value in column_means(rows, [k for k in rows if k not in COLUMNS]).items()
        }
        for name, value in self._aggregates.pop(round, {}).items():
            mean = means.get(name)
            if mean is None or not np.isclose(value, mean, rtol=CLOSE, atol=0):
                means[name] = value
        line = {
            "round": round,
            "seconds": time.perf_counter() - self._since if round else 0.0,
            "clients": len(trained["client"]) if round else None,
            "examples": int(trained["examples"].sum()) if round else None,
            "train_loss": means.pop("train_loss", None),
            "train_accuracy": means.pop("train_accuracy", None),
            "bytes_up": self._bytes["up"] if round else 0,
            "bytes_down": self._bytes["down"] if round else 0,
            "clients_lost": len(self._failed),
            "clients_evaluated": len(measured["client"]) or None,
            **{name: means.pop(name, None) for name in STANDARD},
            **means,
        }
        place, self._written = self._written, self._written + 1
        known = place < len(self._before) and self._before[place]["round"] == round
        if known:
            line["seconds"] = self._before[place]["seconds"]
        self.folder.add_round(line)
        if not known:
            self.observe(line)


def kind_of(message: Message) -> str:
    """Return the first word of a message's type: ``train``, ``evaluate``, ``query``."""
    return message.metadata.message_type.partition(".")[0]


def _columns(rows: Iterable[Mapping[str, float]]) -> dict[str, Any]:
    ordered = sorted(rows, key=lambda row: row["client"])
    names = dict.fromkeys(["client", "examples", *(name for row in ordered for name in row)])
    return {name: np.array([row.get(name, np.nan) for row in ordered]) for name in names}


def _table(trained: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    place = {c: i for i, c in enumerate(measured["client"].tolist())}
    at = [place.get(c, -1) for c in trained["client"].tolist()]
    table: dict[str, Any] = {k: trained[k].astype(np.int64) for k in ("client", "examples")}
    for name in dict.fromkeys([*NAMES["evaluate"], *measured]):
        if name not in table:
            values = [*measured.get(name, np.full(len(place), np.nan)).tolist(), float("nan")]
            table[name] = np.array([values[i] for i in at])
    missing = np.full(len(at), np.nan)
    own = {name: trained.get(name, missing) for name in [*NAMES["train"], *trained]}
    return {**table, **{name: rows for name, rows in own.items() if name not in COLUMNS}}
