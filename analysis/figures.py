"""The registry of figures: a name, one line about it, and how to draw it from a set of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas

from analysis import clock_drawing, dark, drawing, plots
from analysis.appearance import Look
from analysis.cautions import footnote
from analysis.opaque import opaque
from analysis.panelled import Draw, Options
from analysis.plots.base import root, text_size
from analysis.runs import Runs
from analysis.style import Paper, styled
from analysis.text import ALPHA, typeset


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


FORMATS = ("png", "pdf", "svg", "eps")
"""Kinds of files that figures are written as."""

WARNING = "#A00000"
"""The colour of what a reader must not miss."""

OVER_ALPHA = drawing.swept("alpha")
OVER_CLIENTS = drawing.swept("clients")
OVER_ATTACKERS = drawing.swept("attack.fraction")
OVER_STRAGGLERS = drawing.swept("realism.stragglers")

FIGURES: dict[str, Figure] = {
    f.name: f
    for f in (
        Figure(
            "accuracy",
            "test accuracy against rounds, mean and band over seeds",
            drawing.has("server_accuracy"),
            drawing.curves("server_accuracy"),
            "Test accuracy of the global model after each round.",
        ),
        Figure(
            "loss",
            "test loss against rounds, mean and band over seeds",
            drawing.has("server_loss"),
            drawing.curves("server_loss"),
            "Test loss of the global model after each round.",
        ),
        Figure(
            "accuracy_time",
            "test accuracy against the time that workers computed (or of the wall clock)",
            drawing.moves("elapsed", "server_accuracy"),
            drawing.time_curves,
            "Test accuracy against the time of the simulation; a point is the mean over seeds "
            "after a round, at the mean time of that round.",
        ),
        Figure(
            "accuracy_bytes",
            "test accuracy against the bytes sent, up and down",
            drawing.moves("bytes_total", "server_accuracy"),
            drawing.curves("server_accuracy", "bytes_total"),
            "Test accuracy against the data sent by all clients, up and down.",
        ),
        Figure(
            "accuracy_uploads",
            "test accuracy against the bytes that clients sent, where they encode them",
            drawing.encoded,
            drawing.upload_curves,
            "Test accuracy against the data sent by all clients, on a logarithmic axis.",
        ),
        Figure(
            "accuracy_examples",
            "test accuracy against the training examples processed",
            drawing.moves("examples_total", "server_accuracy"),
            drawing.curves("server_accuracy", "examples_total"),
            "Test accuracy against the examples that the clients trained on, every local epoch "
            "counted.",
        ),
        Figure(
            "accuracy_virtual_time",
            "accuracy against virtual time",
            drawing.moves("virtual_seconds"),
            drawing.curves(None, "virtual_seconds"),
            "{Metric} against virtual time, the clock of the simulated devices; a point is the "
            "mean over seeds after a server step, at the mean time of that step.",
        ),
        Figure(
            "accuracy_energy",
            "accuracy against the energy of all clients",
            drawing.moves("energy_joules"),
            drawing.curves(None, "energy_joules"),
            "{Metric} against the energy that all simulated devices had spent.",
        ),
        Figure(
            "virtual_time_to_target",
            "virtual time until an accuracy is reached, or that it was not",
            clock_drawing.has_target,
            clock_drawing.targets,
            "Virtual time until the target {metric} was first reached: median over seeds, lines "
            "from the fastest to the slowest.",
        ),
        Figure(
            "staleness",
            "how many server steps old the models behind used updates were",
            clock_drawing.any_stale,
            clock_drawing.staleness,
            "Staleness of the updates that the server used: how many steps it had made since it "
            "gave out the model. Ticks between bars are the edges of bins that double.",
        ),
        Figure(
            "gantt",
            "which client worked when on the virtual clock (Gantt chart)",
            clock_drawing.any_events,
            clock_drawing.gantts,
            "Who worked when on the virtual clock, from its start, one run of each strategy: of "
            "each tier the clients with the most work in this window. Hatched: not used. Ticks at "
            "the top: server steps.",
        ),
        Figure(
            "participation",
            "which part of the used updates came from each tier of devices",
            clock_drawing.any_events,
            clock_drawing.participation,
            "Share of each tier of devices in the updates that the server used, beside its share "
            "of the clients that were asked at least once.",
        ),
        Figure(
            "tier_accuracy",
            "accuracy of the clients of each tier of devices",
            clock_drawing.tiers_known,
            clock_drawing.tier_accuracy,
            "Mean validation accuracy of the clients of each tier of devices, clients counted "
            "equally.",
        ),
        Figure(
            "client_accuracy",
            "accuracy on the clients' validation data against rounds",
            drawing.has("client_accuracy"),
            drawing.curves("client_accuracy"),
            "Accuracy of the global model on the validation data of the round's clients, "
            "weighted by their examples.",
        ),
        Figure(
            "comparison",
            "final accuracy: federated, local-only and centralised training",
            drawing.is_measured,
            drawing.comparison,
            "Final {metric} of each strategy and baseline.",
        ),
        Figure(
            "alpha",
            "final accuracy against the Dirichlet concentration (log axis)",
            OVER_ALPHA[0],
            OVER_ALPHA[1],
            f"Final {{metric}} against the Dirichlet concentration {ALPHA}; small values mean "
            "heterogeneous clients.",
        ),
        Figure(
            "clients",
            "final accuracy against the number of clients",
            OVER_CLIENTS[0],
            OVER_CLIENTS[1],
            "Final {metric} against the number of clients.",
        ),
        Figure(
            "rounds_to_target",
            "rounds until an accuracy is reached, or that it was not",
            drawing.is_measured,
            drawing.targets("round"),
            "Rounds until the target {metric} was first reached: median over seeds, lines "
            "from the fastest to the slowest.",
        ),
        Figure(
            "labels",
            "label distribution of clients: bubbles for few clients, a heatmap for many",
            drawing.any_labels,
            drawing.labels("auto"),
            "Which labels the clients hold.",
        ),
        Figure(
            "labels_bars",
            "label distribution of clients as stacked bars",
            drawing.any_labels,
            drawing.labels("bars"),
            "Share of each label in the clients' data.",
        ),
        Figure(
            "client_cdf",
            "distribution of the accuracy over clients",
            drawing.any_clients,
            drawing.on_clients(plots.client_cdf, in_rows=False),
            "Share of clients whose validation accuracy is at most x, with the model of the last "
            "measured round.",
        ),
        Figure(
            "client_violin",
            "accuracy over clients as violins with quartiles",
            drawing.any_clients,
            drawing.on_clients(plots.client_violin, "dashes: quartiles; {}"),
            "Distribution of the validation accuracy over clients, with its quartiles.",
        ),
        Figure(
            "worst_clients",
            "mean accuracy of the worst and best 10% of clients",
            drawing.any_clients,
            drawing.on_clients(plots.worst_clients, "worst 10% ◂ mean ▸ best 10%"),
            "Mean validation accuracy over clients (circle), over the worst tenth and the best "
            "tenth of them (triangles), averaged over seeds.",
        ),
        Figure(
            "hyperparameters",
            "final accuracy over two swept options",
            lambda runs: drawing.is_measured(runs) and bool(drawing.option_grids(runs)),
            drawing.heatmaps,
            "Mean final {metric} over two options; the best cell is framed.",
        ),
        Figure(
            "drift",
            "client drift against rounds",
            drawing.has("drift"),
            drawing.curves("drift"),
            "Client drift: root mean square distance of the clients' models, after local training, "
            "from their average.",
        ),
        Figure(
            "update_norm",
            "norm of the aggregated update against rounds",
            drawing.has("update_norm"),
            drawing.curves("update_norm"),
            "Norm of the model's change in each round.",
        ),
        Figure(
            "round_time",
            "time of a round against workers or clients, or per strategy",
            drawing.has("seconds"),
            drawing.round_time,
            "Time of a round.",
        ),
        Figure(
            "timeline",
            "which worker was busy when (Gantt chart)",
            lambda runs: not runs.timeline.empty,
            drawing.timeline,
            "When each worker was busy (pale: evaluation), in the last rounds of a run.",
        ),
        Figure(
            "traffic",
            "bytes sent up and down",
            lambda runs: (
                drawing.moves("bytes_up", "round")(runs)
                or drawing.moves("bytes_down", "round")(runs)
            ),
            drawing.traffic,
            "Data sent in a whole run: upload (solid) and download (pale), mean over seeds.",
        ),
        Figure(
            "attackers",
            "final accuracy against the fraction of attackers",
            OVER_ATTACKERS[0],
            OVER_ATTACKERS[1],
            "Final {metric} against the fraction of clients that attack.",
        ),
        Figure(
            "defences",
            "final accuracy of strategies under attacks",
            drawing.under_attacks,
            drawing.defences,
            "Mean final {metric} of each strategy under each attack; the best on average on top.",
        ),
        Figure(
            "confusion",
            "which class is taken for which",
            drawing.confused,
            drawing.confusions,
            "Share of the examples of each true class that are taken for each class, in the last "
            "measured round, over all seeds.",
        ),
        Figure(
            "stragglers",
            "final accuracy against the fraction of stragglers",
            OVER_STRAGGLERS[0],
            OVER_STRAGGLERS[1],
            "Final {metric} against the fraction of clients that straggle.",
        ),
        Figure(
            "epsilon",
            "test accuracy against the privacy spent",
            drawing.moves("epsilon", "server_accuracy"),
            drawing.curves("server_accuracy", "epsilon"),
            "Test accuracy against the privacy loss spent so far.",
        ),
    )
}


def draw(
    name: str,
    runs: Runs,
    style: str | Paper = "default",
    *,
    table: Mapping[str, Look] | None = None,
    band: str = "ci",
    bars: bool = False,
    target: float | None = None,
    memo: dict[Any, Any] | None = None,
) -> Canvas:
    """Draw the figure called ``name`` from ``runs`` in a venue's style.

    Args:
        name: one of :data:`FIGURES`.
        runs: what to draw; several settings make a grid.
        style: one of :data:`analysis.style.PAPERS`, or a paper of one's own.
        table: the look of each label; made from the runs without.
        band: the kind of band over seeds.
        bars: whether curves have error bars instead of bands.
        target: the test accuracy of ``rounds_to_target``.
        memo: keeps what the same figure of the same runs needs again, on other paper.

    Raises:
        ValueError: there is no such figure, or the runs do not hold what it shows.
    """
    if name not in FIGURES:
        raise ValueError(f"figure: must be one of {sorted(FIGURES)}, got {name!r}")
    figure = FIGURES[name]
    if not figure.applies(runs):
        raise ValueError(f"figure: the runs do not hold what {name!r} shows ({figure.about})")
    table = runs.looks() if table is None else table
    with styled(style) as paper:
        options = Options(table, band, bars, target, paper.page, {} if memo is None else memo)
        drawn = figure.draw(runs, options)
        ax = drawn[0] if isinstance(drawn, list) else drawn
        canvas = root(ax)
        if text := footnote(runs):
            warn_below(canvas, text)
        if paper.dark:
            dark.turn(canvas)
    return canvas


def warn_below(canvas: Canvas, text: str) -> None:
    """Write under a figure what its curves do not show, in as many lines as it takes."""
    size = text_size("legend.fontsize")
    letters = max(20, int(canvas.get_figwidth() * 72 / (0.52 * size)))
    lines = wrap(typeset(text), letters, break_long_words=False)
    canvas.set_figheight(canvas.get_figheight() + len(lines) * 1.3 * size / 72)
    canvas.supxlabel("\n".join(lines), fontsize=size, color=WARNING, x=0.01, ha="left")


def lay_out(figure: Canvas) -> None:
    """Place what a figure holds, once for all files that it is written to."""
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


def save(
    figure: Canvas,
    stem: Path,
    formats: Iterable[str] = ("png", "pdf"),
    style: str | Paper = "default",
) -> list[Path]:
    """Write a figure in each format and close it; the same figure gives the same bytes.

    Args:
        figure: what :func:`draw` returned.
        stem: the file without its extension.
        formats: ``png``, ``pdf``, ``svg``, ``eps`` or what else Matplotlib writes.
        style: the venue it was drawn for.
    """
    paths = []
    with styled(style) as paper:
        if paper.dark:
            dark.turn(figure)
        lay_out(figure)
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
                with opaque(figure):
                    figure.savefig(path)
            paths.append(path)
    plt.close(figure)
    return paths
