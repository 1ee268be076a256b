"""What all figures share: axis names and units, legends that cover no data, checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import isnan
from textwrap import wrap
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.ticker import Formatter, MaxNLocator
from matplotlib.transforms import Bbox

from analysis import dark
from analysis.appearance import Look, looks
from analysis.summarise import BANDS, is_lower_better
from analysis.text import ALPHA, EPSILON, TO, span, typeset, words

NAMES = {
    "server_accuracy": "Test accuracy",
    "server_loss": "Test loss",
    "server_attack_success": "Attack success rate",
    "client_accuracy": "Client accuracy",
    "client_loss": "Client loss",
    "train_accuracy": "Training accuracy",
    "train_loss": "Training loss",
    "accuracy": "Client accuracy",
    "loss": "Client loss",
    "round": "Round",
    "seconds": "Time per round",
    "elapsed": "Wall-clock time",
    "busy": "Time of all workers per round",
    "busy_total": "Time of all workers",
    "virtual_seconds": "Virtual time",
    "energy_joules": "Energy of all clients",
    "bytes_total": "Data sent",
    "uploads_total": "Data sent by clients",
    "bytes_up": "Upload per round",
    "bytes_down": "Download per round",
    "examples_total": "Examples processed",
    "participants": "Clients per round",
    "alpha": f"Dirichlet concentration {ALPHA}",
    "clients": "Clients",
    "workers": "Workers",
    "drift": "Client drift",
    "update_norm": "Update norm",
    "epsilon": f"Privacy spent {EPSILON}",
    "attack.fraction": "Attackers",
    "realism.stragglers": "Stragglers",
    "realism.dropout": "Dropout",
}
TIMES = ("seconds", "elapsed", "virtual_seconds", "busy", "busy_total")
SIZES = ("bytes_total", "uploads_total", "bytes_up", "bytes_down")
ENERGIES = ("energy_joules",)
SHARES = ("fraction", "_share", "_success", "stragglers", "dropout")


OWN = "own"
"""The label of axes whose figure was made here, and may grow with its legend or rows."""

WRAP = 24
"""Letters after which a strategy's name is broken in legends and rows."""


def axes(ax: Axes | None) -> Axes:
    """Return ``ax``, or the axes of a new figure.

    Legends and notes stand above the axes: only a layout engine keeps them in the figure.
    """
    if ax is None:
        ax = plt.subplots()[1]
        ax.set_label(OWN)
    if root(ax).get_layout_engine() is None:
        root(ax).set_layout_engine("constrained")
    return ax


def text_size(key: str) -> float:
    """Return the size that Matplotlib's settings give a text, such as ``legend.fontsize`` [pt]."""
    return float(FontProperties(size=plt.rcParams[key]).get_size_in_points())


def above_title(ax: Axes) -> Bbox:
    """Return the upper edge of axes or, where they have one, of their title [pixels]."""
    ends = np.array(ax.bbox.get_points(), dtype=float)
    texts = [text for side in ("left", "center", "right") if (text := ax.get_title(side))]
    if texts:
        lines = max(text.count("\n") + 1 for text in texts)
        height = lines * 1.25 * float(ax.title.get_fontsize())
        ends[1, 1] += (height + float(plt.rcParams["axes.titlepad"])) * ax.figure.dpi / 72
    ends[0, 1] = ends[1, 1]
    return Bbox(ends)


def root(ax: Axes) -> Figure:
    """Return the figure at the root of ``ax``, also from inside a subfigure."""
    figure: Figure = ax.figure.canvas.figure  # in every Matplotlib that we support
    return figure


def grow(ax: Axes, inches: float) -> None:
    """Make the figure of ``ax`` higher, unless it is the caller's."""
    figure = root(ax)
    if inches > 0 and ax.get_label() == OWN:
        figure.set_figheight(figure.get_figheight() + inches)


def wrapped(label: str) -> str:
    """Return a label as papers write it, a long one in lines: broken at commas, options below."""
    label = typeset(label)
    if len(label) <= WRAP:
        return label
    name, bracket, options = label.partition("(")
    # an option is never broken: the reader would take 0.01 for 0.
    parts = wrap(bracket + options, WRAP, break_long_words=False, break_on_hyphens=False)
    lines = [*wrap(name, WRAP), *parts]
    return "\n".join(lines)


def name_of(column: str) -> str:
    """Return what an axis calls a column: a known name, else the column in words."""
    text = words(column)
    return NAMES.get(column, text[:1].upper() + text[1:])


def is_share(column: str) -> bool:
    """Tell whether a column is a fraction that axes show in per cent."""
    return "accuracy" in column or column.endswith(SHARES)


def scale(column: str, largest: float) -> tuple[float, str]:
    """Return (divisor, axis label with unit) for a column whose largest value is ``largest``."""
    name = name_of(column)
    if column == "virtual_seconds" and largest >= 3 * 86400:
        return 86400.0, f"{name} (d)"
    if column in TIMES:
        for size, unit in ((3600.0, "h"), (60.0, "min")):
            if largest >= 3 * size:
                return size, f"{name} ({unit})"
        return 1.0, f"{name} (s)"
    if column in SIZES:
        for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
            if largest >= size:
                return size, f"{name} ({unit})"
        return 1.0, f"{name} (B)"
    if column in ENERGIES:
        for size, unit in ((1e9, "GJ"), (1e6, "MJ"), (1e3, "kJ")):
            if largest >= size:
                return size, f"{name} ({unit})"
        return 1.0, f"{name} (J)"
    if column == "examples_total" and largest >= 1e5:
        return 1e6, f"{name} (millions)"
    return 1.0, f"{name} (%)" if is_share(column) else name


def quantity(column: str, value: float) -> str:
    """Return a time, a size or an energy with the unit that fits it: ``1.86 GB``, ``32.0 s``."""
    if isnan(value):
        return TO
    divisor, text = scale(column, value)
    unit = text[text.rindex("(") + 1 : -1]
    if value == 0 or unit == "B":  # no parts of a byte
        return f"{value:.0f} {unit}"
    short = f"{value / divisor:#.3g}"
    return f"{value / divisor:,.0f} {unit}" if "e+" in short else f"{short.rstrip('.')} {unit}"


class Ticks(Formatter):
    """Numbers at ticks in a unit, all with as many decimals as the one that needs most.

    Args:
        unit: one of it, in the unit of the data.
    """

    def __init__(self, unit: float) -> None:
        self.unit, self._decimals = unit, 0

    def set_locs(self, locs: Any) -> None:
        """Take the places of all ticks."""
        super().set_locs(locs)
        texts = [f"{round(float(v) / self.unit, 6):.6f}".rstrip("0") for v in locs]
        self._decimals = max((len(text.partition(".")[2]) for text in texts), default=0)

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the text of a tick."""
        return f"{x / self.unit + 0.0:.{self._decimals}f}"


def in_percent(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return a frame whose fractions are in per cent, as axes show them and take limits."""
    shares = [column for column in columns if column in frame and is_share(column)]
    return frame.assign(**{column: 100.0 * frame[column] for column in shares})


def name_axis(axis: Any, column: str) -> None:
    """Name an axis whose data are in the column's own unit, fractions in per cent."""
    if column in (*TIMES, *SIZES, *ENERGIES):
        low, high = axis.get_data_interval()
        divisor, text = scale(column, max(abs(low), abs(high)))
        axis.set_major_formatter(Ticks(divisor))
    else:
        text = scale(column, 0.0)[1]
        if is_share(column):
            axis.set_major_formatter(Ticks(1.0))
    axis.set_label_text(text)
    if column == "round":
        axis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def pick_looks(labels: Iterable[str], table: Mapping[str, Look] | None) -> dict[str, Look]:
    """Return the looks of ``labels`` in the order of legends.

    Args:
        labels: what is drawn.
        table: looks by label, in an order of one's own; labels that it lacks come after its.
    """
    own, given = looks(labels), table or {}
    first = [name for name in given if name in own]
    found = {name: given[name] for name in first} | {n: own[n] for n in own if n not in given}
    if dark.is_dark():
        return {
            name: replace(look, colour=dark.lifted(look.colour)) for name, look in found.items()
        }
    return found


def one_setting(frame: pd.DataFrame, function: str) -> None:
    """Raise a ValueError if federated runs of several settings would be averaged."""
    if "setting" not in frame:
        return
    rows = frame[frame["mode"] != "centralised"] if "mode" in frame else frame
    names = sorted(map(str, rows["setting"].unique()))
    if len(names) > 1:
        raise ValueError(
            f"{function}: the frame mixes {len(names)} settings ({'; '.join(names[:3])}); "
            "choose one with Runs.at(setting)"
        )


def not_empty(frame: pd.DataFrame, function: str, what: str) -> None:
    """Raise a ValueError if there is nothing to draw."""
    if frame.empty:
        raise ValueError(f"{function}: the frame holds no {what}")


def band_text(band: str, counts: Sequence[int] | pd.Series) -> str:
    """Say what a line and its band are: ``mean and 95% CI over 3 seeds``."""
    if max(counts) == 1:
        return "one seed"
    return f"mean and {BANDS[band]} over {span(counts)} seeds"


def label_rows(ax: Axes, names: Sequence[str]) -> dict[str, int]:
    """Name the rows of a horizontal chart from top to bottom; return each name's place."""
    places = {name: len(names) - 1 - i for i, name in enumerate(names)}
    ax.set_yticks(list(places.values()), [wrapped(name) for name in places])
    grow(ax, rows_height(names) - plt.rcParams["figure.figsize"][1])
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.grid(visible=False, axis="y")
    return places


def rows_height(names: Sequence[str]) -> float:
    """Return the height [in] that a chart needs to show one row per name without overlap."""
    lines = [1 + wrapped(name).count("\n") for name in names]
    line = 1.25 * float(plt.rcParams["font.size"]) / 72
    return 0.6 + 1.15 * max(lines, default=1) * line * len(lines)


def shared(ax: Axes) -> bool:
    """Tell whether other axes share the horizontal axis of ``ax``."""
    return len(ax.get_shared_x_axes().get_siblings(ax)) > 1


def interval(data: pd.DataFrame, band: str) -> tuple[pd.Series, pd.Series]:
    """Return the ends of ``band`` from a frame of :func:`analysis.summarise.spread`.

    Both equal the mean where one seed gives no interval.
    """
    if band not in BANDS:
        raise ValueError(f"band: must be one of {sorted(BANDS)}, got {band!r}")
    if band == "minmax":
        return data["min"], data["max"]
    low, high = data["low"], data["high"]
    if band != "ci":
        half = data["se" if band == "se" else "std"]
        low, high = data["mean"] - half, data["mean"] + half
    return low.fillna(data["mean"]), high.fillna(data["mean"])


def possible(metric: str, mean: pd.Series, ends: pd.Series) -> pd.Series:
    """Return the ends of a band around ``mean`` cut to what the metric can be.

    Fractions lie in [0, 100] %; losses, norms and times are not negative. Student's interval over
    two seeds knows nothing of that.
    """
    if is_share(metric):
        return ends.clip(0.0, 100.0)
    positive = is_lower_better(metric) or metric in ("drift", "update_norm")
    return ends.clip(lower=0.0) if positive and (mean >= 0).all() else ends


def note(ax: Axes, text: str) -> None:
    """Write a small line above the axes, flush right: long tick labels leave it their room."""
    ax.annotate(
        text, (1.0, 1.0), xycoords=lambda renderer: above_title(ax), xytext=(0, 4),
        textcoords="offset points", ha="right", va="bottom", annotation_clip=False,
        fontsize=text_size("legend.fontsize"),
    )  # fmt: skip


def legend_above(ax: Axes, title: str | None = None, **kwargs: Any) -> Legend | None:
    """Put the legend above the axes, in as many columns as fit its width; it covers no data.

    Args:
        ax: the axes, with labelled artists.
        title: a small line over the entries (what the band is).
        kwargs: ``handles`` and ``labels``, as of ``Axes.legend``.
    """
    if "handles" not in kwargs:
        kwargs["handles"], kwargs["labels"] = ax.get_legend_handles_labels()
    kwargs["labels"] = [wrapped(str(label)) for label in kwargs["labels"]]
    count = len(kwargs["handles"])
    if count == 0:
        return None
    figure = root(ax)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    room = ax.get_window_extent(renderer).width
    if ax.get_label() == OWN:  # up to the edge of the figure, beyond the axis labels
        labels = 5 * float(plt.rcParams["font.size"]) / 72 * figure.dpi
        room = max(room, figure.bbox.width - labels)
    legend: Legend | None = None
    tried: set[int] = set()
    for columns in range(min(count, 6), 0, -1):
        rows = -(-count // columns)
        even = -(-count // rows)  # 5 entries in 3 columns: 3 + 2, not 4 + 1
        if even in tried:
            continue
        tried.add(even)
        legend = ax.legend(
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            frameon=False,
            borderaxespad=0.3,
            borderpad=0.1,
            ncols=even,
            title=title,
            alignment="left",
            **kwargs,
        )
        if legend.get_window_extent(renderer).width <= room:
            break
    assert legend is not None
    # asked for at every drawing: a title that is set later is not printed over
    legend.get_bbox_to_anchor = lambda: above_title(ax)  # type: ignore[method-assign]
    grow(ax, legend.get_window_extent(renderer).height / figure.dpi - 0.5)
    return legend
