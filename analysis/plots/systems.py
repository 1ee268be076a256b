"""Systems figures: the time of a round, who worked when, and what was sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.appearance import Look, points
from analysis.plots.base import (
    axes,
    label_rows,
    legend_above,
    name_of,
    not_empty,
    note,
    pick_looks,
    scale,
)
from analysis.summarise import check_columns, per_seed


def round_time(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    x: str | None = None,
    column: str = "seconds",
    rows: Sequence[str] | None = None,
    looks: Mapping[str, Look] | None = None,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw the time of a round: against clients or workers, or its spread per strategy.

    Args:
        frame: :attr:`analysis.Runs.rounds`.
        ax: where to draw; a new figure without.
        x: ``participants``, ``clients`` or ``workers``: lines through each run's median round
            time, averaged over seeds, on logarithmic axes. Without: a box per strategy over all
            rounds of all seeds (quartiles; whiskers from the 5th to the 95th percentile).
        column: ``seconds`` of the wall clock, or ``busy``: what all workers computed.
        rows: the labels from top to bottom, so that several axes agree; a label without data
            leaves its row empty.
        looks: the look of each label.
        legend: whether to draw the legend or the note above the axes.
        style: further keywords of ``Axes.plot``, or of ``Axes.barh`` for the boxes.
    """
    check_columns(frame, "run", "label", column, *([x] if x else []))
    known = frame[frame[column].notna() & (frame["round"] > 0)]
    not_empty(known, "round_time", f"values of {column!r}")
    ax = axes(ax)
    table = pick_looks(known["label"].unique(), looks)
    if x is None:
        divisor, text = scale(column, float(known[column].median()))
        for name, place in label_rows(ax, list(rows or table)).items():
            values = known.loc[known["label"] == name, column] / divisor
            if values.empty:
                continue
            low, first, middle, third, high = values.quantile([0.05, 0.25, 0.5, 0.75, 0.95])
            ax.plot([low, high], [place, place], color="#444444", linewidth=points(0.9), zorder=2)
            box = {"height": 0.55, "color": table[name].colour, "linewidth": 0, "zorder": 3}
            ax.barh(place, third - first, left=first, **{**box, **style})
            ax.plot([middle] * 2, [place - 0.275, place + 0.275], color="black", zorder=4)
        ax.plot([0], [0], alpha=0)  # the axis starts at zero: half the time looks like half
        ax.set_xlabel(text)
        if legend:
            note(ax, "median, quartiles, 5th to 95th percentile")
        return ax
    runs = known.groupby(["label", "run"], observed=True)
    medians = runs.agg(seconds=(column, "median"), at=(x, "median")).reset_index()
    if "seed" in known:
        seeds = known.drop_duplicates("run").set_index("run")["seed"]
        medians["seed"] = medians["run"].astype(object).map(dict(seeds))
    places = per_seed(medians, ["seconds"], ["label", "at"])
    data = places.groupby(["label", "at"], observed=True)["seconds"].mean().reset_index()
    for label, look in table.items():
        part = data[data["label"] == label].sort_values("at")
        ax.plot(part["at"], part["seconds"], label=label, **{**look.line(), **style})
    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axis.set_minor_formatter(FuncFormatter(lambda v, _: ""))
    if len(ticks := np.sort(data["at"].unique())) <= 6:
        ax.set_xticks(ticks)
    ax.set_xlabel(name_of(x))
    ax.set_ylabel(scale(column, 0.0)[1])
    if legend:
        legend_above(ax, "median of a run's rounds")
    return ax


def timeline(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    rounds: int = 3,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw which worker was busy when (a Gantt chart), rounds in alternating colours.

    Training is solid; other work (evaluation, merging), where the frame has a column ``kind``,
    is pale.

    Args:
        frame: :attr:`analysis.Runs.timeline`; of several runs, the first one is drawn.
        ax: where to draw; a new figure without.
        rounds: how many rounds to show, the last ones.
        legend: whether to say above the axes how busy the workers were.
        style: further keywords of ``Axes.broken_barh``.
    """
    check_columns(frame, "worker", "start", "end", "round")
    not_empty(frame, "timeline", "pieces of work")
    if "run" in frame:
        frame = frame[frame["run"] == frame["run"].iloc[0]]
    frame = frame[frame["round"] > frame["round"].max() - rounds]
    origin = float(frame["start"].min())
    workers = {w: i for i, w in enumerate(sorted(frame["worker"].unique()))}
    ax = axes(ax)
    training = frame["kind"].isin(("train", "message")) if "kind" in frame else True
    frame = frame.assign(training=training)
    colours = ("#0072B2", "#E69F00", "#009E73")
    for number, part in enumerate(dict(list(frame.groupby("round"))).values()):
        for (worker, solid), work in part.groupby(["worker", "training"], observed=True):
            bars = [(a - origin, b - a) for a, b in zip(work["start"], work["end"], strict=True)]
            ax.broken_barh(
                bars, (workers[worker] - 0.4, 0.8),
                **{"facecolor": colours[number % 3], "edgecolor": "white",
                   "linewidth": points(0.3), "alpha": 1.0 if solid else 0.4, **style},
            )  # fmt: skip
    ax.set_ylim(-0.6, len(workers) - 0.4)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    ax.set_ylabel("Worker")
    ax.set_xlabel("Time (s)")
    ax.grid(visible=False, axis="y")
    if legend:
        busy = float((frame["end"] - frame["start"]).sum())
        whole = len(workers) * (float(frame["end"].max()) - origin)
        shown = frame["round"].nunique()
        pale = "" if frame["training"].all() else ", evaluation pale"
        rounds_text = "1 round" if shown == 1 else f"{shown} rounds, a colour each"
        note(ax, f"{rounds_text}{pale}; {100 * busy / whole:.0f}% busy")
    return ax


def traffic(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    rows: Sequence[str] | None = None,
    looks: Mapping[str, Look] | None = None,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw the bytes sent up (solid) and down (pale) by a whole run, mean over seeds.

    Args:
        frame: :attr:`analysis.Runs.rounds`; labels that send nothing are left out.
        ax: where to draw; a new figure without.
        rows: the labels from top to bottom, so that several axes agree; a label without data
            leaves its row empty.
        looks: the look of each label.
        legend: whether to draw the legend above the axes.
        style: further keywords of ``Axes.barh``.
    """
    check_columns(frame, "run", "label", "bytes_up", "bytes_down")
    sums = frame.groupby(["label", "run"], observed=True)[["bytes_up", "bytes_down"]].sum()
    data = sums.groupby("label", observed=True).mean()
    data = data[data.sum(axis=1) > 0]
    not_empty(data, "traffic", "bytes sent")
    ax = axes(ax)
    table = pick_looks(data.index, looks)
    divisor, text = scale("bytes_total", float(data.sum(axis=1).max()))
    for label, place in label_rows(ax, list(rows or table)).items():
        if label not in data.index:
            continue
        up, down = data.loc[label, ["bytes_up", "bytes_down"]].to_numpy(float) / divisor
        keywords = {"height": 0.62, "color": table[label].colour, "linewidth": 0, **style}
        ax.barh(place, up, **keywords)
        ax.barh(place, down, left=up, **{**keywords, "alpha": 0.45})
    ax.set_xlabel(text)
    if legend:
        grey = "#444444"
        handles = [Patch(color=grey), Patch(color=grey, alpha=0.45)]
        legend_above(ax, handles=handles, labels=["upload", "download"])
    return ax
