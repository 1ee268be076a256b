"""Tables with a row for each client: columns of equal length."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Rows = dict[str, NDArray[Any]]
"""Per-client columns of equal length: client, examples, loss, accuracy and the like."""

COLUMNS = {
    "client": np.int64,
    "examples": np.int64,
    "steps": np.int64,
    "train_loss": np.float64,
    "train_accuracy": np.float64,
    "train_counted": np.float64,
}
"""What a row holds."""

STATES = ".states"
"""The column [clients, S] of the variables of the model's own metrics: they add up."""


class Row(NamedTuple):
    """A client's row: the values of :data:`COLUMNS`, and variables of the model's own metrics."""

    values: tuple[float, ...]
    states: NDArray[np.float32] | None


class StateColumns(Protocol):
    """A model's own metrics, as far as tables need them."""

    size: int

    def columns(self, states: NDArray[np.float32], prefix: str = "") -> Rows:
        """Return a column for each metric, and one for the variables [clients, S] themselves."""


def columns(rows: Sequence[Row], metrics: StateColumns | None = None) -> Rows:
    """Return rows as columns.

    Args:
        rows: of clients.
        metrics: the model's own metrics: a column for each, and one for their variables.
    """
    values = zip(*(r.values for r in rows), strict=True) if rows else ((),) * len(COLUMNS)
    table = {n: np.array(v, kind) for (n, kind), v in zip(COLUMNS.items(), values, strict=True)}
    if metrics is None or not metrics.size:
        return table
    states = np.zeros((len(rows), metrics.size), np.float32)
    for place, one in enumerate(rows):
        states[place] = one.states
    return table | metrics.columns(states, "train_")


def take_states(rows: Rows) -> NDArray[np.float64] | None:
    """Take the variables of the model's own metrics out of rows; return their sum [S], if any."""
    states = rows.pop(STATES, None)
    return None if states is None or not len(states) else states.sum(axis=0, dtype=np.float64)


def join(parts: Sequence[Rows]) -> Rows:
    """Join rows of several chunks."""
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


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
        if not known.all():
            values, weight = values[known], weight[known]
        total = weight.sum()
        means[name] = float((values * weight).sum() / total) if total else None
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
    clients = rows["client"].astype(np.int64, copy=False)
    table: dict[str, Any] = {
        "round": np.full(len(clients), round, np.int32),
        "client": clients,
        "examples": rows["examples"].astype(np.int64, copy=False),
    }
    own = [] if evaluated is None else metrics_in(evaluated)
    held = np.zeros(len(clients), np.int64)
    there = np.zeros(len(clients), bool)
    if evaluated is not None and len(evaluated["client"]):
        order = np.argsort(evaluated["client"], kind="stable")
        place = np.searchsorted(evaluated["client"], clients, sorter=order)
        at = order[np.minimum(place, len(order) - 1)]
        there = evaluated["client"][at] == clients
        held[there] = evaluated["examples"][at[there]]
    for name in ("loss", "accuracy", *own):
        column = np.full(len(clients), np.nan)
        if evaluated is not None and there.any():
            column[there] = np.where(held[there] > 0, evaluated[name][at[there]], np.nan)
        table[name] = column
    for name in ("train_loss", "train_accuracy", *metrics_in(rows)):
        table[name] = rows[name].astype(np.float64, copy=False)
    table["validation"] = held
    if "steps" in rows and np.isfinite(rows["steps"]).all():
        table["steps"] = np.asarray(rows["steps"], np.int64)
    some = sorted(attackers)
    table["attacker"] = np.isin(clients, some) if some else np.zeros(len(clients), bool)
    return table


PLAIN = ("client", "examples", "steps", "batch", "loss", "accuracy", "train_loss", "train_accuracy")


def metrics_in(rows: Mapping[str, Any]) -> list[str]:
    """Return the columns of the model's own metrics."""
    known = (*PLAIN, *COUNTED.values())
    return [name for name, column in rows.items() if name not in known and np.ndim(column) == 1]
