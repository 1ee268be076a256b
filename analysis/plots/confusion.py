"""Which class is taken for which: the confusion matrix of the last measured round."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.appearance import points
from analysis.plots.base import OWN, not_empty
from analysis.plots.labels import class_name
from analysis.plots.sweeps import cell_size
from analysis.summarise import check_columns, last

COLUMN = re.compile(r"(server|client)_confusion_(\d+)_(\d+)")
"""Counts of the rounds' records: whose data, the true class and the predicted one."""

WRITTEN = 10
"""Up to how many classes have their shares written in the cells."""


def side_of(frame: pd.DataFrame) -> str | None:
    """Return whose counts a table of rounds holds, the server's before the clients'; None: none."""
    found = {
        match[1]
        for name in map(str, frame.columns)
        if (match := COLUMN.fullmatch(name)) and frame[name].notna().any()
    }
    return next((side for side in ("server", "client") if side in found), None)


def matrix(frame: pd.DataFrame, side: str) -> np.ndarray[Any, Any]:
    """Return the examples of a true class (rows) that are taken for a class (columns), all runs'.

    Args:
        frame: :attr:`analysis.Runs.rounds`; of each run the last measured round counts.
        side: ``server`` or ``client``.
    """
    places = [
        (name, int(match[2]), int(match[3]))
        for name in map(str, frame.columns)
        if (match := COLUMN.fullmatch(name)) and match[1] == side
    ]
    size = 1 + max(max(i, j) for _, i, j in places)
    ends = last(frame, places[0][0])
    counts = np.zeros((size, size))
    for name, i, j in places:
        counts[i, j] = ends[name].sum()
    return counts


def confusion(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    side: str = "server",
    names: Sequence[str] | None = None,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw the share of each true class (rows) that is taken for each class (columns).

    Args:
        frame: :attr:`analysis.Runs.rounds` of one strategy, over any seeds.
        ax: where to draw; a new figure without.
        side: ``server`` or ``client``: whose data.
        names: the classes' names, by number.
        legend: whether to draw the colour bar.
        style: further keywords of ``seaborn.heatmap``.
    """
    import seaborn as sns

    check_columns(frame, "run", "round", f"{side}_confusion_0_0")
    not_empty(frame.dropna(subset=f"{side}_confusion_0_0"), "confusion", "confusion counts")
    counts = matrix(frame, side)
    whole = counts.sum(1, keepdims=True)
    shares = np.divide(100 * counts, whole, out=np.full_like(counts, np.nan), where=whole > 0)
    if ax is None:
        edge = plt.rcParams["figure.figsize"][0]
        ax = plt.subplots(figsize=(edge, 0.9 * edge))[1]
        ax.set_label(OWN)
    few = len(counts) <= WRITTEN
    ticks = [class_name(number, names) for number in range(len(counts))] if few else "auto"
    sns.heatmap(
        shares,
        ax=ax,
        **{
            "cmap": "Blues",
            "vmin": 0,
            "vmax": 100,
            "annot": few,
            "fmt": ".0f",
            "annot_kws": {"fontsize": cell_size(ax, len(counts))},
            "linewidths": points(0.5) if few else 0,
            "square": True,
            "cbar": legend,
            "cbar_kws": {"label": "Share of the true class (%)"},
            "xticklabels": ticks,
            "yticklabels": ticks,
            **style,
        },
    )
    ax.tick_params(axis="y", rotation=0)
    ax.tick_params(axis="x", rotation=90 if few and names else 0)
    ax.grid(visible=False)
    ax.set_xlabel("Predicted class")
    ax.set_ylabel("True class")
    return ax
