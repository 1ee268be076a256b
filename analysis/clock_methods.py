"""The virtual clock in words: devices, and the schedule of each strategy, with their sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from analysis.runs import Runs
from analysis.scenario import Cite
from analysis.schedules import PREFIX, SYNCHRONOUS, kinds_of
from analysis.sources import BIBTEX
from analysis.text import latex_escape, listing, number

DEVICES = {
    "equal": "all alike",
    "lognormal": "whose slowness is log-normal",
    "uniform": "whose slowness is uniform",
    "zipf": "whose slowness follows Zipf's law",
    "tiers": "of the profiles {}",
    "file": "as a file describes them",
}
"""Kinds of devices in words."""

BUFFER, STALENESS, EDGE_ROUNDS = 10, "polynomial", 2
"""What schedules have where nothing is said: updates of a step, the law of their weights, rounds of
an edge in one of the cloud."""

GROUPS = {
    "random": "clients are dealt to edges at random",
    "order": "an edge has consecutive clients",
    "labels": "an edge has clients whose most frequent labels are alike",
    "speed": "an edge has clients of like speed",
    "tier": "an edge has the clients of a tier of devices",
    "time-zone": "an edge has the clients of a time zone",
    "column": "which edge a client has is given with its device",
}
"""Ways of grouping clients in words."""

Said = Callable[[str], str]
"""Returns the values of a key of the schedule in words, '' where it has none."""


def clock(runs: Runs, cite: Cite) -> list[str]:
    """Return what the runs say of their clock; nothing where no run has one."""
    rounds = runs.rounds
    if "virtual_seconds" not in rounds or not rounds["virtual_seconds"].notna().any():
        return []
    names = rounds.loc[rounds["virtual_seconds"].notna(), "run"].unique()
    table = runs.table[runs.table.index.isin(names) & (runs.table["mode"] == "federated")]
    found = [
        f"Time is simulated{_devices(table)}: a client takes twice its latency, its local steps "
        "and the transfer of what it is sent and sends, and results do not depend on the "
        "machine's speed."
    ]
    kinds = kinds_of(table)
    for label in runs.order(table["label"]):
        rows = table[table["label"] == label]
        for kind in sorted(set(kinds[rows.index])):
            text = _schedule(kind, _said(rows[kinds[rows.index] == kind]), cite)
            found.append(f"{latex_escape(label)}{text}.")
    return found


def _said(rows: pd.DataFrame) -> Said:
    def said(key: str) -> str:
        values = _values(rows, f"{PREFIX}{key}")
        return latex_escape(listing(values)) if values else ""

    return said


def _values(rows: pd.DataFrame, column: str) -> list[Any]:
    values = rows[column].dropna().unique().tolist() if column in rows else []
    return [number(v) for v in sorted(values, key=lambda v: (isinstance(v, str), v))]


def _devices(table: pd.DataFrame) -> str:
    kinds = [k for k in _values(table, "devices.kind") if k in DEVICES]
    if not kinds:
        return ""
    profiles = _values(table, "devices.profiles")
    named = profiles[0].strip("()[],").replace("'", "") if profiles else "phone-low to phone-high"
    words = [DEVICES[kind].format(latex_escape(named)) for kind in kinds]
    return f" on devices {listing(words)}"


def _schedule(kind: str, said: Said, cite: Cite) -> str:
    """Return what follows a strategy's label: when its server steps."""
    if kind == SYNCHRONOUS:
        text = " waits in every round for the slowest client that counts"
    elif kind == "deadline":
        text = f" ends a round at its deadline ({_unit(said('deadline'))})"
        partly = said("late") == "partial"
        text += ", counting what was done by then" if partly else ", without who is late"
    elif kind == "buffered":
        text = f" steps at every {said('buffer') or BUFFER} updates (buffered"
        text += f" aggregation{cite(BIBTEX['fedbuff'])}){_flight(said)}{_stale(said)}"
    elif kind == "asynchronous":
        mixing = f", mixing weight {said('mixing')}" if said("mixing") else ""
        text = f" steps at every update (asynchronous{cite(BIBTEX['fedasync'])}{mixing})"
        text += f"{_flight(said)}{_stale(said)}"
    elif kind == "semi-synchronous":
        text = f" steps every {said('interval')} virtual seconds with what has arrived"
        text += f"{_flight(said)}{_stale(said)}"
    elif kind == "hierarchical":
        text = f" averages at edges between clients and cloud{cite(BIBTEX['hierfavg'])}"
        text += _edges(said)
    else:
        text = f" runs on the schedule {latex_escape(kind)}"
    return text


def _edges(said: Said) -> str:
    many = f"{said('edges')} edges, " if said("edges") else ""
    text = f" ({many}{said('edge_rounds') or EDGE_ROUNDS} rounds of an edge in one of the cloud; "
    text += f"{GROUPS.get(said('group_by') or 'random', 'clients are grouped')})"
    cloud = said("cloud.name")
    return text + (f", with {cloud} at the cloud" if cloud else "")


def _unit(deadline: str) -> str:
    if "%" in deadline:
        return f"at {deadline} of the durations of those asked"
    return f"{deadline} s" if deadline else "in virtual time"


def _flight(said: Said) -> str:
    return f" with {said('concurrency')} clients in flight" if said("concurrency") else ""


def _stale(said: Said) -> str:
    text = f", weighing stale updates by the {said('staleness') or STALENESS} law"
    most = said("max_staleness")
    return text + (f", without those staler than {most} steps" if most else "")
