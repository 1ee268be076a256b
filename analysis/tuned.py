"""The choice of learning rates and options that a study was run with: table, warning, methods."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from math import isclose
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.cells import Cell, Table
from analysis.runs import Runs
from analysis.text import latex_escape, listing, number, words

FILE = "tuned.toml"
"""The file in a study's folder that holds the choice of ``sunflower tune``."""

NAME = "tuning"
"""The table's name."""

CAPTION = (
    "Learning rates and options chosen before the comparison, each by the best score of a grid on "
    "the clients' validation data: {measured}. The test set had no part in it."
)
EDGES = " Edge: what is the last value of its grid, so that a wider one may hold a better."

RATE = "learning_rate"
"""The key of learning rates, of clients and, among a strategy's options, of its server."""

Choices = Sequence[Mapping[str, Any]]
"""What was chosen for each strategy, as the file has it."""


def choices_of(paths: Iterable[str | Path]) -> tuple[list[dict[str, Any]], str]:
    """Return what ``sunflower tune`` chose for the studies in these folders, and by which measure.

    Raises:
        ValueError: a choice that cannot be read.
    """
    chosen, measured = [], ""
    for file in (Path(path) / FILE for path in paths):
        if not file.is_file():
            continue
        try:
            data = tomllib.loads(file.read_text(encoding="utf-8"))
            for entry in data["chosen"]:
                _line(entry)
                chosen.append(entry)
            measured = str(data["measured"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file}: must be a choice of 'sunflower tune' ({error})") from None
    return chosen, measured


def tuning(paths: Iterable[str | Path]) -> Table | None:
    """Return what ``sunflower tune`` chose for the studies in these folders; None if nothing.

    Raises:
        ValueError: a choice that cannot be read.
    """
    chosen, measured = choices_of(paths)
    if not chosen:
        return None
    lines = [_line(entry) for entry in chosen]
    header = ["Strategy", "Learning rate", "Server learning rate", "Score", "Tried"]
    caption = CAPTION.format(measured=measured)
    edges = any(line["edges"] for line in lines)
    if edges:
        header.append("Edge")
        caption += EDGES
    rows = tuple(
        (
            Cell(line["strategy"]),
            *(_cell(line[key]) for key in ("learning_rate", "server_learning_rate", "score",
                                           "tried")),
            *([Cell(line["edges"])] if edges else []),
        )
        for line in lines
    )  # fmt: skip
    return Table(NAME, caption, tuple(header), rows, pd.DataFrame(lines))


def warnings(chosen: Choices) -> list[str]:
    """Return a caution where a choice is the last value of its grid."""
    found = [f"{_strategy(e)}: {_edges(e)}" for e in chosen if e.get("edges")]
    if not found:
        return []
    return [
        f"At the edge of its grid when tuned: {'; '.join(found)}. A wider grid may hold a better "
        "value, and a comparison be unfair to such a strategy."
    ]


def sentences(chosen: Choices, measured: str, runs: Runs) -> list[str]:
    """Return how the rates and options of the runs were chosen, for the methods paragraph."""
    table = runs.table[runs.table["mode"] == "federated"]
    by_label = {
        str(label): [_choice_of(runs.configs[str(run)], chosen) for run in rows.index]
        for label, rows in table.groupby("label", observed=True)
    }
    tuned = [x for x in runs.order(by_label) if all(c is not None for c in by_label[x])]
    others = [x for x in runs.order(by_label) if x not in tuned]
    if not tuned:
        return []
    mine = [next(c for c in by_label[x] if c is not None) for x in tuned]
    named = [f"{latex_escape(x)} ({len(c['grid'])})" for x, c in zip(tuned, mine, strict=True)]
    seeds = sorted({seed for c in mine for seed in c.get("seeds", [])})
    with_seeds = f" with the seed{'s' if len(seeds) > 1 else ''} {listing(seeds)}" if seeds else ""
    found = [
        "Learning rates of clients and servers and the strategies' options were chosen beforehand "
        f"for each strategy, by the best score of all combinations of a grid{with_seeds} (in "
        f"brackets: how many): {listing(named)}. The score is {latex_escape(measured)}; the test "
        "set had no part in it."
    ]
    if others:
        verb = "was" if len(others) == 1 else "were"
        found.append(f"{latex_escape(listing(others))} {verb} not tuned.")
    ends = [
        f"{latex_escape(x)} ({latex_escape(_edges(c))})"
        for x, c in zip(tuned, mine, strict=True)
        if c.get("edges")
    ]
    if ends:
        found.append(f"At the edge of its grid is what was chosen for {listing(ends)}.")
    return found


def _choice_of(config: Mapping[str, Any], chosen: Choices) -> Mapping[str, Any] | None:
    """Return the choice that a run was made with; None where it has other rates or options."""
    experiment = config["experiment"]
    strategy, rate = experiment.get("strategy"), (experiment.get("training") or {}).get(RATE)
    for entry in chosen:
        same_rate = rate is not None and isclose(rate, entry[RATE], rel_tol=1e-9)
        if same_rate and _table(strategy) == _chosen_table(entry):
            return entry
    return None


def _table(strategy: Any) -> dict[str, Any]:
    """Return a strategy's name and options, without what a study calls it."""
    table = dict(strategy) if isinstance(strategy, Mapping) else {"name": strategy}
    return {key: value for key, value in table.items() if key != "label"}


def _chosen_table(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a strategy's table with the options that were chosen, and its server's rate."""
    server = entry.get("server_learning_rate")
    rates = {} if server is None else {RATE: server}
    return {**_table(entry["strategy"]), **entry.get("options", {}), **rates}


def _line(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "strategy": _strategy(entry),
        "learning_rate": float(entry[RATE]),
        "server_learning_rate": entry.get("server_learning_rate"),
        "score": float(entry["score"]),
        "tried": len(entry["grid"]),
        "edges": _edges(entry),
    }


def _edges(entry: Mapping[str, Any]) -> str:
    return ", ".join(words(str(name)) for name in entry.get("edges", []))


def _strategy(entry: Mapping[str, Any]) -> str:
    """Return a strategy with the options that the study gives and those that were chosen."""
    strategy = entry["strategy"]
    table = {**_table(strategy), **entry.get("options", {})}
    name = strategy.get("label") if isinstance(strategy, Mapping) else None
    options = ", ".join(f"{k}={number(v)}" for k, v in table.items() if k != "name")
    return f"{name or table['name']}({options})" if options else str(name or table["name"])


def _cell(value: float | None) -> Cell:
    return Cell("", value=None) if value is None else Cell(f"{value:.4g}", value=float(value))
