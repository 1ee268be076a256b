"""How clients trained, in words: each detail with the strategies that had it, where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.runs import Runs
from analysis.text import latex_escape, listing, number

TRAINING = (
    ("training.local_epochs", "{} local epoch(s)"),
    ("training.local_steps", "{} local step(s)"),
    ("training.batch_size", "batch size {}"),
    ("training.optimizer", "optimiser {}"),
    ("training.learning_rate", "learning rate {}"),
    ("training.decay", "learning rate schedule {}"),
    ("training.momentum", "momentum {}"),
)
"""What is said of local training; ``(s)`` for what is counted."""

MANY = 3
"""Strategies that share a value and are named one by one; more are "the others"."""


def local_training(runs: Runs) -> list[str]:
    """Return what is to be said of local training, each in a few words.

    Where strategies differ, each value has their names; where a strategy has several values, they
    were swept, and the settings are named by them.
    """
    table = runs.table
    federated = table[table["mode"] != "centralised"]
    rows = federated if len(federated) else table
    said = (_said(runs, rows, column, words) for column, words in TRAINING)
    return [text for text in said if text]


def _said(runs: Runs, rows: pd.DataFrame, column: str, words: str) -> str:
    values = _values(rows, column)
    known = values[values != ""]
    if known.empty or set(known) == {"0"}:
        return ""
    found = sorted(set(known), key=_by_size)
    groups = {str(label): set(part) for label, part in values.groupby(rows["label"])}
    by_label = {label: groups[label] for label in runs.order(groups)}
    swept = any(len(of) > 1 for of in by_label.values())
    alone = len(set(values)) == 1 or swept
    whose = dict.fromkeys(found, "") if alone else _names(found, by_label)
    head, _, tail = words.partition("{}")
    if not head:  # what is counted: 1 local epoch, 2 local epochs
        ends = {value: tail.replace("(s)", "" if value == "1" else "s") for value in found}
        parts = [f"{latex_escape(value)}{ends[value]}{whose[value]}" for value in found]
    else:
        parts = [f"{latex_escape(value)}{whose[value]}" for value in found]
    return f"{head}{listing(parts)}{' (swept)' if swept else ''}"


def _names(found: Sequence[str], by_label: dict[str, set[str]]) -> dict[str, str]:
    """Return the strategies that have each value, in brackets."""
    names = {value: [x for x in by_label if value in by_label[x]] for value in found}
    most = max(names, key=lambda value: len(names[value]))
    everybody = sum(map(len, names.values())) == len(by_label)
    texts = {value: latex_escape(listing(labels)) for value, labels in names.items()}
    if everybody and len(names[most]) > MANY:
        texts[most] = "the others"
    return {value: f" ({text})" for value, text in texts.items()}


def _by_size(text: str) -> tuple[bool, float, str]:
    """Sort numbers by size, and before words."""
    try:
        return False, float(text), ""
    except ValueError:
        return True, 0.0, text


def _values(rows: pd.DataFrame, column: str) -> pd.Series:
    """Return a detail of each run as text; '' where nothing is said of it.

    A table such as ``optimizer = {name = "adam", beta_1 = 0.8}`` reads ``adam (beta 1 0.8)``.
    """
    texts = [_text(row, column) for row in rows.to_dict("records")]
    values = pd.Series(texts, index=rows.index, dtype=object)
    if column == "training.local_epochs" and "training.local_steps" in rows:
        return values.where(rows["training.local_steps"].isna(), "")  # steps instead of epochs
    return values


def _text(row: dict[Any, Any], column: str) -> str:
    plain = row.get(column)
    if _is_said(plain):
        return number(plain)
    inner = {
        str(key).removeprefix(f"{column}."): value
        for key, value in row.items()
        if str(key).startswith(f"{column}.") and _is_said(value)
    }
    name = inner.pop("name", None) or inner.pop("kind", None)
    if name is None:
        return ""
    options = [f"{key.replace('_', ' ')} {number(v)}" for key, v in inner.items() if v != 0]
    return f"{name} ({', '.join(options)})" if options else str(name)


def _is_said(value: Any) -> bool:
    return value is not None and value == value
