"""How many rounds, or how much time or traffic, a strategy needs to reach a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analysis.appearance import Look, points
from analysis.plots.base import (
    axes,
    label_rows,
    name_of,
    not_empty,
    note,
    one_setting,
    pick_looks,
    scale,
    shared,
    text_size,
)
from analysis.summarise import is_lower_better, rounds_to_target


def to_target_bars(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    target: float,
    metric: str = "server_accuracy",
    cost: str = "round",
    rows: Sequence[str] | None = None,
    looks: Mapping[str, Look] | None = None,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw the median over seeds of what it took to reach the target; lines to min and max.

    An arrow stands for a range without an end: a seed never got there. Where half of the seeds or
    more did not, the row says so instead of a bar.

    Args:
        frame: :attr:`analysis.Runs.rounds` of one setting.
        ax: where to draw; a new figure without.
        target: the value of ``metric`` to reach.
        metric: the column that has to reach it.
        cost: ``round``, ``elapsed``, ``bytes_total``, ``examples_total``, ``virtual_seconds`` or
            ``energy_joules``.
        rows: the labels from top to bottom, so that several axes agree; a label without data
            leaves its row empty.
        looks: the look of each label.
        legend: whether to name the target above the axes.
        style: further keywords of ``Axes.barh``.
    """
    one_setting(frame, "to_target_bars")
    not_empty(frame, "to_target_bars", "rounds")
    ax = axes(ax)
    data = rounds_to_target(frame, target, metric, cost=cost).set_index("label")
    table = pick_looks(data.index, looks)
    finite = data["median"][np.isfinite(data["median"])]
    divisor, text = scale(cost, float(finite.max()) if len(finite) else 0.0)
    for label, place in label_rows(ax, list(rows or table)).items():
        if label not in data.index:
            continue
        row, look = data.loc[label], table[label]
        if not np.isfinite(row["median"]):
            ax.annotate(
                f"not reached ({row['reached']:.0f}/{row['n']:.0f} seeds)", (0, place),
                xytext=(3, 0), textcoords="offset points", va="center", color="#444444",
                fontsize=text_size("legend.fontsize"),
            )  # fmt: skip
            continue
        keywords = {"height": 0.62, "linewidth": 0, **look.bar(), **style}
        ax.barh(place, row["median"] / divisor, **keywords)
        ends = [row["low"] / divisor, row["high"] / divisor]
        line: dict[str, Any] = {"color": "#222222", "linewidth": points(0.9)}
        if not np.isfinite(ends[1]):  # a seed never got there: the range has no end
            ax.plot(ends[:1], [place], marker="|", markersize=points(5), **line)
            ax.annotate(
                "", (1.0, place), (ends[0], place), ("axes fraction", "data"), "data",
                arrowprops={"arrowstyle": "->", "shrinkA": 0, "shrinkB": 0, **line},
            )  # fmt: skip
        elif ends[0] < ends[1]:
            ax.plot(ends, [place, place], marker="|", markersize=points(5), **line)
    if not len(finite) and not shared(ax):
        ax.set_xlim(0, 1)
        ax.set_xticks([])
    if cost == "round":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    ax.set_xlabel({"round": "Rounds"}.get(cost, text) + " to target")
    if legend:
        note(ax, f"{target_text(target, metric)}; median, range of {int(data['n'].max())} seeds")
    return ax


def target_text(target: float, metric: str) -> str:
    """Return e.g. ``test accuracy ≥ 80%``."""
    value = f"{100 * target:g}%" if "accuracy" in metric else f"{target:g}"
    sign = "≤" if is_lower_better(metric) else "≥"
    return f"{name_of(metric).lower()} {sign} {value}"
