"""Figures of whom training on a virtual clock heard, by the tier of the clients' devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from analysis.appearance import points
from analysis.participation import accuracy_by_tier, contributions, order_of_tiers
from analysis.plots.base import (
    axes,
    in_percent,
    label_rows,
    legend_above,
    name_axis,
    name_of,
    not_empty,
    one_setting,
    pick_looks,
)
from analysis.summarise import check_columns

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""Of tiers, the fastest first: the shade tells them apart as well."""

EVERYBODY = "all clients"
"""The row that the others of a figure of participation are compared with."""

SHARES_OF = {
    "asked": "times asked",
    "used": "used updates",
    "steps": "used local steps",
    "joules": "energy",
}
"""What a share of participation is of."""


def shades(tiers: Sequence[str]) -> dict[str, str]:
    """Return a shade for each tier, the first one darkest, so that grey printing keeps them."""
    places = np.linspace(0.95, 0.35, max(len(tiers), 2))
    colours = mpl.colormaps["Blues"](places)
    return {t: mpl.colors.to_hex(c) for t, c in zip(tiers, colours, strict=False)}


def seeds_text(frame: pd.DataFrame) -> str:
    """Say how many seeds are shown together."""
    seeds = frame["seed"].nunique() if "seed" in frame else 1
    return "one seed" if seeds == 1 else f"{seeds} seeds"


def participation(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    share: str = "used",
    rows: Sequence[str] | None = None,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw which part of the used updates came from each tier, beside its share of the clients.

    Args:
        frame: :attr:`analysis.Runs.events` of one setting.
        ax: where to draw; a new figure without.
        share: of what, a share of :func:`analysis.participation.contributions`.
        rows: the labels from top to bottom, so that several axes agree; a label without data
            leaves its row empty.
        legend: whether to draw the legend above the axes.
        style: further keywords of ``Axes.barh``.
    """
    one_setting(frame, "participation")
    not_empty(frame, "participation", "pieces of work")
    ax = axes(ax)
    data = contributions(frame).astype({"label": str})
    tiers = order_of_tiers(frame)
    colours = shades(tiers)
    everybody = data.groupby("tier")["clients"].mean()
    names = list(rows or pick_looks(data["label"].unique(), None))
    for label, place in label_rows(ax, [EVERYBODY, *names]).items():
        mine = data[data["label"] == label].set_index("tier")[share]
        parts = everybody if label == EVERYBODY else mine
        left = 0.0
        for tier in tiers:
            width = 100.0 * float(parts.get(tier, 0.0))
            keywords: dict[str, Any] = {
                "height": 0.62,
                "color": colours[tier],
                "edgecolor": "white",
                **style,
            }
            name = (tier or "clients") if label == EVERYBODY else None
            ax.barh(place, width, left=left, linewidth=points(0.4), label=name, **keywords)
            left += width
    ax.axhline(len(names) - 0.5, color="#777777", linewidth=points(0.6))
    ax.set_xlim(0, 100)
    ax.set_xlabel(f"Share of {SHARES_OF[share]} (%)")
    if legend:
        handles = [Patch(color=colours[t]) for t in tiers]
        legend_above(ax, seeds_text(frame), handles=handles, labels=[t or "clients" for t in tiers])
    return ax


def tier_accuracy(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    metric: str = "accuracy",
    tiers: Sequence[str] | None = None,
    rows: Sequence[str] | None = None,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw the mean metric of the clients of each tier, an interval over seeds beside it.

    Args:
        frame: :attr:`analysis.Runs.last_clients` of one setting, with a column ``tier``.
        ax: where to draw; a new figure without.
        metric: the client's metric.
        tiers: the fastest first; in the order of their names without.
        rows: the labels from top to bottom, so that several axes agree; a label without data
            leaves its row empty.
        legend: whether to draw the legend above the axes.
        style: further keywords of ``Axes.errorbar``.
    """
    one_setting(frame, "tier_accuracy")
    check_columns(frame, "label", "client", "tier", metric)
    frame = in_percent(frame, metric)
    not_empty(frame, "tier_accuracy", f"values of {metric!r}")
    ax = axes(ax)
    tiers = list(tiers or sorted(frame["tier"].unique()))
    place_of = frame[["seed", "client", "tier"]].drop_duplicates(["seed", "client"])
    data = accuracy_by_tier(frame.drop(columns="tier"), place_of, metric).astype({"label": str})
    colours = shades(tiers)
    names = list(rows or pick_looks(data["label"].unique(), None))
    places = label_rows(ax, names)
    apart = 0.5 / max(len(tiers), 1)
    for i, tier in enumerate(tiers):
        mine = data[data["tier"] == tier]
        if mine.empty:
            continue
        mean = mine["mean"].to_numpy(float)
        half = np.nan_to_num(mean - mine["low"].to_numpy(float))
        shift = ((len(tiers) - 1) / 2 - i) * apart
        ax.errorbar(
            mean, [places[label] + shift for label in mine["label"]], xerr=half,
            **{"fmt": MARKERS[i % len(MARKERS)], "color": colours[tier], "label": tier or "clients",
               "markersize": points(4.5), "markeredgecolor": "#333333",
               "markeredgewidth": points(0.4), "ecolor": "#555555", "elinewidth": points(0.8),
               "capsize": points(1.5), **style},
        )  # fmt: skip
    name_axis(ax.xaxis, metric)
    ax.set_xlabel(f"{name_of(metric)} (%)" if "accuracy" in metric else name_of(metric))
    if legend:
        pooled = seeds_text(frame)
        text = pooled if pooled == "one seed" else f"mean and 95% CI over {pooled}"
        legend_above(ax, text)
    return ax
