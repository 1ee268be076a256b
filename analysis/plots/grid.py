"""One panel per setting, with a shared legend: any figure of this package, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from analysis.appearance import Look
from analysis.plots.base import pick_looks, rows_height, text_size, wrapped
from analysis.text import typeset

PANEL = 2.2  # inches: the narrowest panel with readable axes


def panels(
    parts: Mapping[str, pd.DataFrame],
    plot: Callable[..., Axes],
    *,
    width: float | None = None,
    note: str | None = None,
    share: str = "y",
    height: float | None = None,
    **options: Any,
) -> list[Axes]:
    """Draw ``plot`` once for each part, in a grid with one legend above it.

    Args:
        parts: a frame per panel, by the panel's title.
        plot: a function of this package, ``(frame, ax, **options) -> Axes``.
        width: of the figure [in]; twice the style's column without.
        note: a line over the legend: what lines and bands are.
        share: the axes with equal ranges: ``x``, ``y``, ``xy`` or nothing.
        height: of a panel [in]; follows from its width without.
        options: of ``plot``; ``rows`` may be a mapping with those of each panel.

    Returns:
        The panels' axes, in the order of ``parts``.
    """
    if not parts:
        raise ValueError("panels: parts must hold at least one frame")
    width = width or 2 * plt.rcParams["figure.figsize"][0]
    count = len(parts)
    rows, columns = shape(count, max(1, int(width / PANEL)))
    height = height or 0.3 + 0.55 * width / columns
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(width, rows * height + 0.45),
        sharex="x" in share,
        sharey="y" in share,
        squeeze=False,
        layout="constrained",
    )
    cells = list(grid.flat)
    for empty in cells[count:]:
        empty.remove()
    used = cells[:count]
    own = options.pop("rows", None)
    each = own if isinstance(own, Mapping) else dict.fromkeys(parts, own)
    letters = max(14, int(112 * width / columns / plt.rcParams["font.size"]))
    lines = 1
    for i, (ax, (title, frame)) in enumerate(zip(used, parts.items(), strict=True)):
        more = {} if own is None else {"rows": each[title]}
        plot(frame, ax, legend=False, **options, **more)
        text = in_lines(typeset(title), letters)
        lines = max(lines, 1 + text.count("\n"))
        ax.set_title(text, y=1.0)
        if "x" in share and i + columns < count:
            ax.set_xlabel("")
        if "x" in share and i + columns >= count:
            ax.tick_params(labelbottom=True)  # the last panel of its column has the labels
        if i % columns and ("y" in share or ax.get_ylabel() == used[i - 1].get_ylabel()):
            ax.set_ylabel("")
    taller = (lines - 1) * 1.3 * text_size("axes.titlesize") / 72
    if own is not None:
        named = [[t.get_text() for t in ax.get_yticklabels()] for ax in used]
        taller += max(0.0, max(map(rows_height, named)) + 0.1 - height)
        for ax, names in zip(used, named, strict=True):  # rows of one height, the first on top
            bottom, top = ax.get_ylim()
            lack = max(map(len, named)) - len(names)
            ax.set_ylim(bottom - lack if bottom < top else bottom + lack, top)
    figure.set_figheight(figure.get_figheight() + rows * taller)
    shared_legend(figure, used, note, options.get("looks"))
    return used


def in_lines(title: str, letters: int) -> str:
    """Break a setting's name between its factors, never inside one."""
    lines: list[str] = []
    for part in title.split(", "):
        if lines and len(lines[-1]) + len(part) + 2 <= letters:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return ",\n".join(lines)


def shape(count: int, most: int) -> tuple[int, int]:
    """Return (rows, columns) for ``count`` panels, at most ``most`` abreast, rows filled evenly."""
    rows = -(-count // most)
    return rows, -(-count // rows)


def shared_legend(
    figure: Figure, used: Sequence[Axes], note: str | None, looks: Mapping[str, Look] | None
) -> Legend | None:
    """Put one legend above all panels, in as many columns as the figure's width holds."""
    entries: dict[str, Any] = {}
    for ax in used:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if looks is not None:  # the entries are strategies
        entries = {label: entries[label] for label in pick_looks(entries, looks)}
    if not entries:
        if note:
            figure.suptitle(note, fontsize=text_size("legend.fontsize"))
        return None
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    legend: Legend | None = None
    for columns in range(min(len(entries), 8), 0, -1):
        if legend is not None:
            legend.remove()
        even = -(-len(entries) // -(-len(entries) // columns))
        legend = figure.legend(
            list(entries.values()),
            [wrapped(str(label)) for label in entries],
            loc="outside upper center",
            ncols=even,
            title=note,
            frameon=False,
        )
        if legend.get_window_extent(renderer).width <= 0.98 * figure.bbox.width:
            break
    assert legend is not None
    extra = legend.get_window_extent(renderer).height / figure.dpi - 0.35
    figure.set_figheight(figure.get_figheight() + max(0.0, extra))
    return legend
