"""The command ``sunflower``.

Only Typer and Rich are imported here; everything else waits until a command needs it, so that
``sunflower --help`` answers at once.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import click
import typer
from click.exceptions import NoArgsIsHelpError
from typer.core import TyperGroup

from simulation.options import overlay, with_options
from simulation.reporting import plot, report

BAD_INPUT, FAILED, LOST, INTERRUPTED, TERMINATED = 2, 1, 3, 130, 143
"""Exit statuses. LOST: the run went to its end, but some clients failed and were left out."""


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
        sys.exit(status if isinstance(status, int) else 0)


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
        from simulation.app_command import run_command

        given = {**given, "app": app, **({"run_config": run_config} if run_config else {})}
        return _tell_lost(run_command(given, file, out, resume))
    if run_config:
        raise click.UsageError("--run-config must come with --app")
    with bad_input():
        from simulation.experiment import parse
        from simulation.run import free_path

        quiet()
        experiment = parse(overlay(_base(file, out, resume), given))
        path = out if out is not None else free_path(experiment)
        from simulation.run import simulate
        from simulation.screen import Screen

        screen = Screen()
        again = f"sunflower run --resume --out {shlex.quote(str(path))}"
        with endings(path, again, lambda: screen.begun), screen:
            result = simulate(experiment, out=path, resume=resume, listener=screen)
        screen.finish(result)
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
    from simulation import experiment, results

    if resume and out is None:
        raise ValueError("--resume must come with --out, the run folder to go on in")
    if file is not None:
        return experiment.read(file)
    if not resume:
        return {}
    config = results.read_json(Path(str(out)) / "config.json")
    recorded = None if config is None else config.get("experiment")
    if not isinstance(recorded, dict):
        raise ValueError(f"resume: {out} holds no run")
    return _without_none(recorded)


def _without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in table.items()
        if value is not None
    }


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
        from simulation.study_command import Asked, compare_command
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
        from simulation.study_command import Asked, tune_command
    asked = Asked(given, file, strategies, out=out, at_once=at_once, dry_run=dry_run)
    if not tune_command(asked):
        raise typer.Exit(FAILED)


main.command()(report)
main.command()(plot)


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

    from simulation.datasets import names

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
    from simulation import doctor as surgery

    quiet()
    if not surgery.show():
        raise typer.Exit(FAILED)


def quiet() -> None:
    """Keep the log lines and warnings of libraries off the screen; a run has them in run.log."""
    import logging

    import flwr.common.logger  # noqa: F401  (it sets up a handler, which is taken away here)

    logging.captureWarnings(True)
    for name in ("flwr", "py.warnings", "ray"):
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False


@contextmanager
def bad_input() -> Iterator[None]:
    """Turn an error of the user's into its text on stderr and exit status 2."""
    from simulation.experiment import ConfigError

    try:
        yield
    except ConfigError as error:
        for line in str(error).splitlines():
            say(line)
        raise typer.Exit(BAD_INPUT) from None
    except ValueError as error:
        say(str(error))
        raise typer.Exit(BAD_INPUT) from None
    except KeyboardInterrupt as stop:
        say("interrupted before the first round")
        raise typer.Exit(_status(stop)) from None


@contextmanager
def endings(path: Path, again: str, begun: Callable[[], bool]) -> Iterator[None]:
    """Report how a run ended that did not go to its end. What is found before it begins passes.

    Args:
        path: the run folder.
        again: the command that goes on with it.
        begun: tells whether the rounds have begun.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        if not begun():
            raise
        say(f"interrupted; go on with: {again}" if again else "interrupted")
        raise typer.Exit(_status(stop)) from None
    except Exception as error:
        if not begun() and not isinstance(error, RuntimeError):
            raise
        log = path / "run.log"
        from simulation.bookkeeping import status_of

        say(
            f"the run {status_of(error)}: {first_line(error)}"
            + (f"; see {log}" if log.exists() else "")
        )
        raise typer.Exit(FAILED) from None


def _status(stop: KeyboardInterrupt) -> int:
    from simulation.lock import Terminated

    return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED


def first_line(error: Exception) -> str:
    """Return an error's first line, or its kind where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def say(text: str) -> None:
    """Print one line on stderr."""
    typer.echo(f"sunflower: {' '.join(text.split())}", err=True)


if __name__ == "__main__":
    main()
