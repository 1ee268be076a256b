"""How well the model serves each client: the distribution over clients, and its tails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.appearance import Look, points
from analysis.costs import fairness
from analysis.plots.base import (
    axes,
    grow,
    in_percent,
    label_rows,
    legend_above,
    name_axis,
    name_of,
    not_empty,
    note,
    one_setting,
    pick_looks,
    rows_height,
    wrapped,
)
from analysis.summarise import check_columns
from analysis.text import span


def measured(frame: pd.DataFrame, metric: str, function: str) -> pd.DataFrame:
    """Return the rows with a value of ``metric``, fractions in per cent; check the frame."""
    one_setting(frame, function)
    check_columns(frame, "label", "client", metric)
    known = frame[frame[metric].notna()]
    not_empty(known, function, f"values of {metric!r}")
    return in_percent(known, metric)


def pooled_text(frame: pd.DataFrame) -> str:
    """Say which rounds and seeds the clients' values come from."""
    parts = []
    if "round" in frame:
        rounds = [int(frame["round"].min()), int(frame["round"].max())]
        parts.append(f"round {span(rounds)}")
    seeds = frame["seed"].nunique() if "seed" in frame else 1
    parts.append("one seed" if seeds == 1 else f"{seeds} seeds pooled")
    return ", ".join(parts)


def client_cdf(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    metric: str = "accuracy",
    looks: Mapping[str, Look] | None = None,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw the share of clients whose metric is at most x, one step line per strategy.

    The clients of all seeds are pooled: F(x) = #{clients with metric <= x} / #{clients}.

    Args:
        frame: :attr:`analysis.Runs.last_clients` of one setting.
        ax: where to draw; a new figure without.
        metric: the client's metric, with the round's model on its validation shard.
        looks: the look of each label.
        legend: whether to draw the legend above the axes.
        style: further keywords of ``Axes.plot``.
    """
    frame = measured(frame, metric, "client_cdf")
    ax = axes(ax)
    for label, look in pick_looks(frame["label"].unique(), looks).items():
        values = np.sort(frame.loc[frame["label"] == label, metric].to_numpy())
        heights = 100.0 * np.arange(1, len(values) + 1) / len(values)
        keywords = {**look.line(), "markevery": 0.13, "drawstyle": "steps-post", **style}
        ax.plot(
            np.concatenate([values[:1], values]), np.concatenate([[0.0], heights]), label=label,
            **keywords,
        )  # fmt: skip
    name_axis(ax.xaxis, metric)
    ax.set_ylabel("Clients at or below (%)")
    ax.set_ylim(-2, 102)
    if legend:
        legend_above(ax, pooled_text(frame))
    return ax


def client_violin(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    metric: str = "accuracy",
    rows: Sequence[str] | None = None,
    looks: Mapping[str, Look] | None = None,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw the distribution of the clients' metric as a violin with quartiles per strategy.

    Args:
        frame: :attr:`analysis.Runs.last_clients` of one setting.
        ax: where to draw; a new figure without.
        metric: the client's metric.
        rows: the labels from top to bottom, so that several axes agree; a label without data
            leaves its row empty.
        looks: the look of each label.
        legend: whether to say above the axes what is pooled.
        style: further keywords of ``seaborn.violinplot``.
    """
    import seaborn as sns

    frame = measured(frame, metric, "client_violin")
    ax = axes(ax)
    table = pick_looks(frame["label"].unique(), looks)
    sns.violinplot(
        data=frame.assign(label=frame["label"].astype(str)),
        x=metric,
        y="label",
        hue="label",
        order=list(rows or table),
        hue_order=list(table),
        ax=ax,
        **{
            "palette": {label: look.colour for label, look in table.items()},
            "saturation": 1.0,  # the strategies' own colours, as in every other figure
            "legend": False,
            "inner": "quart",
            "cut": 0,
            "linewidth": points(0.8),
            "density_norm": "width",
            **style,
        },
    )
    names = list(rows or table)
    ax.set_yticks(range(len(names)), [wrapped(name) for name in names])
    grow(ax, rows_height(names) - plt.rcParams["figure.figsize"][1])
    name_axis(ax.xaxis, metric)
    ax.set_ylabel("")
    ax.grid(visible=False, axis="y")
    if legend:
        note(ax, f"dashes: quartiles; {pooled_text(frame)}")
    return ax


def worst_clients(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    metric: str = "accuracy",
    share: float = 0.1,
    rows: Sequence[str] | None = None,
    looks: Mapping[str, Look] | None = None,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw the mean over clients between those of the worst and of the best clients.

    Args:
        frame: :attr:`analysis.Runs.last_clients` of one setting.
        ax: where to draw; a new figure without.
        metric: the client's metric.
        share: the fraction of clients in the tails, see :func:`analysis.costs.fairness`.
        rows: the labels from top to bottom, so that several axes agree; a label without data
            leaves its row empty.
        looks: the look of each label.
        legend: whether to draw the legend above the axes.
        style: further keywords of ``Axes.plot`` for the line between the tails.
    """
    frame = measured(frame, metric, "worst_clients")
    ax = axes(ax)
    table = pick_looks(frame["label"].unique(), looks)
    data = fairness(frame, metric, share=share).set_index("label").loc[list(table)]
    for label, place in label_rows(ax, list(rows or table)).items():
        if label not in data.index:
            continue
        row, look = data.loc[label], table[label]
        ax.plot(
            [row["worst"], row["best"]], [place, place],
            **{"color": look.colour, "linewidth": points(1.5), "alpha": 0.6, "zorder": 2, **style},
        )  # fmt: skip
        for name, marker, fill in (("worst", "<", True), ("mean", "o", False), ("best", ">", True)):
            ax.plot(
                row[name], place, marker, color=look.colour, markersize=points(5), zorder=3,
                markerfacecolor=look.colour if fill else "white", markeredgecolor=look.colour,
                label=None,
            )  # fmt: skip
    name_axis(ax.xaxis, metric)
    ax.set_xlabel(f"{name_of(metric)} (%)" if "accuracy" in metric else name_of(metric))
    if legend:
        text = f"worst {100 * share:g}% ◂ mean ▸ best {100 * share:g}%"
        note(ax, text)
    return ax
