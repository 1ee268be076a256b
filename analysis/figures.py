"""The registry of figures: a name, one line about it, and how to draw it from a set of runs.

A figure of one setting is drawn once; where the runs hold several settings it becomes a grid
with one panel per setting and a shared legend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas

from analysis import plots
from analysis.plots.base import band_text
from analysis.plots.clients import pooled_text
from analysis.plots.curves import rings_text
from analysis.plots.labels import BUBBLES_UP_TO, color_bar
from analysis.plots.targets import target_text
from analysis.runs import Runs
from analysis.style import Look, looks, order, styled
from analysis.summarise import curve, default_target
from analysis.text import ALPHA


@dataclass(frozen=True)
class Options:
    """What all figures of a report have in common.

    Args:
        looks: the look of each label.
        band: the kind of band over seeds, see :data:`analysis.summarise.BANDS`.
        target: the test accuracy that ``rounds_to_target`` is about; chosen without.
        page: the width of a figure across the page [in].
    """

    looks: Mapping[str, Look] = field(default_factory=dict)
    band: str = "ci"
    target: float | None = None
    page: float = 6.75


Draw = Callable[[Runs, Options], "Axes | list[Axes]"]


@dataclass(frozen=True)
class Figure:
    """A figure that can be drawn from runs.

    Args:
        name: on the command line and in file names.
        about: one line.
        applies: whether the runs hold what it shows.
        draw: draws it.
        caption: what it shows, for the page and as the image's alternative text.
    """

    name: str
    about: str
    applies: Callable[[Runs], bool]
    draw: Draw
    caption: str


def has(*columns: str) -> Callable[[Runs], bool]:
    """Return a test: do the runs' rounds hold a value in each of ``columns``?"""

    def applies(runs: Runs) -> bool:
        return all(c in runs.rounds and bool(runs.rounds[c].notna().any()) for c in columns)

    return applies


def moves(column: str, metric: str) -> Callable[[Runs], bool]:
    """Return a test: does ``column`` rise above zero in rounds that measured ``metric``?"""

    def applies(runs: Runs) -> bool:
        return has(column, metric)(runs) and bool((runs.rounds[column] > 0).any())

    return applies


def varies(column: str, runs: Runs) -> bool:
    """Tell whether ``column`` is a number that differs between the runs that are not pooled."""
    if column not in runs.table:
        return False
    values = runs.table.loc[runs.table["mode"] != "centralised", column].dropna()
    return bool(pd.api.types.is_numeric_dtype(values)) and values.nunique() > 1


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
    frame = frame_of(runs)
    parts = {
        setting: frame[frame["run"].isin(members)].assign(setting=setting)
        for setting, members in runs.settings.items()
    }
    parts = {setting: part for setting, part in parts.items() if len(part)}
    if len(parts) <= 1:
        return plot(next(iter(parts.values())), **arguments)
    whole = pd.concat(parts.values(), ignore_index=True)
    if in_rows:  # the panels share their rows: each must have the same, in the same order
        arguments["rows"] = order(whole["label"].unique())
    return plots.panels(parts, plot, width=options.page, note=note(whole), share=share, **arguments)


def curves(metric: str, x: str = "round") -> Draw:
    """Return a drawing function of :func:`analysis.plots.curves`."""

    def draw(runs: Runs, options: Options) -> Axes | list[Axes]:
        def drawable(part: Runs) -> pd.DataFrame:
            rows = part.rounds
            moving = rows[metric].notna().groupby(rows["label"], observed=True).transform("any")
            reach = rows[x].groupby(rows["label"], observed=True).transform("max")
            return rows[moving & (reach > 0)]

        def note(frame: pd.DataFrame) -> str:
            data = curve(frame, metric, by=("setting", "label"), band=options.band)
            return band_text(options.band, data["n"])

        return each(
            runs, drawable, plots.curves, options, note, metric=metric, x=x, band=options.band,
            looks=options.looks,
        )  # fmt: skip

    return draw


def comparison(runs: Runs, options: Options) -> Axes | list[Axes]:
    """Draw :func:`analysis.plots.comparison`."""

    def note(frame: pd.DataFrame) -> str:
        seeds = frame.groupby(["setting", "label"], observed=True)["seed"].nunique()
        return rings_text(options.band, seeds)

    return each(
        runs, lambda r: r.rounds, plots.comparison, options, note, band=options.band,
        looks=options.looks, share="xy", in_rows=True,
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
            return "areas: examples, per panel" if few and kind == "auto" else None

        # one run a setting is drawn: reading the labels of all would take longer than drawing
        having = [r for r, folder in runs.folders.items() if (folder / "labels.parquet").exists()]
        firsts = [next((r for r in names if r in having), None) for names in runs.settings.values()]
        some = runs.only([r for r in firsts if r is not None])
        drawn = each(some, lambda r: r.labels, plots.labels, options, note, kind=kind, share="")
        if isinstance(drawn, list) and (images := [ax.images[0] for ax in drawn if ax.images]):
            color_bar(images[0], drawn)
        return drawn

    return draw


def targets(cost: str) -> Draw:
    """Return a drawing function of :func:`analysis.plots.to_target_bars`."""

    def draw(runs: Runs, options: Options) -> Axes | list[Axes]:
        target = default_target(runs.rounds) if options.target is None else options.target

        def note(frame: pd.DataFrame) -> str:
            return f"{target_text(target, 'server_accuracy')}; median and range over seeds"

        return each(
            runs, lambda r: r.rounds, plots.to_target_bars, options, note, target=target,
            cost=cost, looks=options.looks, share="xy", in_rows=True,
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
            part, lambda r: r.rounds, plots.sweep, options, note, x=column,
            band=options.band, looks=options.looks,
        )  # fmt: skip

    return lambda runs: find(runs) is not None, draw


def epsilon(runs: Runs, options: Options) -> Axes | list[Axes]:
    """Draw the test accuracy against the privacy spent so far."""
    return curves("server_accuracy", "epsilon")(runs, options)


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
        return plots.heatmap(part.rounds, x=x, y=y)
    frames = {name: part.rounds for name, (_, _, part) in grids.items()}
    places = {id(frames[name]): (x, y) for name, (x, y, _) in grids.items()}

    def plot(frame: pd.DataFrame, ax: Axes, **arguments: Any) -> Axes:
        x, y = places[id(frame)]
        return plots.heatmap(frame, ax, x=x, y=y, **arguments)

    note = "mean final test accuracy (%), best framed; shades per panel"
    return plots.panels(frames, plot, width=options.page, note=note, share="")


def round_time(runs: Runs, options: Options) -> Axes | list[Axes]:
    """Draw :func:`analysis.plots.round_time` against what was varied, or per strategy."""
    for column in ("workers", "clients"):
        if varies(column, runs):
            part = runs.across(column)
            if len(part.settings) == 1:
                return plots.round_time(part.rounds, x=column, looks=options.looks)
    return each(
        runs, lambda r: r.rounds, plots.round_time, options,
        lambda frame: "median, quartiles, 5th to 95th percentile", looks=options.looks,
        share="y", in_rows=True,
    )  # fmt: skip


def timeline(runs: Runs, options: Options) -> Axes | list[Axes]:
    """Draw :func:`analysis.plots.timeline` of the first run that recorded one."""
    return plots.timeline(runs.timeline)


def traffic(runs: Runs, options: Options) -> Axes | list[Axes]:
    """Draw :func:`analysis.plots.traffic`."""
    text = "solid: upload, pale: download"

    def senders(part: Runs) -> pd.DataFrame:
        sent = part.rounds.groupby("label", observed=True)["bytes_total"].max()
        return part.rounds[part.rounds["label"].isin(sent.index[sent > 0])]

    return each(
        runs, senders, plots.traffic, options, lambda frame: text,
        looks=options.looks, share="y", in_rows=True,
    )  # fmt: skip


def any_clients(runs: Runs) -> bool:
    """Tell whether a run measured its clients."""
    return not runs.last_clients.empty


def any_labels(runs: Runs) -> bool:
    """Tell whether a run recorded which labels its clients hold."""
    return any((folder / "labels.parquet").exists() for folder in runs.folders.values())


OVER_ALPHA = swept("alpha")
OVER_CLIENTS = swept("clients")
OVER_ATTACKERS = swept("attack.fraction", "attackers", "attack_fraction", "byzantine")
OVER_STRAGGLERS = swept("stragglers", "stragglers.fraction", "straggler_fraction")

FIGURES: dict[str, Figure] = {
    f.name: f
    for f in (
        Figure(
            "accuracy",
            "test accuracy against rounds, mean and band over seeds",
            has("server_accuracy"),
            curves("server_accuracy"),
            "Test accuracy of the global model after each round.",
        ),
        Figure(
            "loss",
            "test loss against rounds, mean and band over seeds",
            has("server_loss"),
            curves("server_loss"),
            "Test loss of the global model after each round.",
        ),
        Figure(
            "accuracy_time",
            "test accuracy against wall-clock time",
            moves("elapsed", "server_accuracy"),
            curves("server_accuracy", "elapsed"),
            "Test accuracy against wall-clock time of the simulation; a point is the mean over "
            "seeds after a round, at the mean time of that round.",
        ),
        Figure(
            "accuracy_bytes",
            "test accuracy against the bytes sent, up and down",
            moves("bytes_total", "server_accuracy"),
            curves("server_accuracy", "bytes_total"),
            "Test accuracy against the data sent by all clients, up and down.",
        ),
        Figure(
            "accuracy_examples",
            "test accuracy against the training examples processed",
            moves("examples_total", "server_accuracy"),
            curves("server_accuracy", "examples_total"),
            "Test accuracy against the examples of the clients that took part, summed over rounds.",
        ),
        Figure(
            "client_accuracy",
            "accuracy on the clients' validation data against rounds",
            has("client_accuracy"),
            curves("client_accuracy"),
            "Accuracy of the global model on the validation data of the round's clients, "
            "weighted by their examples.",
        ),
        Figure(
            "comparison",
            "final test accuracy: federated, local-only and centralised training",
            has("server_accuracy"),
            comparison,
            "Final test accuracy of each strategy and baseline; the dashed line is centralised "
            "training.",
        ),
        Figure(
            "alpha",
            "final test accuracy against the Dirichlet concentration (log axis)",
            OVER_ALPHA[0],
            OVER_ALPHA[1],
            f"Final test accuracy against the Dirichlet concentration {ALPHA}; small values mean "
            "heterogeneous clients.",
        ),
        Figure(
            "clients",
            "final test accuracy against the number of clients",
            OVER_CLIENTS[0],
            OVER_CLIENTS[1],
            "Final test accuracy against the number of clients.",
        ),
        Figure(
            "rounds_to_target",
            "rounds until a test accuracy is reached, or that it was not",
            has("server_accuracy"),
            targets("round"),
            "Rounds until the target test accuracy was first reached: median over seeds, lines "
            "from the fastest to the slowest.",
        ),
        Figure(
            "labels",
            "label distribution of clients: bubbles for few clients, a heatmap for many",
            any_labels,
            labels("auto"),
            "Which labels the clients hold (the first run of a setting).",
        ),
        Figure(
            "labels_bars",
            "label distribution of clients as stacked bars",
            any_labels,
            labels("bars"),
            "Share of each label in the clients' data (the first run of a setting).",
        ),
        Figure(
            "client_cdf",
            "distribution of the accuracy over clients",
            any_clients,
            on_clients(plots.client_cdf, in_rows=False),
            "Share of clients whose validation accuracy is at most x, with the model of the last "
            "measured round.",
        ),
        Figure(
            "client_violin",
            "accuracy over clients as violins with quartiles",
            any_clients,
            on_clients(plots.client_violin, "dashes: quartiles; {}"),
            "Distribution of the validation accuracy over clients, with its quartiles.",
        ),
        Figure(
            "worst_clients",
            "mean accuracy of the worst and best 10% of clients",
            any_clients,
            on_clients(plots.worst_clients, "worst 10% ◂ mean ▸ best 10%"),
            "Mean validation accuracy over clients (circle), over the worst tenth and the best "
            "tenth of them (triangles), averaged over seeds.",
        ),
        Figure(
            "hyperparameters",
            "final test accuracy over two swept options",
            lambda runs: has("server_accuracy")(runs) and bool(option_grids(runs)),
            heatmaps,
            "Mean final test accuracy over two options; the best cell is framed.",
        ),
        Figure(
            "drift",
            "client drift against rounds",
            has("drift"),
            curves("drift"),
            "Client drift: mean distance of the clients' models from their average.",
        ),
        Figure(
            "update_norm",
            "norm of the aggregated update against rounds",
            has("update_norm"),
            curves("update_norm"),
            "Norm of the model's change in each round.",
        ),
        Figure(
            "round_time",
            "time of a round against workers or clients, or per strategy",
            has("seconds"),
            round_time,
            "Time of a round.",
        ),
        Figure(
            "timeline",
            "which worker was busy when (Gantt chart)",
            lambda runs: not runs.timeline.empty,
            timeline,
            "When each worker trained, in the last rounds of the first run that recorded it.",
        ),
        Figure(
            "traffic",
            "bytes sent up and down",
            lambda runs: moves("bytes_up", "round")(runs) or moves("bytes_down", "round")(runs),
            traffic,
            "Data sent in a whole run: upload (solid) and download (pale), mean over seeds.",
        ),
        Figure(
            "attackers",
            "final test accuracy against the fraction of attackers",
            OVER_ATTACKERS[0],
            OVER_ATTACKERS[1],
            "Final test accuracy against the fraction of clients that attack.",
        ),
        Figure(
            "stragglers",
            "final test accuracy against the fraction of stragglers",
            OVER_STRAGGLERS[0],
            OVER_STRAGGLERS[1],
            "Final test accuracy against the fraction of clients that straggle.",
        ),
        Figure(
            "epsilon",
            "test accuracy against the privacy spent",
            moves("epsilon", "server_accuracy"),
            epsilon,
            "Test accuracy against the privacy loss spent so far.",
        ),
    )
}


def draw(
    name: str,
    runs: Runs,
    style: str = "default",
    *,
    table: Mapping[str, Look] | None = None,
    band: str = "ci",
    target: float | None = None,
) -> Canvas:
    """Draw the figure called ``name`` from ``runs`` in a venue's style.

    Args:
        name: one of :data:`FIGURES`.
        runs: what to draw; several settings make a grid.
        style: one of :data:`analysis.style.PAPERS`.
        table: the look of each label; made from the runs without.
        band: the kind of band over seeds.
        target: the test accuracy of ``rounds_to_target``.

    Raises:
        ValueError: there is no such figure, or the runs do not hold what it shows.
    """
    if name not in FIGURES:
        raise ValueError(f"figure: must be one of {sorted(FIGURES)}, got {name!r}")
    figure = FIGURES[name]
    if not figure.applies(runs):
        raise ValueError(f"figure: the runs do not hold what {name!r} shows ({figure.about})")
    table = looks(runs.table["label"]) if table is None else table
    with styled(style) as paper:
        drawn = figure.draw(runs, Options(table, band, target, paper.page))
    ax = drawn[0] if isinstance(drawn, list) else drawn
    canvas = ax.get_figure(root=True)
    assert canvas is not None
    return canvas


def save(
    figure: Canvas, stem: Path, formats: Iterable[str] = ("png", "pdf"), style: str = "default"
) -> list[Path]:
    """Write a figure in each format and close it; the same figure gives the same bytes.

    Args:
        figure: what :func:`draw` returned.
        stem: the file without its extension.
        formats: ``png``, ``pdf``, ``svg``, ``eps`` or what else Matplotlib writes.
        style: the venue it was drawn for.
    """
    paths = []
    with styled(style):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # the layout is done: saving need not do it again
        for kind in formats:
            path = stem.with_name(f"{stem.name}.{kind}")
            if kind == "pdf":  # print_* directly: savefig would draw everything twice
                FigureCanvasPdf(figure).print_pdf(path, metadata={"CreationDate": None})
            elif kind == "svg":
                FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})
            elif kind == "png":
                figure.set_dpi(plt.rcParams["savefig.dpi"])
                FigureCanvasAgg(figure).print_png(path, pil_kwargs={"compress_level": 4})
            else:
                figure.savefig(path)
            paths.append(path)
    plt.close(figure)
    return paths
