"""The commands ``sunflower report`` and ``sunflower plot``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

STYLE = Annotated[
    str, typer.Option("--style", metavar="VENUE", help="neurips, icml, ieee and the like")
]

BAND = Annotated[
    str, typer.Option("--band", metavar="KIND", help="Over seeds: ci, se, sd or minmax")
]

BARS = Annotated[bool, typer.Option("--bars", help="Error bars instead of bands")]

TARGET = Annotated[
    float | None,
    typer.Option("--target", metavar="ACC", help="Accuracy of rounds to target, as 0.8"),
]

METRIC = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="NAME",
        help="What strategies are compared by, as client_accuracy; by default the test accuracy, "
        "or the clients' where a strategy keeps layers on them",
    ),
]


FORMATS = Annotated[
    str, typer.Option("--format", metavar="A,B", help="Of figures' files: png, pdf, svg, eps")
]

NAMES = Annotated[
    Path | None,
    typer.Option(
        "--names",
        metavar="FILE",
        help="Labels, order and colours of strategies, titles of settings; RUNS/figures.toml",
    ),
]


def listed(text: str) -> tuple[str, ...]:
    """Return what is listed with commas, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Run or study folders")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where to; RUNS/report for one folder"),
    ] = None,
    style: STYLE = "default",
    band: BAND = "ci",
    bars: BARS = False,
    target: TARGET = None,
    test: Annotated[
        str, typer.Option("--test", metavar="NAME", help="Paired, over seeds: t or wilcoxon")
    ] = "t",
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar="LABEL", help="What speed-ups are measured against"),
    ] = None,
    metric: METRIC = None,
    formats: FORMATS = "png,pdf",
    names: NAMES = None,
    bold: Annotated[
        str,
        typer.Option(
            "--bold", metavar="RULE", help="The best and its ties, or the best: ties, best"
        ),
    ] = "ties",
) -> None:
    """Draw the figures and tables of runs, and a page that holds them all."""
    from simulation.cli.endings import bad_input, quiet

    with bad_input():
        import analysis

        quiet()
        folder = out or (runs[0] / "report" if len(runs) == 1 else Path("report"))
        more: Any = {
            "band": band,
            "bars": bars,
            "target": target,
            "test": test,
            "baseline": baseline,
        }
        more |= {"metric": metric, "names": names, "bold": bold}
        more["formats"] = listed(formats)
        with shown() as progress:
            files = analysis.report(list(runs), folder, style, **more, progress=progress)
        for path in files:
            typer.echo(path)


@contextmanager
def shown() -> Iterator[Callable[[str, int, int], None]]:
    """Show on a terminal what is being done, and leave nothing of it there."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True,
        disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task("", total=None)

        def tell(what: str, done: int, of: int) -> None:
            # what has no parts has a bar that moves
            bar.update(task, description=what, completed=done, total=of if of > 1 else None)

        yield tell


def plot(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The figure; without it, list them")
    ] = None,
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUNS...]", help="Run or study folders")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="The folder to write to")
    ] = Path("figures"),
    style: STYLE = "default",
    band: BAND = "ci",
    bars: BARS = False,
    target: TARGET = None,
    setting: Annotated[
        str | None, typer.Option("--setting", metavar="TEXT", help="One panel alone, by its title")
    ] = None,
    metric: METRIC = None,
    formats: FORMATS = "png,pdf",
    names: NAMES = None,
) -> None:
    """Draw one figure of runs; without a name, list the figures."""
    from simulation.cli.endings import bad_input, quiet

    with bad_input():
        import analysis

        quiet()
        if name is None:
            from rich.console import Console
            from rich.table import Table

            table = Table("Name", "What it shows")
            for key, figure in analysis.FIGURES.items():
                table.add_row(key, figure.about)
            Console(highlight=False).print(table)
            return
        if not runs:
            raise ValueError("runs must name at least one run folder, got none")
        more: Any = {
            "band": band,
            "bars": bars,
            "target": target,
            "setting": setting,
            "metric": metric,
        }
        more |= {"names": names, "formats": listed(formats)}
        for path in analysis.plot(name, list(runs), out, style, **more):
            typer.echo(path)
