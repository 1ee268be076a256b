"""How each figure of the registry is drawn from a set of runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from analysis import plots
from analysis.panelled import Draw, Options, each, split
from analysis.plots.base import band_text, is_share, name_of
from analysis.plots.clients import pooled_text
from analysis.plots.confusion import side_of
from analysis.plots.curves import draw as draw_means
from analysis.plots.curves import means, rings_text
from analysis.plots.labels import BUBBLES_UP_TO, color_bar
from analysis.plots.targets import target_text
from analysis.runs import Runs
from analysis.summarise import curve, default_target, settled, slim
from analysis.working_time import is_known


def has(*columns: str) -> Callable[[Runs], bool]:
    """Return a test: do the runs' rounds hold a value in each of ``columns``?"""

    def applies(runs: Runs) -> bool:
        return all(c in runs.rounds and bool(runs.rounds[c].notna().any()) for c in columns)

    return applies


SENT = ("bytes_total", "uploads_total")
"""Columns of what travels, in which centralised and local training have nothing."""


def is_measured(runs: Runs) -> bool:
    """Tell whether the runs hold the measure that strategies are compared by."""
    return has(runs.metric)(runs)


def moves(column: str, metric: str | None = None) -> Callable[[Runs], bool]:
    """Return a test: does ``column`` rise above zero for a strategy that measured ``metric``?

    Without a metric it is about the measure that strategies are compared by.
    """

    def applies(runs: Runs) -> bool:
        measure = metric or runs.metric
        if not has(column, measure)(runs):
            return False
        rows = runs.rounds
        if column in SENT:
            rows = rows[rows["mode"] == "federated"]
        return bool(((rows[column] > 0) & rows[measure].notna()).any())

    return applies


def varies(column: str, runs: Runs) -> bool:
    """Tell whether ``column`` is a number that differs between the runs that are not pooled."""
    if column not in runs.table:
        return False
    values = runs.table.loc[runs.table["mode"] != "centralised", column].dropna()
    return bool(pd.api.types.is_numeric_dtype(values)) and values.nunique() > 1


def curves(column: str | None, x: str = "round") -> Draw:
    """Return a drawing function of :func:`analysis.plots.curves`.

    Without a column it draws the measure that strategies are compared by.
    """

    def draw(runs: Runs, options: Options) -> Axes | list[Axes]:
        metric = column or runs.metric

        def drawable(part: Runs) -> pd.DataFrame:
            rows = slim(part.rounds, metric, x)
            # centralised and local training send no models, and have nobody to drift from
            if x in SENT or metric == "drift":
                rows = rows[rows["mode"] == "federated"]
            if x == "uploads_total":
                rows = rows[rows[x] > 0]  # Its axis is logarithmic.
            labels = rows["label"]
            known = rows[metric].notna().groupby(labels, observed=True).transform("any")
            reach = rows[x].groupby(labels, observed=True).transform("max")
            placed = rows[x].notna().groupby(rows["run"], observed=True).transform("any")
            return rows[known & placed & (reach > 0)]

        def note(frame: pd.DataFrame) -> str:
            def seeds() -> pd.Series:
                return curve(frame, metric, by=("setting", "label"), band=options.band)["n"]

            return band_text(options.band, options.once("seeds", seeds))

        def plot(frame: pd.DataFrame, ax: Axes | None = None, **arguments: Any) -> Axes:
            setting = str(frame["setting"].iloc[0])
            levels = runs.names.levels(setting, metric, list(runs.settings)) if x == "round" else {}
            data, lost = options.once(
                ("means", setting), lambda: means(frame, metric, x, options.band)
            )
            return draw_means(data, lost, ax, levels=levels, **arguments)

        return each(
            runs, drawable, plot, options, note, metric=metric, x=x, band=options.band,
            bars=options.bars, looks=options.looks,
        )  # fmt: skip

    return draw


def encoded(runs: Runs) -> bool:
    """Tell whether clients of any run encode what they send."""
    kinds = runs.table.get("compression.kind")
    if kinds is None or not (kinds.notna() & (kinds != "none")).any():
        return False
    return moves("uploads_total", "server_accuracy")(runs)


def upload_curves(runs: Runs, options: Options) -> Axes | list[Axes]:
    """Draw the test accuracy against what clients sent, whose factors are equal distances."""
    drawn = curves("server_accuracy", "uploads_total")(runs, options)
    for ax in drawn if isinstance(drawn, list) else [drawn]:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        ax.xaxis.set_minor_formatter(FuncFormatter(lambda v, _: ""))
    return drawn


def time_curves(runs: Runs, options: Options) -> Axes | list[Axes]:
    """Draw the test accuracy against the time of workers, or of the wall clock where unknown."""
    return curves("server_accuracy", time_of(runs))(runs, options)


def time_of(runs: Runs) -> str:
    """Return the column of time that strategies can be compared by.

    Runs of a study share workers: what these computed is a run's own, its wall-clock time is not.
    """
    return "busy_total" if is_known(runs.rounds) else "elapsed"


def comparison(runs: Runs, options: Options) -> Axes | list[Axes]:
    """Draw :func:`analysis.plots.comparison`."""

    def note(frame: pd.DataFrame) -> str:
        seeds = frame.groupby(["setting", "label"], observed=True)["seed"].nunique()
        return rings_text(options.band, seeds)

    return each(
        runs, lambda r: slim(r.rounds, r.metric), plots.comparison, options, note,
        metric=runs.metric, band=options.band, looks=options.looks, share="xy", in_rows=True,
    )  # fmt: skip


def on_clients(plot: Callable[..., Axes], text: str = "{}", in_rows: bool = True) -> Draw:
    """Return a drawing function that gives the clients' last metrics to ``plot``."""

    def draw(runs: Runs, options: Options) -> Axes | list[Axes]:
        return each(
            runs, lambda r: r.last_clients, plot, options,
            lambda frame: text.format(pooled_text(frame)), looks=options.looks, share="xy",
            in_rows=in_rows,
        )  # fmt: skip

    return draw


def labels(kind: str) -> Draw:
    """Return a drawing function of :func:`analysis.plots.labels`."""

    def draw(runs: Runs, options: Options) -> Axes | list[Axes]:
        def note(frame: pd.DataFrame) -> str | None:
            few = frame["client"].max() < BUBBLES_UP_TO
            return "examples" if few and kind == "auto" else None

        # one run a setting is drawn: reading the labels of all would take longer than drawing
        some = runs.only(first_with_labels(runs))
        counts = some.labels.loc[some.labels["mode"] != "centralised", "examples"]
        drawn = each(
            some, lambda r: r.labels, plots.labels, options, note, kind=kind, share="",
            names=runs.class_names, largest=int(counts.max()),
        )  # fmt: skip
        if isinstance(drawn, list) and (images := [ax.images[0] for ax in drawn if ax.images]):
            color_bar(images[0], drawn)
        return drawn

    return draw


def targets(cost: str) -> Draw:
    """Return a drawing function of :func:`analysis.plots.to_target_bars`."""

    def draw(runs: Runs, options: Options) -> Axes | list[Axes]:
        metric, target = runs.metric, options.target
        target = default_target(runs.rounds, metric) if target is None else target

        def note(frame: pd.DataFrame) -> str:
            return f"{target_text(target, metric)}; median and range over seeds"

        return each(
            runs, lambda r: slim(r.rounds, metric, cost), plots.to_target_bars, options, note,
            target=target, metric=metric, cost=cost, looks=options.looks, share="xy", in_rows=True,
        )  # fmt: skip

    return draw


def swept(*columns: str) -> tuple[Callable[[Runs], bool], Draw]:
    """Return test and drawing function of :func:`analysis.plots.sweep` over the first of columns.

    A column that names no column of the table exactly is matched as the end of a dotted one.
    """

    def find(runs: Runs) -> tuple[str, Runs] | None:
        for wanted in columns:
            for column in map(str, runs.table.columns):
                fits = column == wanted or column.endswith(f".{wanted}")
                if not fits or not varies(column, runs):
                    continue
                part = runs.across(column)  # alone in a setting, a value is no curve
                moving = [s for s in part.settings if varies(column, part.at(s))]
                if moving:
                    return column, part.only(r for s in moving for r in part.settings[s])
        return None

    def draw(runs: Runs, options: Options) -> Axes | list[Axes]:
        found = find(runs)
        assert found is not None  # `applies` said so
        column, part = found

        def note(frame: pd.DataFrame) -> str:
            seeds = frame.groupby(["setting", "label", column], observed=True)["seed"].nunique()
            return band_text(options.band, seeds)

        return each(
            part, lambda r: slim(r.rounds, column, r.metric), plots.sweep, options, note,
            x=column, metric=runs.metric, band=options.band, looks=options.looks,
        )  # fmt: skip

    return lambda runs: find(runs) is not None, draw


def option_grids(runs: Runs) -> dict[str, tuple[str, str, Runs]]:
    """Return two numeric options that were swept together, by strategy (and setting).

    Of several pairs the one with the most combinations is taken; two by two is the least.
    """
    found = {}
    federated = runs.table[runs.table["mode"] == "federated"]
    for strategy, rows in federated.groupby("strategy"):
        part = runs.only(rows.index)
        columns = [
            c for c in rows.columns if c.startswith(("training.", "strategy.")) and varies(c, part)
        ]
        pairs = [
            (len(rows[[x, y]].dropna().drop_duplicates()), x, y)
            for i, x in enumerate(columns)
            for y in columns[i + 1 :]
        ]
        pairs = [p for p in pairs if p[0] >= 4]
        if not pairs:
            continue
        _, x, y = max(pairs, key=lambda p: p[0])
        apart = part.across(x, y)
        for setting in apart.settings:
            here = apart.at(setting)
            if varies(x, here) and varies(y, here):
                found[", ".join(filter(None, (str(strategy), setting)))] = (x, y, here)
    return found


def heatmaps(runs: Runs, options: Options) -> Axes | list[Axes]:
    """Draw :func:`analysis.plots.heatmap`, a panel for each strategy that was tuned."""
    grids = option_grids(runs)
    if len(grids) == 1:
        x, y, part = next(iter(grids.values()))
        return plots.heatmap(part.rounds, x=x, y=y, metric=runs.metric)
    frames = {name: part.rounds for name, (_, _, part) in grids.items()}
    places = {id(frames[name]): (x, y) for name, (x, y, _) in grids.items()}

    def plot(frame: pd.DataFrame, ax: Axes, **arguments: Any) -> Axes:
        x, y = places[id(frame)]
        return plots.heatmap(frame, ax, x=x, y=y, metric=runs.metric, **arguments)

    unit = " (%)" if is_share(runs.metric) else ""
    note = f"mean final {name_of(runs.metric).lower()}{unit}, best framed; shades per panel"
    return plots.panels(frames, plot, width=options.page, note=note, share="")


def confused(runs: Runs) -> bool:
    """Tell whether the runs count which class is taken for which."""
    return side_of(runs.rounds) is not None


def confusions(runs: Runs, options: Options) -> Axes | list[Axes]:
    """Draw :func:`analysis.plots.confusion`, a panel for each strategy and setting."""
    side = side_of(runs.rounds)
    assert side is not None  # `confused` said so
    more: dict[str, Any] = {"side": side, "names": runs.class_names}
    counted = runs.rounds.dropna(subset=f"{side}_confusion_0_0")
    parts = {
        ", ".join(filter(None, (label, setting))): part[part["label"] == label]
        for setting, part in split(counted, runs.settings).items()
        for label in runs.order(part["label"].unique())
    }
    if len(parts) == 1:
        return plots.confusion(next(iter(parts.values())), **more)
    note = "share of each true class (%), last measured round"
    return plots.panels(parts, plots.confusion, width=options.page, note=note, share="", **more)


ATTACK = ("attack.kind", "attack.fraction")
"""What tells attacked runs from others, in which the fraction is 0."""


def under_attacks(runs: Runs) -> bool:
    """Tell whether several strategies were measured under several attacks, in one setting."""
    if not is_measured(runs) or "attack.kind" not in runs.table:
        return False
    table = runs.table[runs.table["mode"] == "federated"]
    attacked = table[table["attack.kind"].notna()]
    several = attacked["attack.kind"].nunique() > 1 and table["label"].nunique() > 1
    alike = attacked["attack.fraction"].nunique() <= 1
    return bool(several and alike) and len(runs.across(*ATTACK).settings) == 1


def defences(runs: Runs, options: Options) -> Axes:
    """Draw :func:`analysis.plots.defences`."""
    rows = runs.rounds[runs.rounds["mode"] == "federated"]
    return plots.defences(rows, metric=runs.metric, width=options.page)


def round_time(runs: Runs, options: Options) -> Axes | list[Axes]:
    """Draw :func:`analysis.plots.round_time` against what was varied, or per strategy."""
    for column in ("workers", "clients"):
        if varies(column, runs):
            part = runs.across(column)
            if len(part.settings) == 1:
                return plots.round_time(part.rounds, x=column, looks=options.looks)
    column = "busy" if is_known(runs.rounds) else "seconds"
    return each(
        runs, lambda r: slim(r.rounds, column), plots.round_time, options,
        lambda frame: "median, quartiles, 5th to 95th percentile", column=column,
        looks=options.looks,
        share="y", in_rows=True,
    )  # fmt: skip


def timeline(runs: Runs, options: Options) -> Axes | list[Axes]:
    """Draw :func:`analysis.plots.timeline` of the first run that recorded one."""
    frame = runs.timeline
    federated = frame[frame["mode"] == "federated"]  # pooled data keep one worker busy
    return plots.timeline(federated if len(federated) else frame)


def traffic(runs: Runs, options: Options) -> Axes | list[Axes]:
    """Draw :func:`analysis.plots.traffic`."""
    text = "solid: upload, pale: download"

    def senders(part: Runs) -> pd.DataFrame:
        rows = settled(slim(part.rounds, "bytes_up", "bytes_down", "bytes_total"))
        rows = rows[rows["mode"] == "federated"]
        sent = rows.groupby("label", observed=True)["bytes_total"].max()
        return rows[rows["label"].isin(sent.index[sent > 0])]

    return each(
        runs, senders, plots.traffic, options, lambda frame: text,
        looks=options.looks, share="y", in_rows=True,
    )  # fmt: skip


def any_clients(runs: Runs) -> bool:
    """Tell whether a run measured its clients."""
    return not runs.last_clients.empty


def any_labels(runs: Runs) -> bool:
    """Tell whether a run recorded which labels its clients hold."""
    return bool(first_with_labels(runs))


def first_with_labels(runs: Runs) -> list[str]:
    """Return the first run of each setting that recorded which labels its clients hold."""
    having = {
        run
        for run, folder in runs.folders.items()
        if runs.table.at[run, "mode"] != "centralised" and (folder / "labels.parquet").exists()
    }
    firsts = [next((r for r in names if r in having), None) for names in runs.settings.values()]
    return [run for run in firsts if run is not None]
