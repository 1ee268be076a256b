"""A metric of every strategy under every attack: which defence withstands what."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from analysis.plots.base import OWN, not_empty, wrapped
from analysis.plots.sweeps import cells
from analysis.summarise import check_columns, final, is_lower_better, last

NOBODY = "no attack"
"""The column of runs in which nobody attacks."""


def defences(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    metric: str = "server_accuracy",
    width: float = 6.75,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw the mean final metric of strategies (rows) under attacks (columns), the best on top.

    Args:
        frame: :attr:`analysis.Runs.rounds` of runs with several attacks.
        ax: where to draw; a new figure without.
        metric: the column whose last value counts.
        width: of a new figure [in].
        legend: whether to draw the colour bar.
        style: further keywords of ``seaborn.heatmap``.
    """
    check_columns(frame, "run", "round", "label", metric, "attack.kind")
    rows = frame.assign(**{"attack.kind": frame["attack.kind"].astype(object).fillna(NOBODY)})
    rows["label"] = rows["label"].astype(str)
    ends = last(rows, metric)
    not_empty(ends.dropna(subset=metric), "defences", f"final values of {metric!r}")
    means = final(rows, metric, ["label", "attack.kind"])
    grid = means.pivot(index="label", columns="attack.kind", values="mean").astype(float)
    # Who diverged under an attack is below all who did not.
    means_of = grid.mean(axis=1, skipna=False)
    grid = grid.loc[means_of.sort_values(ascending=is_lower_better(metric)).index]
    first = [NOBODY] if NOBODY in grid else []
    grid = grid[first + [kind for kind in sorted(grid.columns) if kind != NOBODY]]
    if ax is None:
        size = plt.rcParams["font.size"] / 8
        ax = plt.subplots(figsize=(width, (1.1 + 0.3 * len(grid)) * size))[1]
        ax.set_label(OWN)
    cells(grid.rename(index=wrapped), ax, metric, legend, written=150, digits=0, **style)
    ax.set_xlabel("Attack")
    ax.set_ylabel("")
    ax.tick_params(axis="x", rotation=30)
    for label in ax.get_xticklabels():
        label.set_horizontalalignment("right")
    return ax
