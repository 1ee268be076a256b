"""What is recorded of a Flower app's run: as much as its messages tell.

An app's rounds are its own affair. A round is what its messages name (``server-round``, or a group
id that is a number); its line is written when the next one trains, or the app ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from flwr.app import Message

from simulation.replies import bytes_of
from simulation.results import RunFolder, column_means

EXAMPLES = ("num-examples", "num_examples")

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


def round_of(message: Message, last: int) -> int:
    """Return the round that a message is of.

    Args:
        message: to a client.
        last: the round of the message before; training without a number begins the next.
    """
    if message.metadata.group_id.isdigit():
        return int(message.metadata.group_id)
    for record in message.content.config_records.values():
        number = record.get("server-round", record.get("server_round"))
        if isinstance(number, int):
            return number
    return last


def metrics_of(reply: Message) -> dict[str, float]:
    """Return every number in a reply's metric records (and in those of old clients' configs)."""
    found: dict[str, float] = {}
    records: list[Mapping[str, Any]] = [*reply.content.metric_records.values()]
    records += [c for k, c in reply.content.config_records.items() if k.endswith(".metrics")]
    for record in records:
        for name, value in record.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                found[name] = float(value)
    return found


def named(kind: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics of a kind of message under our names; NaN where there are none."""
    return {
        ours: next((metrics[name] for name in theirs if name in metrics), float("nan"))
        for ours, theirs in NAMES[kind].items()
    }


class Hearing:
    """Listens to an app's messages and writes its run folder.

    Args:
        folder: the run folder.
        observe: called with every line of ``rounds.jsonl``.
    """

    def __init__(self, folder: RunFolder, observe: Callable[[Mapping[str, Any]], None]) -> None:
        self.folder, self.observe = folder, observe
        self.round, self.lost = 0, 0
        self._since = time.perf_counter()
        self._rows: dict[str, list[dict[str, float]]] = {"train": [], "evaluate": []}
        self._server: dict[int, dict[str, float]] = {}
        self._bytes = {"up": 0, "down": 0}
        self._failed: list[dict[str, Any]] = []

    def sent(self, messages: Sequence[Message]) -> None:
        """Hear what the server sends."""
        for message in messages:
            number = round_of(message, self.round)
            if number != self.round:
                self._end()
                self.round = number
            self._bytes["down"] += bytes_of(message)

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
        kind, metrics = message.metadata.message_type.partition(".")[0], metrics_of(reply)
        line = {"round": self.round, "client": client, "type": message.metadata.message_type}
        self.folder.add_reply({**line, "metrics": metrics})
        if kind in self._rows:
            size = next((metrics[name] for name in EXAMPLES if name in metrics), 0.0)
            row = {"client": float(client), "examples": size, **named(kind, metrics)}
            self._rows[kind].append(row)

    def server(self, round: int, metrics: Mapping[str, Any]) -> None:
        """Hear what the server has measured itself."""
        numbers = {k: float(v) for k, v in metrics.items() if isinstance(v, int | float)}
        self._server[round] = named("server", numbers)
        if round == 0:
            self._write(0, {}, {})

    def close(self) -> None:
        """Write the last round."""
        self._end()

    def _end(self) -> None:
        trained, measured = (_columns(self._rows[k], NAMES[k]) for k in ("train", "evaluate"))
        if len(trained["client"]) or len(measured["client"]) or self._failed:
            self._write(self.round, trained, measured)
            if len(trained["client"]):
                rows = {"round": np.full(len(trained["client"]), self.round, np.int32)}
                self.folder.add_part("clients.parquet", rows | _table(trained, measured))
        self._rows = {"train": [], "evaluate": []}
        self._bytes, self._failed = {"up": 0, "down": 0}, []
        self._since = time.perf_counter()

    def _write(self, round: int, trained: Mapping[str, Any], measured: Mapping[str, Any]) -> None:
        train = column_means(trained, tuple(NAMES["train"])) if trained else {}
        found = column_means(measured, tuple(NAMES["evaluate"])) if measured else {}
        line = {
            "round": round,
            "seconds": time.perf_counter() - self._since if round else 0.0,
            "clients": len(trained["client"]) if trained else None,
            "examples": int(trained["examples"].sum()) if trained else None,
            "train_loss": train.get("train_loss"),
            "train_accuracy": train.get("train_accuracy"),
            "bytes_up": self._bytes["up"],
            "bytes_down": self._bytes["down"],
            "clients_lost": len(self._failed),
            **{k: self._server.get(round, {}).get(k) for k in NAMES["server"]},
            "client_loss": found.get("loss"),
            "client_accuracy": found.get("accuracy"),
        }
        self.folder.add_round(line)
        self.observe(line)


def _columns(rows: Iterable[Mapping[str, float]], names: Iterable[str]) -> dict[str, Any]:
    ordered = sorted(rows, key=lambda row: row["client"])
    return {k: np.array([r[k] for r in ordered]) for k in ("client", "examples", *names)}


def _table(trained: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    place = {c: i for i, c in enumerate(measured["client"].tolist())}
    at = [place.get(c, -1) for c in trained["client"].tolist()]
    table: dict[str, Any] = {k: trained[k].astype(np.int64) for k in ("client", "examples")}
    for name in NAMES["evaluate"]:
        values = [*measured[name].tolist(), float("nan")]
        table[name] = np.array([values[i] for i in at])
    return {**table, **{name: trained[name] for name in NAMES["train"]}}
