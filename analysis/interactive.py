"""The curves of a report's page that answer to the reader: what they show, as data for a browser.

The page draws them with plotly.js, which the package ``plotly`` ships and the page holds packed.
Means and bands are of the seeds that the reader has chosen, so the page makes them, by the rules of
:func:`analysis.summarise.curve`.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.appearance import Look
from analysis.cells import records
from analysis.dark import lifted
from analysis.plots.base import is_share, name_of, scale
from analysis.runs import MEASURED, Runs
from analysis.summarise import DIVERGED, is_lower_better
from analysis.text import typeset
from analysis.working_time import is_known

NUMBERS = 250_000
"""Numbers in a page: half a megabyte. Rounds of long studies are thinned to them."""

FEWEST = 40
"""Rounds of a run that are shown however many runs there are."""

DIGITS = 5
"""Significant digits of a number in the page."""

ALSO = ("drift", "update_norm")
"""Measures that do not begin as :data:`analysis.runs.MEASURED`."""

AXES = ("bytes_total", "examples_total", "virtual_seconds", "energy_joules", "epsilon")
"""Horizontal axes besides rounds and time, where they are recorded."""


def interactive(runs: Runs, band: str = "ci") -> dict[str, Any] | None:
    """Return what the page's curves show; None where nothing was measured.

    Args:
        runs: what the report is about.
        band: the kind of band over seeds, see :data:`analysis.summarise.BANDS`.

    Returns:
        ``metrics`` and ``axes`` (column, name, divisor); ``labels`` with their looks; ``settings``
        with the places of their runs; ``runs`` with a list of numbers for each column at the
        rounds ``kept[rounds]``, in the units of ``rounds.jsonl``; ``quantiles`` of Student's t by
        the number of seeds.
    """
    metrics = measures(runs)
    if not metrics:
        return None
    axes = ["round", *axes_of(runs)]
    frame = runs.rounds[["run", "mode", *axes, *metrics]]
    shown = kept_rounds(frame, metrics, len(runs) * (len(axes) + len(metrics) - 1))
    columns = [*axes[1:], *metrics]
    found, lists = series(runs, frame[frame["round"].isin(shown)], columns)
    from scipy.special import stdtrit

    index = {one["name"]: i for i, one in enumerate(found)}
    most = max(len(set(runs.table["seed"])), 2)
    return {
        "metrics": [measure(name, runs) for name in metrics],
        "axes": [axis(name, runs) for name in axes],
        "labels": [look(typeset(label), one) for label, one in runs.looks().items()],
        "seeds": sorted({one["seed"] for one in found}),
        "settings": [
            {
                "name": name,
                "runs": [index[run] for run in members],
                "reported": reported(runs, name, metrics),
            }
            for name, members in runs.settings.items()
        ],
        "runs": found,
        "kept": [list(rounds) for rounds in lists],
        "recorded": int(frame["round"].nunique()),
        "shown": len(shown),
        "band": band,
        "quantiles": [None, None, *(float(stdtrit(n - 1, 0.975)) for n in range(2, most + 1))],
    }


def series(
    runs: Runs, frame: pd.DataFrame, columns: Sequence[str]
) -> tuple[list[dict[str, Any]], list[tuple[int, ...]]]:
    """Return what the page knows of each run, and the lists of rounds that runs point to.

    Args:
        runs: all of them.
        frame: a row per run and round that is shown.
        columns: the numbers of a round.
    """
    places = {label: i for i, label in enumerate(runs.order())}
    groups = {str(run): rows for run, rows in frame.groupby("run", observed=True)}
    lists: dict[tuple[int, ...], int] = {}
    found = []
    for run, about in zip(map(str, runs.table.index), records(runs.table), strict=True):
        rows = groups.get(run, frame.iloc[:0])
        rounds = tuple(rows["round"].astype(int))
        one: dict[str, Any] = {
            "name": run,
            "label": places[about["label"]],
            "seed": int(about["seed"]),
            "rounds": lists.setdefault(rounds, len(lists)),
            "end": max(rounds, default=0) if about["status"] == DIVERGED else None,
        }
        for column in columns:
            if belongs(column, str(about["mode"])) and rows[column].notna().any():
                one[column] = numbers(rows[column])
        found.append(one)
    return found, list(lists)


def reported(runs: Runs, setting: str, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return the results of other papers that belong to a setting, in measures of the page."""
    titles = list(runs.settings)
    return [
        {
            "label": typeset(one.label),
            "source": one.source,
            "value": one.value,
            "metric": one.metric,
        }
        for one in runs.names.reported
        if one.metric in metrics and runs.names.of_runs(one.setting, titles) == setting
    ]


def measures(runs: Runs) -> list[str]:
    """Return the columns of measures that a run has, what strategies are compared by first."""
    known = [
        column
        for column in runs.rounds.columns
        if (column.startswith(MEASURED) or column in ALSO)
        and pd.api.types.is_numeric_dtype(runs.rounds[column])
        and runs.rounds[column].notna().any()
    ]
    return sorted(known, key=lambda column: column != runs.metric)


def axes_of(runs: Runs) -> list[str]:
    """Return the columns besides the round that grow in a run: time, bytes, examples ..."""
    time = "busy_total" if is_known(runs.rounds) else "elapsed"
    return [c for c in (time, *AXES) if c in runs.rounds and (runs.rounds[c] > 0).any()]


def belongs(column: str, mode: str) -> bool:
    """Tell whether a column says anything of a run: pooled data send nothing and do not drift."""
    return mode == "federated" or column not in ("bytes_total", "drift")


def kept_rounds(frame: pd.DataFrame, metrics: Sequence[str], columns: int) -> set[int]:
    """Return the rounds that a page shows: all, or as many as make :data:`NUMBERS`.

    Every run keeps its last round. Measures taken in other rounds have rounds of their own.

    Args:
        frame: a row per run and round.
        metrics: its columns of measures.
        columns: how many lists of numbers there will be.
    """
    most = max(FEWEST, NUMBERS // max(columns, 1))
    rounds = np.unique(frame["round"].to_numpy(int))
    kept = set(frame.groupby("run", observed=True)["round"].max().astype(int))
    if len(rounds) <= most:
        return set(rounds.tolist())
    taken = [tuple(np.unique(frame.loc[frame[m].notna(), "round"].to_numpy(int))) for m in metrics]
    different = list(dict.fromkeys(taken))
    for places in different:
        kept |= set(spread_out(np.array(places), most // len(different)).tolist())
    return kept


def spread_out(values: NDArray[Any], most: int) -> NDArray[Any]:
    """Return at most ``most`` of sorted values: two thirds of them evenly, the others early.

    Curves bend at their beginning, and a logarithmic axis begins there.
    """
    if len(values) <= most:
        return values
    early = max(1, most // 3)
    evenly = np.linspace(0, len(values) - 1, most - early)
    growing = np.geomspace(1, len(values), early) - 1
    places = np.unique(np.concatenate([evenly, growing]).round().astype(int))
    return np.asarray(values[places])


def numbers(values: pd.Series) -> list[float | None]:
    """Return values as JSON has them, rounded; None for what was not measured or is not finite."""
    given = values.to_numpy(float)
    finite = np.isfinite(given)
    size = np.abs(np.where(finite & (given != 0), given, 1.0))
    digits = DIGITS - 1 - np.floor(np.log10(size))
    up, down = 10.0 ** np.maximum(digits, 0), 10.0 ** np.maximum(-digits, 0)  # both are exact
    rounded = np.round(np.where(finite, given, 0.0) * up / down) * down / up
    return [v if known else None for v, known in zip(rounded.tolist(), finite, strict=True)]


def measure(column: str, runs: Runs) -> dict[str, Any]:
    """Return what the page has to know of a measure: its name, its unit and what it can be."""
    low, high = None, None
    if is_share(column):
        low, high = 0, 1
    elif is_lower_better(column) or column in ALSO:
        low = 0 if (runs.rounds[column].dropna() >= 0).all() else None
    share = is_share(column)
    return {"key": column, "name": name_of(column), "title": scale(column, 0.0)[1],
            "divisor": 0.01 if share else 1, "low": low, "high": high, "share": share}  # fmt: skip


def axis(column: str, runs: Runs) -> dict[str, Any]:
    """Return what the page has to know of a horizontal axis."""
    divisor, title = scale(column, float(runs.rounds[column].max()))
    return {"key": column, "name": name_of(column), "title": title, "divisor": divisor}


def look(label: str, one: Look) -> dict[str, Any]:
    """Return how a strategy's curve is drawn, on white and on dark."""
    if isinstance(one.dash, str):
        dash = "solid"
    else:  # Matplotlib counts in widths of the line; plotly.js in pixels, of lines 2 wide
        dash = ",".join(f"{2 * length:g}px" for length in one.dash[1])
    return {"name": label, "light": one.colour, "dark": lifted(one.colour), "dash": dash}


def packed(text: str) -> str:
    """Return a text compressed and as letters, the same for the same text."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode("ascii")


def to_json(data: Mapping[str, Any]) -> str:
    """Return data as short JSON."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def library() -> str:
    """Return plotly.js, as the package ``plotly`` ships it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())
