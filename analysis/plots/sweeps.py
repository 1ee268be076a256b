"""A metric against what was swept: heterogeneity, attackers, stragglers, privacy, two options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis.appearance import Look, points
from analysis.plots.base import (
    axes,
    band_text,
    in_percent,
    interval,
    is_share,
    legend_above,
    name_axis,
    name_of,
    not_empty,
    pick_looks,
    possible,
    root,
)
from analysis.summarise import check_columns, final, is_lower_better, last


def sweep(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    x: str = "alpha",
    metric: str = "server_accuracy",
    band: str = "ci",
    log: bool | None = None,
    looks: Mapping[str, Look] | None = None,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw the final metric against a swept number: mean and interval over seeds.

    Args:
        frame: :attr:`analysis.Runs.rounds`, with ``x`` as the only factor besides strategy and
            seed (``runs.across(x)`` says whether more were swept).
        ax: where to draw; a new figure without.
        x: a numeric column: ``alpha``, ``clients``, a fraction of attackers or of stragglers, or
            a number that a run ends with, such as ``epsilon``.
        metric: the column whose last value counts.
        band: the kind of interval, as in :func:`analysis.plots.curves`.
        log: a logarithmic horizontal axis; by default where the largest value is at least eight
            times the smallest, and not a share.
        looks: the look of each label.
        legend: whether to draw the legend above the axes.
        style: further keywords of ``Axes.errorbar``.
    """
    check_columns(frame, "label", "run", "round", metric, x)
    frame = in_percent(frame, metric, x)
    ends = last(frame, metric)
    pooled = ends["mode"] == "centralised" if "mode" in ends else pd.Series(False, ends.index)
    moving = ends[~pooled & ends[x].notna()]
    not_empty(moving, "sweep", f"values of {metric!r} against {x!r}")
    if "seed" in moving and "setting" in moving:
        # runs of one setting are the same experiment, however their options were written
        settings = moving.groupby(["label", x, "seed"], observed=True)["setting"].nunique()
        if (settings > 1).any():
            raise ValueError(
                f"sweep: several experiments share label, seed and {x!r}: more than {x!r} was "
                "swept; choose one setting of Runs.across"
            )
    ax = axes(ax)
    table = pick_looks(ends["label"].unique(), looks)
    reached = frame[frame["run"].isin(moving["run"])]
    data = final(reached, metric, ["label", x])
    data = data[data["mean"].notna()]
    not_empty(data, "sweep", f"final values of {metric!r} without a diverged run")
    low, high = (possible(metric, data["mean"], ends) for ends in interval(data, band))
    data = data.assign(low=low, high=high)
    places = np.sort(data[x].unique().astype(float))
    if log is None:
        log = bool(not is_share(x) and places[0] > 0 and places[-1] >= 8 * places[0])
    step = np.log(places[-1] / places[0]) if log else places[-1] - places[0]
    for i, (label, look) in enumerate(table.items()):
        part = data[data["label"] == label].sort_values(x)
        if part.empty:
            level = ends.loc[ends["label"] == label, metric].mean()
            ax.axhline(level, color=look.colour, linestyle=look.dash, linewidth=points(1))
            ax.errorbar([], [], yerr=[], label=label, **look.line() | {"marker": ""})
            continue
        # neighbours stand a little apart, or their intervals would hide each other
        aside = 0.008 * (i - (len(table) - 1) / 2) * step
        at = part[x].to_numpy(float)
        at = at * np.exp(aside) if log else at + aside
        ax.errorbar(
            at, part["mean"],
            yerr=[part["mean"] - part["low"], part["high"] - part["mean"]], label=label,
            **{**look.line(), "capsize": points(2), "elinewidth": points(0.8), **style},
        )  # fmt: skip
    _swept_axis(ax, x, places, log)
    name_axis(ax.yaxis, metric)
    ax.set_ylabel(f"Final {ax.get_ylabel()[0].lower()}{ax.get_ylabel()[1:]}")
    if legend:
        legend_above(ax, band_text(band, data["n"]))
    return ax


def _swept_axis(ax: Axes, x: str, places: np.ndarray[Any, Any], log: bool) -> None:
    """Name the axis of the swept number, with a tick at each value where they are few."""
    if log:
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
    if len(places) <= 8:
        ax.xaxis.set_major_locator(FixedLocator(list(thinned(places, log))))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.set_xlabel(name_of(x))
    if is_share(x):
        ax.set_xlabel(f"{name_of(x)} (%)")


def thinned(places: np.ndarray[Any, Any], log: bool) -> list[float]:
    """Return the ticks that stand far enough from each other, the first one included."""
    scaled = np.log(places) if log else places
    room = 0.1 * (scaled[-1] - scaled[0])
    kept = [0]
    for i in range(1, len(places)):
        if scaled[i] - scaled[kept[-1]] >= room:
            kept.append(i)
    return [float(places[i]) for i in kept]


def heatmap(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    x: str,
    y: str,
    metric: str = "server_accuracy",
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw the mean final metric over a grid of two options, the best cell framed.

    Args:
        frame: :attr:`analysis.Runs.rounds` of one strategy.
        ax: where to draw; a new figure without.
        x: the column across.
        y: the column upwards.
        metric: the column whose last value counts.
        legend: whether to draw the colour bar.
        style: further keywords of ``seaborn.heatmap``.
    """
    check_columns(frame, "run", "round", metric, x, y)
    ends = last(frame, metric).dropna(subset=[x, y])
    not_empty(ends, "heatmap", f"values of {metric!r} over {x!r} and {y!r}")
    means = final(frame[frame["run"].isin(ends["run"])], metric, [x, y])
    not_empty(means.dropna(subset="mean"), "heatmap", f"final values of {metric!r}")
    grid = means.pivot(index=y, columns=x, values="mean").astype(float)
    grid = grid.sort_index(ascending=False)[sorted(grid.columns)]
    ax = axes(ax)
    named = grid.rename(index="{:g}".format, columns="{:g}".format)
    cells(named, ax, metric, legend, written=60, digits=1, **style)
    flat = grid.to_numpy(float)
    place = np.nanargmin(flat) if is_lower_better(metric) else np.nanargmax(flat)
    row, column = divmod(int(place), flat.shape[1])
    ax.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor="#D55E00",
                           linewidth=points(1.8), clip_on=False))  # fmt: skip
    ax.set_xlabel(option_name(x))
    ax.set_ylabel(option_name(y))
    return ax


def cells(
    grid: pd.DataFrame, ax: Axes, metric: str, legend: bool, written: int, digits: int, **style: Any
) -> None:
    """Draw a metric's final values as cells, the darker the better.

    Args:
        grid: the values; its names are the axes'.
        ax: where to draw.
        metric: of the values; a share is drawn in %.
        legend: whether to draw the colour bar.
        written: up to how many cells have their value in them.
        digits: after the point of a share in %.
        style: further keywords of ``seaborn.heatmap``.
    """
    import seaborn as sns

    share = is_share(metric)
    shown = grid * 100 if share else grid
    sns.heatmap(
        shown,
        ax=ax,
        **{
            "cmap": "Blues_r" if is_lower_better(metric) else "Blues",
            "annot": shown.size <= written,
            "fmt": f".{digits}f" if share else ".3g",
            "annot_kws": {"fontsize": cell_size(ax, shown.shape[1])},
            "linewidths": points(0.5),
            "cbar": legend,
            "cbar_kws": {"label": f"Final {name_of(metric).lower()}{' (%)' if share else ''}"},
            **style,
        },
    )
    ax.tick_params(axis="y", rotation=0)
    ax.grid(visible=False)


def cell_size(ax: Axes, columns: int) -> float:
    """Return the text size of a heatmap's cells [pt]: that of the ticks where there is room."""
    ticks = ax.xaxis.get_ticklabels()[0].get_fontproperties().get_size_in_points()
    inches = ax.get_window_extent().transformed(root(ax).dpi_scale_trans.inverted()).width
    return max(7.0, min(ticks, inches * 72 / columns / 4))  # 71.3, and as much around it


def option_name(column: str) -> str:
    """Return an option's name in words: ``training.learning_rate`` is client learning rate."""
    if column == "training.learning_rate":
        return "Client learning rate"
    return name_of(column)
