"""How the figures of the virtual clock are drawn from a set of runs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from analysis import plots
from analysis.appearance import points
from analysis.drawing import has
from analysis.drawing import targets as to_target
from analysis.panelled import Options, each
from analysis.participation import order_of_tiers, tiers_of, with_tiers
from analysis.plots.clock import ROW, window_of
from analysis.plots.tiers import seeds_text
from analysis.runs import Runs
from analysis.summarise import default_target

SECONDS = "virtual_seconds"
"""The column that only runs with a clock have."""

GANTT_CLIENTS = 12
"""Rows of a Gantt chart: as many as can be read."""


def clocked(runs: Runs) -> Runs:
    """Return the runs that have a clock."""
    if not has(SECONDS)(runs):
        return runs.only([])
    rounds = runs.rounds
    return runs.only(rounds.loc[rounds[SECONDS] > 0, "run"].unique())


def has_target(runs: Runs) -> bool:
    """Tell whether runs with a clock measured what strategies are compared by."""
    return has(SECONDS, runs.metric)(clocked(runs))


def targets(runs: Runs, options: Options) -> Axes | list[Axes]:
    """Draw the virtual time to the target of the runs that have a clock."""
    target = default_target(runs.rounds, runs.metric) if options.target is None else options.target
    return to_target(SECONDS)(clocked(runs), replace(options, target=target))


def any_events(runs: Runs) -> bool:
    """Tell whether a run recorded what happened on its clock."""
    return any((folder / "events.parquet").exists() for folder in runs.folders.values()) and bool(
        len(runs.events)
    )


def any_stale(runs: Runs) -> bool:
    """Tell whether a used update was stale."""
    return any_events(runs) and bool((runs.events["used"] & (runs.events["staleness"] > 0)).any())


def staleness(runs: Runs, options: Options) -> Axes | list[Axes]:
    """Draw :func:`analysis.plots.staleness` of the settings that have stale updates."""

    def stale(part: Runs) -> pd.DataFrame:
        rows = part.events
        hit = rows["used"] & (rows["staleness"] > 0)
        return rows[rows["run"].isin(rows.loc[hit, "run"].unique())]

    return each(
        runs, stale, plots.staleness, options, lambda frame: f"{seeds_text(frame)} pooled",
        looks=options.looks, share="",
    )  # fmt: skip


def gantts(runs: Runs, options: Options) -> Axes | list[Axes]:
    """Draw :func:`analysis.plots.gantt`, a panel for each strategy of the first setting."""
    setting = next(s for s in runs.settings if len(runs.at(s).events))
    part = runs.at(setting)
    events = part.events
    labels = runs.order(events["label"].unique())
    firsts = {x: events.loc[events["label"] == x, "run"].iloc[0] for x in labels}
    frames = {x: events[events["run"] == run] for x, run in firsts.items()}
    whole = pd.concat(frames.values(), ignore_index=True)
    rounds = part.rounds[part.rounds["round"] > 0]
    steps = {str(r): rounds.loc[rounds["run"] == r, SECONDS].tolist() for r in firsts.values()}
    plot = partial(
        plots.gantt, clients=GANTT_CLIENTS, window=window_of(whole), steps=steps,
        tiers=order_of_tiers(whole),
    )  # fmt: skip
    if len(frames) == 1:
        return plot(frames[labels[0]])
    height = 0.6 + ROW * GANTT_CLIENTS * points(1.0)
    return plots.panels(frames, plot, width=options.page, share="", height=height)


def participation(runs: Runs, options: Options) -> Axes | list[Axes]:
    """Draw :func:`analysis.plots.participation`."""
    return each(
        runs, lambda r: r.events, plots.participation, options, seeds_text, share="xy",
        in_rows=True,
    )  # fmt: skip


def tiers_known(runs: Runs) -> bool:
    """Tell whether clients of different tiers were measured."""
    if not any_events(runs) or runs.last_clients.empty:
        return False
    return bool(with_tiers(runs.last_clients, tiers_of(runs.events))["tier"].nunique() > 1)


def tier_accuracy(runs: Runs, options: Options) -> Axes | list[Axes]:
    """Draw :func:`analysis.plots.tier_accuracy`."""
    tiers = order_of_tiers(runs.events)

    def measured(part: Runs) -> pd.DataFrame:
        found = [
            with_tiers(here.last_clients, tiers_of(here.events))
            for here in (part.at(setting) for setting in part.settings)
            if len(here.events) and len(here.last_clients)
        ]
        return pd.concat(found, ignore_index=True)

    def note(frame: pd.DataFrame) -> str:
        pooled = seeds_text(frame)
        return pooled if pooled == "one seed" else f"mean and 95% CI over {pooled}"

    return each(
        runs, measured, plots.tier_accuracy, options, note, tiers=tiers, share="xy", in_rows=True
    )
