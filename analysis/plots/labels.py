"""Which labels the clients hold: bubbles for few clients, a heatmap or bars for many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from analysis.appearance import points
from analysis.plots.base import (
    axes,
    legend_above,
    not_empty,
    root,
)
from analysis.summarise import check_columns

BUBBLES_UP_TO = 30
MUTED = ("#332288", "#88CCEE", "#44AA99", "#117733", "#999933",
         "#DDCC77", "#CC6677", "#882255", "#AA4499", "#DDDDDD")  # fmt: skip
KINDS = ("auto", "bubble", "heatmap", "bars")


def labels(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    kind: str = "auto",
    names: Sequence[str] | None = None,
    largest: int | None = None,
    legend: bool = True,
    **style: Any,
) -> Axes:
    """Draw which labels each client holds.

    ``bubble``: an area per client and label, proportional to the number of examples (up to 30
    clients by default). ``heatmap``: the share of each label in a client's data, clients sorted
    by their main label (any number of clients). ``bars``: the same shares, stacked.

    Args:
        frame: :attr:`analysis.Runs.labels`; of several runs, the first one is drawn.
        ax: where to draw; a new figure without.
        kind: one of ``auto``, ``bubble``, ``heatmap``, ``bars``.
        names: the classes' names, by label.
        largest: the number of examples of a bubble that fills its cell, so that several axes
            agree; the frame's largest without.
        legend: whether to draw the colour bar, the legend or the note that explains the areas.
        style: further keywords of the drawing function of the kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: must be one of {list(KINDS)}, got {kind!r}")
    check_columns(frame, "client", "class", "examples")
    not_empty(frame, "labels", "clients")
    if "mode" in frame and (clients := frame[frame["mode"] != "centralised"]).size:
        frame = clients  # to centralised training the pooled data is one client
    if "run" in frame:
        frame = frame[frame["run"] == frame["run"].iloc[0]]
    grid = frame.pivot_table(
        index="client", columns="class", values="examples", aggfunc="sum", fill_value=0
    )
    grid = grid.reindex(range(int(grid.index.max()) + 1), fill_value=0)
    ax = axes(ax)
    if kind == "auto":
        kind = "bubble" if len(grid) <= BUBBLES_UP_TO else "heatmap"
    if kind == "bubble":
        draw_bubbles(ax, grid, legend, style, largest)
    elif kind == "heatmap":
        draw_heatmap(ax, grid, legend, style)
    else:
        draw_bars(ax, grid, names, legend, style)
    if kind != "bars":
        ax.set_ylabel("Label")
        texts = [class_name(c, names) for c in grid.columns]
        step = 1 if len(texts) <= 12 else -(-len(texts) // 10)
        ax.set_yticks(range(0, len(texts), step), texts[::step])
    return ax


def class_name(label: Any, names: Sequence[str] | None) -> str:
    """Return what a class is called: its number where it has no name."""
    known = names is not None and int(label) < len(names)
    return names[int(label)] if names is not None and known else str(label)


def sizes(most: int) -> list[int]:
    """Return up to three counts for a legend of areas: the largest of 1, 2, 5, 10, ... and less."""
    nice = [m * 10**e for e in range(len(str(most))) for m in (1, 2, 5) if m * 10**e <= most]
    return nice[-1::-2][:3][::-1]


def draw_bubbles(
    ax: Axes,
    grid: pd.DataFrame,
    legend: bool,
    style: Mapping[str, Any],
    most: int | None = None,
) -> None:
    """Draw one bubble per client and label; one of ``most`` examples fills its cell."""
    client, label = np.nonzero(grid.to_numpy())
    counts = grid.to_numpy()[client, label]
    figure = root(ax)
    box = ax.get_window_extent()
    cell = 72 / figure.dpi * min(box.width / len(grid), box.height / len(grid.columns))
    most = int(counts.max()) if most is None else most
    area = 0.81 * cell**2 / most  # points squared: a circle of 0.9 of the smaller side of a cell
    look = {"color": "#0072B2", "alpha": 0.85, "linewidth": 0, "clip_on": False, **style}
    ax.scatter(client, label, s=counts * area, **look)
    for count in sizes(most):  # for the legend alone
        ax.scatter([], [], s=count * area, label=f"{count:,}", **look)
    ax.set_xlim(-0.6, len(grid) - 0.4)
    ax.set_ylim(-0.6, len(grid.columns) - 0.4)
    ax.set_xlabel("Client")
    step = max(1, -(-len(grid) // 12))
    ax.set_xticks(range(0, len(grid), step))
    if legend:
        legend_above(ax, "examples")


def sorted_shares(grid: pd.DataFrame) -> pd.DataFrame:
    """Return each client's label shares, clients sorted by main label, then by its share."""
    shares = grid.div(grid.sum(axis=1).clip(lower=1), axis=0)
    values = shares.to_numpy()
    main = values.argmax(axis=1)
    return shares.iloc[np.lexsort((-values.max(axis=1), main))]


def draw_heatmap(ax: Axes, grid: pd.DataFrame, legend: bool, style: Mapping[str, Any]) -> None:
    """Draw shares as colours; an image inside the vector file keeps 1,000 clients small."""
    shares = sorted_shares(grid)
    image = ax.imshow(
        100.0 * shares.to_numpy().T,
        **{
            "aspect": "auto",
            "origin": "lower",
            "cmap": "Blues",
            "vmin": 0,
            "vmax": 100,
            "interpolation": "nearest",
            **style,
        },
    )
    ax.grid(visible=False)
    ax.set_xlabel(f"{len(shares):,} clients, sorted by main label")
    ax.set_xticks([])
    if legend:
        color_bar(image, [ax])


def color_bar(image: AxesImage, used: Sequence[Axes]) -> None:
    """Draw the colour bar of a heatmap of shares beside the axes ``used``."""
    figure = root(used[0])
    bar = figure.colorbar(image, ax=list(used), pad=0.02, fraction=0.06)
    bar.set_label("Share of client's data (%)")
    bar.outline.set_linewidth(points(0.4))


def class_colours(count: int) -> list[Any]:
    """Return a colour per class: Tol's muted scheme, safe for colour-blind eyes, up to ten."""
    if count <= len(MUTED):
        return list(MUTED[:count])
    return list(colormaps["cividis"](np.linspace(0, 1, count)))


def draw_bars(
    ax: Axes,
    grid: pd.DataFrame,
    names: Sequence[str] | None,
    legend: bool,
    style: Mapping[str, Any],
) -> None:
    """Draw shares as stacked bars; without gaps when there are many clients."""
    few = len(grid) <= BUBBLES_UP_TO
    shares = grid.div(grid.sum(axis=1).clip(lower=1), axis=0) if few else sorted_shares(grid)
    colours = class_colours(len(grid.columns))
    bottom = np.zeros(len(shares))
    edges = np.arange(len(shares) + 1) - 0.5
    for i, column in enumerate(shares.columns):
        height = 100.0 * shares[column].to_numpy()
        name = class_name(column, names)
        keywords = {"color": colours[i], "linewidth": 0, "label": name, **style}
        if few:
            ax.bar(np.arange(len(shares)), height, bottom=bottom, **{"width": 0.85, **keywords})
        else:  # one polygon a label: 1,000 clients x 10 labels as bars would be 10,000 shapes
            low, high = (np.append(v, v[-1:]) for v in (bottom, bottom + height))
            ax.fill_between(edges, low, high, **{"step": "post", **keywords})
        bottom += height
    ax.set_xlim(-0.6, len(shares) - 0.4)
    ax.set_ylim(0, 100)
    ax.set_ylabel("Share of client's data (%)")
    ax.set_xlabel("Client" if few else f"{len(shares):,} clients, sorted by main label")
    ax.set_xticks(range(0, len(shares), -(-len(shares) // 12)) if few else [])
    ax.grid(visible=False, axis="x")
    if legend:
        legend_above(ax, "label")
