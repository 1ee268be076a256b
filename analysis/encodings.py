"""How clients, and the server, encoded what they sent, in words with their sources."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from analysis.runs import Runs
from analysis.sources import BIBTEX
from analysis.text import latex_escape, listing, number

ENCODINGS = {
    "top-k": ("the largest entries of their update{}, a fraction of {fraction}", "aji"),
    "random-k": ("randomly drawn entries of their update{}, a fraction of {fraction}", "stich"),
    "qsgd": ("their update in {bits} bits an entry (QSGD{}, buckets of {bucket})", "qsgd"),
    "sign": ("the signs of their update and the mean size of each weight's entries{}", "ef-sign"),
    "majority-vote": (
        "the signs of their update, of which the server takes the majority (step {step}){}",
        "vote",
    ),
    "ternary": ("their update in three values (TernGrad{})", "terngrad"),
    "rounding": ("their update rounded to {bits} bits an entry{}", "suresh"),
    "sketch": (
        "a count sketch of their update{} (counters by a fraction of {fraction} of its entries in "
        "{rows} rows), of which the server reads the largest, a fraction of {keep}",
        "fetchsgd",
    ),
    "low-rank": ("their update as matrices of rank {rank} (PowerSGD{})", "powersgd"),
}
"""What clients send, with the options by their keys, and the source."""


DOWNLOADS = {
    "top-k": ("the largest entries, a fraction of {fraction}", "aji"),
    "random-k": ("randomly drawn entries, a fraction of {fraction}", "stich"),
    "qsgd": ("in {bits} bits an entry, QSGD, buckets of {bucket}", "qsgd"),
    "sign": ("the signs and the mean size of each weight's entries", "ef-sign"),
    "rounding": ("rounded to {bits} bits an entry", "suresh"),
    "low-rank": ("as matrices of rank {rank}, PowerSGD", "powersgd"),
    "sketch": (
        "the largest entries, a fraction of {keep}, in a count sketch of {rows} rows with counters "
        "by a fraction of {fraction} of the entries",
        "fetchsgd",
    ),
}
"""What the server sends of the difference, with the options by their keys, and the source."""

OPTIONS = ("fraction", "bits", "bucket", "step", "rank", "rows", "keep")
"""Options that a sentence may tell."""


def compression(runs: Runs, cite: Callable[..., str]) -> list[str]:
    """Return a sentence for each encoding that a run used, on the way up and on the way down."""
    table = runs.table[runs.table["mode"] == "federated"]
    return _uploads(table, cite) + _downloads(table, cite)


def _downloads(table: pd.DataFrame, cite: Callable[..., str]) -> list[str]:
    column, found = "compression.download.kind", []
    if column not in table:
        return []
    for kind in sorted(set(table[column].dropna()) & set(DOWNLOADS)):
        rows = table[table[column] == kind]
        words, source = DOWNLOADS[kind]
        options = {key: _said(rows, f"download.{key}") for key in OPTIONS}
        who = "The server sends"
        if table[column].nunique(dropna=False) > 1:
            who = f"With the download {latex_escape(kind)}, the server sends"
        found.append(
            f"{who} how its model differs from the one that clients have "
            f"({words.format(**options)}{cite(BIBTEX[source])}), and later what was lost"
            f"{cite(BIBTEX['doublesqueeze'], BIBTEX['mcm'])}; who was away is sent what it has "
            "missed, or the whole model where that is shorter."
        )
    return found


def _uploads(table: pd.DataFrame, cite: Callable[..., str]) -> list[str]:
    column, found = "compression.kind", []
    if column not in table:
        return []
    for kind in sorted(set(table[column].dropna()) & set(ENCODINGS)):
        rows = table[table[column] == kind]
        words, source = ENCODINGS[kind]
        options = {key: _said(rows, key) for key in OPTIONS}
        text = words.replace("{}", cite(BIBTEX[source]).replace("{", "{{").replace("}", "}}"))
        sentence = f"{_who(table, kind)} send {text.format(**options)}"
        if "True" in _said(rows, "error_feedback"):
            sentence += (
                ", and keep what they have not sent for their next update "
                f"(error feedback{cite(BIBTEX['stich'], BIBTEX['ef-sign'])})"
            )
        found.append(sentence + ".")
    return found


def _who(table: pd.DataFrame, kind: str) -> str:
    """Return who does it: all clients, or those of the runs with this kind."""
    if table["compression.kind"].nunique(dropna=False) == 1:
        return "Clients"
    return f"With {latex_escape(kind)}, clients"


def _said(rows: pd.DataFrame, key: str) -> str:
    column = f"compression.{key}"
    values = sorted(rows[column].dropna().unique()) if column in rows else []
    return latex_escape(listing([number(v) for v in values])) if values else ""
