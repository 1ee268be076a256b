"""How runs on a virtual clock are told apart: a schedule is part of what is compared."""

from __future__ import annotations

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


def kinds_of(table: pd.DataFrame) -> pd.Series:
    """Return the kind of schedule of each run of :attr:`analysis.Runs.table`."""
    if (column := f"{PREFIX}kind") not in table:
        return pd.Series(SYNCHRONOUS, index=table.index, dtype=object)
    return table[column].astype(object).where(table[column].notna(), SYNCHRONOUS)


def label_schedules(table: pd.DataFrame, labels: pd.Series) -> pd.Series:
    """Return the labels, made distinct where runs of one label have several schedules.

    FedAvg on a buffered schedule is called FedBuff, as in its paper; another strategy is called
    by its label and the kind of schedule. Keys of the schedule that differ for the same kind are
    added: ``FedBuff(buffer=10)``. A synchronous schedule adds nothing.
    """
    columns = [c for c in table.columns if c.startswith(PREFIX) and c != f"{PREFIX}kind"]
    kinds = kinds_of(table)
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
                f"{c.removeprefix(PREFIX)}={number(v)}" for c, v in values.items() if pd.notna(v)
            ]
            name = title(str(label), str(kinds[run]))
            found[run] = f"{name}({', '.join(texts)})" if texts else name
    return found


def title(label: str, kind: str) -> str:
    """Return what a strategy under a kind of schedule is called."""
    if kind == SYNCHRONOUS:
        return label
    plain = base_name(label) == "fedavg" and "(" not in label
    return TITLES[kind] if plain and kind in TITLES else f"{label}, {kind}"
