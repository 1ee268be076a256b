"""One figure for the only setting, or a grid with a panel for each and a shared legend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import pandas as pd
from matplotlib.axes import Axes

from analysis import plots
from analysis.appearance import Look
from analysis.plots.base import pick_looks
from analysis.runs import Runs

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """What all figures of a report have in common.

    Args:
        looks: the look of each label.
        band: the kind of band over seeds, see :data:`analysis.summarise.BANDS`.
        bars: whether curves have error bars instead of bands.
        target: the test accuracy that ``rounds_to_target`` is about; chosen without.
        page: the width of a figure across the page [in].
        memo: what was computed for the same figure on other paper.
    """

    looks: Mapping[str, Look] = field(default_factory=dict)
    band: str = "ci"
    bars: bool = False
    target: float | None = None
    page: float = 6.75
    memo: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """Return ``make()``, or what it gave when this figure was drawn before."""
        if key not in self.memo:
            self.memo[key] = make()
        return cast(T, self.memo[key])


Draw = Callable[[Runs, Options], "Axes | list[Axes]"]


def each(
    runs: Runs,
    frame_of: Callable[[Runs], pd.DataFrame],
    plot: Callable[..., Axes],
    options: Options,
    note: Callable[[pd.DataFrame], str | None] = lambda frame: None,
    **arguments: Any,
) -> Axes | list[Axes]:
    """Draw ``plot`` for the only setting, or a panel of it for each setting."""
    share = arguments.pop("share", "y")
    in_rows = arguments.pop("in_rows", False)
    frame = options.once("frame", lambda: frame_of(runs))
    parts = options.once("parts", lambda: split(frame, runs.settings))
    if in_rows and "looks" not in arguments:  # rows of several marks: in the legend's order
        arguments["rows"] = list(pick_looks(frame["label"].unique(), options.looks))
    if len(parts) <= 1:
        return plot(next(iter(parts.values())), **arguments)
    whole = options.once("whole", lambda: pd.concat(parts.values(), ignore_index=True))
    if in_rows:  # panels share their rows, unless a setting lacks a strategy: each has its own then
        rows = {s: list(pick_looks(p["label"].unique(), options.looks)) for s, p in parts.items()}
        first, *others = rows.values()
        same = all(other == first for other in others)
        arguments["rows"] = first if same else rows
        share = share if same else share.replace("y", "")
    return plots.panels(parts, plot, width=options.page, note=note(whole), share=share, **arguments)


def split(frame: pd.DataFrame, settings: Mapping[str, list[str]]) -> dict[str, pd.DataFrame]:
    """Return the rows of each setting that has some."""
    parts = {
        setting: frame[frame["run"].isin(members)].assign(setting=setting)
        for setting, members in settings.items()
    }
    return {setting: part for setting, part in parts.items() if len(part)}
