"""The choice of learning rates and options that a study was run with, as a table."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.cells import Cell, Table
from analysis.text import number

FILE = "tuned.toml"
"""The file in a study's folder that holds the choice of ``sunflower tune``."""

NAME = "tuning"
"""The table's name."""

CAPTION = (
    "Learning rates and options chosen before the comparison, each by the best score of a grid on "
    "the clients' validation data: {measured}. The test set had no part in it."
)


def tuning(paths: Iterable[str | Path]) -> Table | None:
    """Return what ``sunflower tune`` chose for the studies in these folders; None if nothing.

    Raises:
        ValueError: a choice that cannot be read.
    """
    lines, measured = [], ""
    for file in (Path(path) / FILE for path in paths):
        if not file.is_file():
            continue
        try:
            data = tomllib.loads(file.read_text(encoding="utf-8"))
            lines += [_line(entry) for entry in data["chosen"]]
            measured = str(data["measured"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file}: must be a choice of 'sunflower tune' ({error})") from None
    if not lines:
        return None
    frame = pd.DataFrame(lines)
    header = ("Strategy", "Learning rate", "Server learning rate", "Score", "Tried")
    rows = tuple(
        (Cell(line["strategy"]), *(_cell(line[key]) for key in list(line)[1:])) for line in lines
    )
    return Table(NAME, CAPTION.format(measured=measured), header, rows, frame)


def _line(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "strategy": _strategy(entry["strategy"], entry.get("options", {})),
        "learning_rate": float(entry["learning_rate"]),
        "server_learning_rate": entry.get("server_learning_rate"),
        "score": float(entry["score"]),
        "tried": len(entry["grid"]),
    }


def _strategy(value: Any, chosen: Mapping[str, Any]) -> str:
    """Return a strategy with the options that the study gives and those that were chosen."""
    table = {**(value if isinstance(value, Mapping) else {"name": value}), **chosen}
    options = ", ".join(f"{k}={number(v)}" for k, v in table.items() if k != "name")
    return f"{table['name']}({options})" if options else str(table["name"])


def _cell(value: float | None) -> Cell:
    return Cell("", value=None) if value is None else Cell(f"{value:.4g}", value=float(value))
