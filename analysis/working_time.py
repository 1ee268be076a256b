"""How long workers computed for a run, whatever else they did meanwhile.

Runs of a study share workers: the wall-clock time of one depends on the others, and the first ones
wait for compilers that later ones find warm. What workers did for a run is its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.reading import read_parquet

FILE = "timeline.parquet"
"""The file in a run folder that says what each worker did and when."""

BUSY = "busy"
"""The column of rounds with the workers' time [s]; ``busy_total`` is its running total."""

SOME = 2.0
"""Seconds that two runs may overlap: one's end is written while the next one begins."""


def busy_of(rounds: pd.Series, folder: Path) -> pd.Series:
    """Return how long workers computed in each of a run's rounds, together [s].

    Round 0 only measures, and counts as nothing. The first round has the compilation of all that
    follow: it counts as their median. NaN where the run recorded no timeline.

    Args:
        rounds: the numbers of the rounds.
        folder: the run folder.
    """
    if (work := read_parquet(folder / FILE, ["round", "start", "end"])) is None:
        return pd.Series(float("nan"), rounds.index)
    spent = (work["end"] - work["start"]).groupby(work["round"]).sum()
    busy = rounds.map(spent).fillna(0.0).astype(float)
    later = busy[rounds > 1]
    if len(later):
        busy = busy.where(rounds != 1, later.median())
    return busy.where(rounds > 0, 0.0)


def is_known(rounds: pd.DataFrame) -> bool:
    """Tell whether every run says how long its workers computed."""
    return BUSY in rounds and bool(rounds[BUSY].notna().all())


def at_the_same_time(
    configs: Mapping[str, Mapping[str, Any]], elapsed: Mapping[str, float]
) -> list[str]:
    """Return the runs that went on while another did: their wall-clock times depend on it.

    Args:
        configs: each run's ``config.json``, which says when it began.
        elapsed: the wall-clock time of its rounds [s].
    """
    spans = []
    for run, config in configs.items():
        try:
            began = datetime.fromisoformat(str(config.get("created"))).timestamp()
        except ValueError:
            continue  # an older folder, or one of another tool's: nobody knows when it ran
        spans.append((began, began + float(elapsed.get(run, 0.0)), run))
    found: set[str] = set()
    last = (float("-inf"), "")
    for began, ended, run in sorted(spans):
        if began < last[0] - SOME:
            found |= {run, last[1]}
        last = max(last, (ended, run))
    return [run for run in configs if run in found]
