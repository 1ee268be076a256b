"""Figures of the virtual clock: who worked when, and how stale updates were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.appearance import Look, points
from analysis.participation import duration_of, order_of_tiers
from analysis.plots.base import (
    axes,
    grow,
    legend_above,
    not_empty,
    one_setting,
    pick_looks,
    scale,
)
from analysis.plots.tiers import seeds_text, shades
from analysis.summarise import check_columns
from analysis.text import number

UNUSED = "not used"

ROW = 0.15
"""Inches that a client of a Gantt chart takes."""


def staleness_edges(largest: int) -> list[int]:
    """Return the edges of a histogram's bins: of one step each, or twice as wide each time."""
    if largest <= 9:
        return list(range(largest + 2))
    edges = [0, 1, 2, 3]
    while edges[-1] <= largest:
        edges.append(2 * edges[-1] - 1)
    return edges


def staleness(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    looks: Mapping[str, Look] | None = None,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw how many server steps old the models were that used updates started from.

    The heights are shares of a strategy's used updates, all seeds pooled. Beyond nine steps each
    bin is twice as wide as the one before it; the ticks are the bins' edges. Strategies whose
    updates are never stale are left out.

    Args:
        frame: :attr:`analysis.Runs.events` of one setting.
        ax: where to draw; a new figure without.
        looks: the look of each label.
        legend: whether to draw the legend above the axes.
        style: further keywords of ``Axes.bar``.
    """
    one_setting(frame, "staleness")
    check_columns(frame, "label", "staleness", "used")
    used = frame[frame["used"].astype(bool)]
    largest = used.groupby("label", observed=True)["staleness"].max()
    used = used[used["label"].isin(largest.index[largest > 0])]
    not_empty(used, "staleness", "stale updates")
    ax = axes(ax)
    edges = staleness_edges(int(used["staleness"].max()))
    table = pick_looks(used["label"].unique(), looks)
    width = 0.84 / len(table)
    for i, (label, look) in enumerate(table.items()):
        values = used.loc[used["label"] == label, "staleness"].to_numpy()
        heights = 100.0 * np.histogram(values, edges)[0] / len(values)
        places = np.arange(len(heights)) + (i - (len(table) - 1) / 2) * width
        ax.bar(places, heights, label=label, **{"width": width, **look.bar(), **style})
    if edges[-1] == len(edges) - 1:
        ax.set_xticks(range(len(edges) - 1), [str(e) for e in edges[:-1]])
    else:
        # Long numbers side by side would run into each other: then every other edge has one.
        told = edges if len(edges) <= 10 else [e if i % 2 == 0 else "" for i, e in enumerate(edges)]
        ax.set_xticks(np.arange(len(edges)) - 0.5, [str(e) for e in told])
    ax.grid(visible=False, axis="x")
    ax.set_xlabel("Staleness (server steps)")
    ax.set_ylabel("Used updates (%)")
    if legend:
        pooled = seeds_text(used)
        legend_above(ax, pooled if pooled == "one seed" else f"{pooled} pooled")
    return ax


def window_of(frame: pd.DataFrame) -> tuple[float, float]:
    """Return the part of the clock that a Gantt chart shows: three long pieces of work [s]."""
    seconds = duration_of(frame).dropna()
    end = 3 * float(seconds.quantile(0.9)) if len(seconds) else 0.0
    return 0.0, end if end > 0 else 1.0


def some_clients(frame: pd.DataFrame, count: int, tiers: Sequence[str]) -> list[int]:
    """Return ``count`` clients in the order of their tiers, as many of each as is proportionate.

    Of a tier those with the most pieces of work in ``frame`` are taken.
    """
    work = frame.groupby("client").size().rename("work").reset_index()
    work["tier"] = work["client"].map(frame.drop_duplicates("client").set_index("client")["tier"])
    work = work.sort_values(["work", "client"], ascending=[False, True])
    there = {t: work.loc[work["tier"].astype(str) == t, "client"].tolist() for t in tiers}
    there = {t: clients for t, clients in there.items() if clients}
    count = min(count, len(work))
    quotas = {t: count * len(clients) / len(work) for t, clients in there.items()}
    seats = {t: min(len(there[t]), max(1, int(q))) for t, q in quotas.items()}
    by_rest = sorted(there, key=lambda t: (seats[t] - quotas[t], tiers.index(t)))
    for t in by_rest[: max(0, count - sum(seats.values()))]:
        seats[t] += len(there[t]) > seats[t]
    return [int(client) for t, clients in there.items() for client in clients[: seats[t]]]


def gantt(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    clients: int = 12,
    window: tuple[float, float] | None = None,
    steps: Mapping[str, Sequence[float]] | None = None,
    tiers: Sequence[str] | None = None,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw which client worked when on the virtual clock, from its model to its answer.

    Solid: the update was used; hatched: it was not. Ticks above the rows are server steps.

    Args:
        frame: :attr:`analysis.Runs.events`; of several runs, the first one is drawn.
        ax: where to draw; a new figure without.
        clients: how many rows at most, see :func:`some_clients`.
        window: its begin and end [s]; :func:`window_of` without.
        steps: the clock at each server step, by run.
        tiers: in the order of rows; :func:`analysis.participation.order_of_tiers` without.
        legend: whether to draw the legend above the axes.
        style: further keywords of ``Axes.broken_barh``.
    """
    check_columns(frame, "client", "tier", "dispatched", "arrived", "used")
    not_empty(frame, "gantt", "pieces of work")
    if "run" in frame:
        frame = frame[frame["run"] == frame["run"].iloc[0]]
    tiers = tiers or order_of_tiers(frame)
    start, end = window or window_of(frame)
    seen = frame[frame["arrived"].notna()]
    seen = seen[(seen["dispatched"] < end) & (seen["arrived"] > start)]
    not_empty(seen, "gantt", f"pieces of work from {start:g} to {end:g} s")
    ax = axes(ax)
    chosen = some_clients(seen, clients, tiers)
    divisor, text = scale("virtual_seconds", end)
    colours = shades(tiers)
    rows = {client: len(chosen) - 1 - i for i, client in enumerate(chosen)}
    seen = seen[seen["client"].isin(rows)].assign(tier=seen["tier"].astype(str))
    for key, work in seen.groupby(["client", "tier", "used"], observed=True):
        client, tier, used = int(str(key[0])), str(key[1]), bool(key[2])
        lefts = work["dispatched"].clip(lower=start) / divisor
        rights = work["arrived"].clip(upper=end) / divisor
        bars = list(zip(lefts, rights - lefts, strict=True))
        fill = {"facecolor": colours[tier], "edgecolor": "white"}
        if not used:
            fill = {"facecolor": "white", "edgecolor": "#777777", "hatch": "//////"}
        ax.broken_barh(
            bars, (rows[client] - 0.38, 0.76), **{**fill, "linewidth": points(0.4), **style}
        )
    ax.set_yticks(list(rows.values()), [number(client) for client in rows])
    grow(ax, 0.7 + ROW * len(rows) * points(1.0) - plt.rcParams["figure.figsize"][1])
    ax.set_ylim(-0.6, len(rows) + 0.1)
    ax.set_xlim(start / divisor, end / divisor)
    mark_steps(ax, (steps or {}).get(_run_of(frame), ()), start, end, divisor)
    ax.grid(visible=False, axis="y")
    ax.set_ylabel("Client")
    ax.set_xlabel(text)
    for tier in tiers:  # for the shared legend of several panels
        ax.fill_between([], [], color=colours[tier], label=tier or "clients")
    ax.fill_between([], [], facecolor="white", edgecolor="#777777", hatch="//////", label=UNUSED)
    if legend:
        legend_above(ax)
    return ax


def _run_of(frame: pd.DataFrame) -> str:
    return str(frame["run"].iloc[0]) if "run" in frame else ""


def mark_steps(
    ax: Axes, seconds: Sequence[float], start: float, end: float, divisor: float
) -> None:
    """Draw a tick at the top of the axes for each server step."""
    places = [s / divisor for s in seconds if start < s <= end]
    ax.vlines(
        places, 0.965, 1.0, transform=ax.get_xaxis_transform(), color="#D55E00",
        linewidth=points(0.8),
    )  # fmt: skip
