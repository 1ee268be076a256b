"""Curves over rounds, time, bytes and examples, one line per strategy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.appearance import Look, points
from analysis.plots.base import (
    Ticks,
    axes,
    band_text,
    in_percent,
    interval,
    is_share,
    label_rows,
    legend_above,
    name_axis,
    name_of,
    not_empty,
    note,
    one_setting,
    pick_looks,
    possible,
    scale,
    text_size,
)
from analysis.summarise import (
    check_columns,
    curve,
    diverged,
    final,
    is_lower_better,
    last,
    per_seed,
    settled,
)

LEVELS = ((0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 2)))
"""Dashes of lines across the axes."""


def curves(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    metric: str = "server_accuracy",
    x: str = "round",
    band: str = "ci",
    bars: bool = False,
    levels: Mapping[str, float] | None = None,
    looks: Mapping[str, Look] | None = None,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw a metric against rounds, time, bytes, examples or energy: mean and band over seeds.

    Args:
        frame: :attr:`analysis.Runs.rounds` of one setting.
        ax: where to draw; a new figure without.
        metric: the column on the vertical axis.
        x: ``round``, ``elapsed``, ``bytes_total`` or ``examples_total``; of runs on a virtual
            clock also ``virtual_seconds`` or ``energy_joules``. A strategy that does not move
            along it (centralised training sends no bytes) is left out.
        band: ``ci`` (Student's t, 95%), ``se``, ``sd`` or ``minmax``.
        bars: whether it is drawn as error bars at the markers instead.
        levels: values that lines across the axes show, by label: results of others.
        looks: the look of each label, so that several figures agree; see
            :func:`analysis.appearance.looks`.
        legend: whether to draw the legend above the axes.
        style: further keywords of ``Axes.plot``.

    Raises:
        ValueError: the frame lacks a column, is empty, or mixes settings.
    """
    data, lost = means(frame, metric, x, band)
    return draw(
        data, lost, ax, metric=metric, x=x, band=band, bars=bars, levels=levels, looks=looks,
        legend=legend, **style,
    )  # fmt: skip


def means(
    frame: pd.DataFrame, metric: str, x: str, band: str
) -> tuple[pd.DataFrame, frozenset[str]]:
    """Return what :func:`curves` draws: mean and band by label, and the labels that diverged."""
    one_setting(frame, "curves")
    check_columns(frame, "label", "run", "round", metric, x)
    frame = in_percent(frame, metric, x)
    data = curve(frame, metric, x, by=("label",), band=band)
    moves = data.groupby("label", observed=True)[x].max()
    data = data[data["label"].map(moves).astype(float) > 0]
    not_empty(data, "curves", f"values of {metric!r} against {x!r}")
    return data, frozenset(map(str, diverged(frame)["label"]))


def draw(
    data: pd.DataFrame,
    lost: frozenset[str],
    ax: Axes | None,
    *,
    metric: str,
    x: str,
    band: str,
    bars: bool = False,
    levels: Mapping[str, float] | None = None,
    looks: Mapping[str, Look] | None = None,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw what :func:`means` returned; for the rest see :func:`curves`."""
    ax = axes(ax)
    table = pick_looks(data["label"].unique(), looks)
    divisor, x_name = scale(x, float(data[x].max()))
    for i, (label, look) in enumerate(table.items()):
        part = data[data["label"] == label]
        place = part[x].to_numpy(float) / divisor
        every = max(1, len(part) // 7)
        keywords = {**look.line(), "markevery": (i * every // len(table), every), **style}
        (line,) = ax.plot(place, part["mean"], label=label, **keywords)
        if label in lost:  # its curve ends where the first of its runs did
            ax.plot(
                place[-1:], part["mean"][-1:], "X", color=look.colour, markersize=points(7),
                markeredgecolor="white", markeredgewidth=points(0.5), zorder=5,
            )  # fmt: skip
        if part["n"].max() > 1:
            low, high = (possible(metric, part["mean"], part[end]) for end in ("low", "high"))
            if bars:
                at = slice(i * every // len(table), None, every)
                ax.vlines(place[at], low[at], high[at], color=look.colour, linewidth=points(0.7))
            else:
                ax.fill_between(
                    place, low, high, color=look.colour, alpha=0.18, linewidth=0,
                    zorder=line.get_zorder() - 0.5,
                )  # fmt: skip
    for i, (label, value) in enumerate((levels or {}).items()):
        dash = LEVELS[i % len(LEVELS)]
        value = 100.0 * value if is_share(metric) else value
        ax.axhline(value, color="#555555", linewidth=points(0.9), linestyle=dash, label=label)
    name_axis(ax.yaxis, metric)
    ax.set_xlabel(x_name)
    if x == "round":
        name_axis(ax.xaxis, x)
    ax.margins(x=0.02)
    if is_share(metric):
        fit_share(ax)
    if legend:
        legend_above(ax, band_text(band, data["n"]))
    return ax


def fit_share(ax: Axes) -> None:
    """Let an axis of per cents hold all that is drawn: a wide band is what the seeds say."""
    low, high = map(float, ax.dataLim.intervaly)
    pad = 0.08 * max(high - low, 1.0)
    bottom, top = max(low - pad, min(low, -0.5)), min(high + pad, max(high, 100.5))
    if not ax.get_autoscaley_on():  # set by a panel that shares this axis: keep its data too
        bottom, top = min(bottom, ax.get_ylim()[0]), max(top, ax.get_ylim()[1])
    ax.set_ylim(bottom, top)


def comparison(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    metric: str = "server_accuracy",
    band: str = "ci",
    rows: Sequence[str] | None = None,
    looks: Mapping[str, Look] | None = None,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw each label's final metric: every seed, the mean and its interval, best at the top.

    Centralised training is continued as a dashed line across the axes: the distance to it is
    the price of federation; the distance to local-only training is its gain.

    Args:
        frame: :attr:`analysis.Runs.rounds` of one setting.
        ax: where to draw; a new figure without.
        metric: the column whose last value counts.
        band: the kind of interval, as in :func:`curves`.
        rows: the labels from top to bottom, so that several axes agree; a label without data
            leaves its row empty. By default the best comes first.
        looks: the look of each label.
        legend: whether to say above the axes what rings and intervals are.
        style: further keywords of ``Axes.errorbar``.
    """
    one_setting(frame, "comparison")
    frame = in_percent(frame, metric)
    ends = per_seed(last(settled(frame), metric), [metric], ["label"])
    data = final(frame, metric).set_index("label")
    not_empty(data, "comparison", f"values of {metric!r}")
    ax = axes(ax)
    low, high = (possible(metric, data["mean"], ends) for ends in interval(data, band))
    table = pick_looks(data.index, looks)
    pooled = set(frame.loc[frame["mode"] == "centralised", "label"]) if "mode" in frame else set()
    means, bad, all_ = data["mean"], dict(data["diverged"]), dict(data["seeds"])
    best_first = means.sort_values(kind="stable", ascending=is_lower_better(metric))
    for label, place in label_rows(ax, list(rows or best_first.index)).items():
        if label not in data.index:
            continue
        look, mean = table[label], float(means[label])
        if bad[label]:
            ax.annotate(
                f"{bad[label]}/{all_[label]} seeds diverged", (0.01, place),
                xycoords=("axes fraction", "data"), va="center", color="#444444",
                fontsize=text_size("legend.fontsize"),
            )  # fmt: skip
            continue
        seeds = ends.loc[ends["label"] == label, metric]
        rings = len(seeds) > 1
        if rings:
            ax.plot(
                seeds, np.full(len(seeds), place + 0.2), "o", color=look.colour,
                markersize=points(3.4), markerfacecolor="none", markeredgewidth=points(0.7),
                zorder=3,
            )  # fmt: skip
        ax.errorbar(
            mean, place - 0.1 * rings, xerr=[[mean - low[label]], [high[label] - mean]],
            **{"fmt": look.marker, "color": look.colour, "capsize": points(2.5),
               "markersize": points(look.size + 1.4), "zorder": 4, **style},
        )  # fmt: skip
        if label in pooled:
            ax.axvline(
                mean, color=look.colour, linestyle=look.dash, linewidth=points(0.8), zorder=1
            )
    ax.set_xlabel(f"Final {name_of(metric)[0].lower()}{scale(metric, 0)[1][1:]}")
    if is_share(metric):
        ax.xaxis.set_major_formatter(Ticks(1.0))
    if legend:
        note(ax, rings_text(band, data["n"]))
    return ax


def rings_text(band: str, counts: pd.Series) -> str:
    """Say what :func:`comparison` draws: the rings, the mean and its interval."""
    text = band_text(band, counts)
    return text if int(counts.max()) == 1 else f"rings: seeds; {text}"
