"""The command ``sunflower``.

Only Typer and Rich are imported here; everything else waits until a command needs it, so that
``sunflower --help`` answers at once.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import click
import typer
from click.exceptions import NoArgsIsHelpError
from typer.core import TyperGroup

from simulation.cli.endings import (
    BAD_INPUT,
    FAILED,
    INTERRUPTED,
    LOST,
    bad_input,
    endings,
    leave,
    quiet,
    say,
)
from simulation.cli.export import export
from simulation.cli.options import with_options
from simulation.cli.report import plot, report
from simulation.cli.thin import thin
from simulation.cli.verify import verify
from simulation.config.overlay import overlay


class Commands(TyperGroup):
    """Typer's group, with every misuse told in one line on stderr."""

    def main(self, *args: Any, **more: Any) -> Any:
        """Run the command line."""
        standalone = more.get("standalone_mode", True)
        more["standalone_mode"] = False
        if not standalone:
            return super().main(*args, **more)
        status: Any = BAD_INPUT
        try:
            status = super().main(*args, **more)
        except NoArgsIsHelpError as error:
            error.show()
        except click.ClickException as error:
            say(error.format_message())
        except click.Abort:
            status = INTERRUPTED
        leave(status if isinstance(status, int) else 0)


main = typer.Typer(
    cls=Commands,
    name="sunflower",
    help="Simulate federated learning with hundreds to thousands of Keras clients on Ray.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from simulation.version import __version__

        typer.echo(f"sunflower {__version__}")
        raise typer.Exit


@main.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version")
    ] = False,
) -> None:
    pass


def _file(metavar: str) -> Any:
    return typer.Argument(metavar=metavar, show_default=False, help="Options go over it")


@main.command()
@with_options()
def run(
    given: dict[str, Any],
    file: Annotated[Path | None, _file("[EXPERIMENT.toml]")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The run folder, a new one")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on in --out after the last whole round")
    ] = False,
    app: Annotated[
        Path | None,
        typer.Option("--app", metavar="DIR", help="A Flower app, run as it is on our workers"),
    ] = None,
    run_config: Annotated[
        list[str] | None,
        typer.Option(
            "--run-config", "-c", metavar="K=V", help="The app's settings, as in flwr run"
        ),
    ] = None,
) -> None:
    """Run one experiment: rounds of local training, aggregation and evaluation."""
    if app is not None:
        from simulation.cli.app import run_command

        given = {**given, "app": app, **({"run_config": run_config} if run_config else {})}
        return _tell_lost(run_command(given, file, out, resume))
    if run_config:
        raise click.UsageError("--run-config must come with --app")
    with bad_input():
        from simulation.config.experiment import parse
        from simulation.records.run_folder import folder_name, free_path

        quiet()
        experiment = parse(overlay(_base(file, out, resume), given))
        path = out if out is not None else free_path(folder_name(experiment))
        from simulation.listeners.terminal import Screen
        from simulation.runs.run import simulate

        screen = Screen()
        again = f"sunflower run --resume --out {shlex.quote(str(path))}"
        with endings(path, again, lambda: screen.begun), screen:
            result = simulate(experiment, out=path, resume=resume, listener=screen)
        screen.finish(result.path, result.summary)
    _tell_lost({path: result.summary})


def _tell_lost(summaries: Mapping[Path, Mapping[str, Any]]) -> None:
    lost = {path: n for path, summary in summaries.items() if (n := summary.get("clients_lost"))}
    for path, number in lost.items():
        what = "1 client result was" if number == 1 else f"{number} client results were"
        say(f"{what} lost on the way; see {path / 'lost.jsonl'}")
    if lost:
        raise typer.Exit(LOST)


def _base(file: Path | None, out: Path | None, resume: bool) -> dict[str, Any]:
    """Return what the options are put over: a file, or the run that is to go on, or nothing."""
    from simulation.config import experiment
    from simulation.records import reading

    if resume and out is None:
        raise ValueError("--resume must come with --out, the run folder to go on in")
    if file is not None:
        return experiment.read(file)
    if not resume:
        return {}
    config = reading.read_json(Path(str(out)) / "config.json")
    recorded = None if config is None else config.get("experiment")
    if not isinstance(recorded, dict):
        raise ValueError(f"resume: {out} holds no run")
    return reading.without_none(recorded)


SEEDS = typer.Option("--seeds", metavar="N,N,N", help="A run of each for every seed")

NAMES = typer.Option("--strategies", metavar="A,B,C", help="Strategies to compare")

OUT = typer.Option("--out", metavar="DIR", help="The study's folder")

AT_ONCE = typer.Option("--at-once", min=1, metavar="N", help="Runs that share the pool")

DRY = typer.Option("--dry-run", help="Print the plan and start nothing")


@main.command()
@with_options("--strategy", "--seed")
def compare(
    given: dict[str, Any],
    file: Annotated[Path | None, _file("[STUDY.toml]")] = None,
    strategies: Annotated[str | None, NAMES] = None,
    seeds: Annotated[str | None, SEEDS] = None,
    centralised: Annotated[
        bool | None, typer.Option(help="Train on the pooled data too", show_default=False)
    ] = None,
    out: Annotated[Path | None, OUT] = None,
    at_once: Annotated[int | None, AT_ONCE] = None,
    dry_run: Annotated[bool, DRY] = False,
    untuned: Annotated[
        bool, typer.Option("--untuned", help="Leave the choice of 'sunflower tune' aside")
    ] = False,
) -> None:
    """Run strategies x sweep x seeds, a run folder each; complete runs are skipped."""
    with bad_input():
        from simulation.cli.study import Asked, compare_command
    asked = Asked(given, file, strategies, seeds, centralised, out, at_once, dry_run)
    summaries = compare_command(asked, untuned)
    if summaries is None:
        raise typer.Exit(FAILED)
    _tell_lost(summaries)


@main.command()
@with_options("--strategy", "--seed", "--learning-rate")
def tune(
    given: dict[str, Any],
    file: Annotated[Path | None, _file("STUDY.toml")] = None,
    strategies: Annotated[str | None, NAMES] = None,
    out: Annotated[Path | None, OUT] = None,
    at_once: Annotated[int | None, AT_ONCE] = None,
    dry_run: Annotated[bool, DRY] = False,
) -> None:
    """Choose learning rates for a study by a grid, on the clients' validation data."""
    with bad_input():
        from simulation.cli.study import Asked, tune_command
    asked = Asked(given, file, strategies, out=out, at_once=at_once, dry_run=dry_run)
    if not tune_command(asked):
        raise typer.Exit(FAILED)


main.command()(report)


main.command()(plot)


main.command()(verify)


main.command()(export)


main.command()(thin)


@main.command()
def strategies() -> None:
    """List the aggregation strategies, their options and where they come from."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from strategies import catalog

    table = Table("Name", "Update rule, and the options with their defaults", "Source")
    for name in catalog.names():
        entry = catalog.entry(name)
        options = ", ".join(f"{key} = {value}" for key, value in entry.options.items())
        what = Text.assemble(entry.rule, "\n", (options, "dim"))
        paper = entry.citation
        source = f"{str(paper).partition(').')[0]})\narXiv:{paper.arxiv}" if paper else "plug-in"
        table.add_row(name, what, source)
    Console(highlight=False).print(table)


@main.command()
def datasets() -> None:
    """List the built-in datasets."""
    from rich.console import Console
    from rich.table import Table

    from simulation.datasets.registry import names

    table = Table("Name", "What it is")
    for row in [
        *names(),
        ("module:function", "Your own arrays: (x, y), (x_test, y_test)"),
        (
            "a path",
            "A .parquet, .csv, .npz or LEAF .json file, or a folder: .npz of clients, pictures",
        ),
        ("hf:NAME", "A Hugging Face dataset, or hf:FOLDER with a copy (extra hf)"),
    ]:
        table.add_row(*row)
    Console(highlight=False).print(table)


@main.command()
def doctor() -> None:
    """Check whether this machine has all that is needed, and say how to mend what is missing."""
    from simulation.cli import doctor as surgery

    quiet()
    if not surgery.show():
        raise typer.Exit(FAILED)
