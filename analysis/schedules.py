"""How runs of one strategy are told apart: schedules and encodings are part of what is compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from analysis.appearance import base_name
from analysis.text import number

SYNCHRONOUS = "synchronous"
"""The schedule of runs that say nothing of one."""

TITLES = {"buffered": "FedBuff", "asynchronous": "FedAsync", "hierarchical": "HierFAVG"}
"""What papers call FedAvg under a schedule."""

PREFIX = "schedule."
"""How the columns of a schedule begin."""

ENCODING = "compression."
"""How the columns of what clients send begin."""


def kinds_of(table: pd.DataFrame) -> pd.Series:
    """Return the kind of schedule of each run of :attr:`analysis.Runs.table`."""
    return _kinds(table, PREFIX, SYNCHRONOUS)


def _kinds(table: pd.DataFrame, prefix: str, usual: str) -> pd.Series:
    if (column := f"{prefix}kind") not in table:
        return pd.Series(usual, index=table.index, dtype=object)
    return table[column].astype(object).where(table[column].notna(), usual)


def label_schedules(table: pd.DataFrame, labels: pd.Series) -> pd.Series:
    """Return the labels, made distinct where runs of one label have several schedules.

    FedAvg on a buffered schedule is called FedBuff, as in its paper; another strategy is called
    by its label and the kind of schedule. Keys of the schedule that differ for the same kind are
    added: ``FedBuff(buffer=10)``. A synchronous schedule adds nothing.
    """
    return _apart(table, labels, PREFIX, kinds_of(table), title)


def label_encodings(table: pd.DataFrame, labels: pd.Series) -> pd.Series:
    """Return the labels, made distinct where clients of one label sent in several ways.

    ``FedAvg, top-k``; with keys that differ for the same kind, as in :func:`label_schedules`.
    """
    kinds = _kinds(table, ENCODING, "none")
    return _apart(
        table, labels, ENCODING, kinds, lambda label, kind: label + f", {kind}" * (kind != "none")
    )


def _apart(
    table: pd.DataFrame,
    labels: pd.Series,
    prefix: str,
    kinds: pd.Series,
    called: Callable[[str, str], str],
) -> pd.Series:
    columns = [c for c in table.columns if c.startswith(prefix) and c != f"{prefix}kind"]
    parts = table[columns].map(repr).assign(kind=kinds)
    found = labels.copy()
    federated = labels[table["mode"] == "federated"]
    for label, names in federated.groupby(federated).groups.items():
        if len(parts.loc[names].drop_duplicates()) == 1:
            continue
        for run in names:
            mine = [name for name in names if kinds[name] == kinds[run]]
            vary = [c for c in columns if parts.loc[mine, c].nunique() > 1]
            values: dict[str, Any] = {c: table.at[run, c] for c in vary}
            texts = [
                f"{c.removeprefix(prefix)}={number(v)}" for c, v in values.items() if pd.notna(v)
            ]
            name = called(str(label), str(kinds[run]))
            found[run] = f"{name}({', '.join(texts)})" if texts else name
    return found


def title(label: str, kind: str) -> str:
    """Return what a strategy under a kind of schedule is called."""
    if kind == SYNCHRONOUS:
        return label
    plain = base_name(label) == "fedavg" and "(" not in label
    return TITLES[kind] if plain and kind in TITLES else f"{label}, {kind}"
