"""The command ``sunflower``.

Only Typer and Rich are imported here; everything else waits until a command needs it, so that
``sunflower --help`` answers at once.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer
from typer.core import TyperGroup

from simulation.options import overlay, with_options

if TYPE_CHECKING:
    from simulation.experiment import Experiment

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
"""Exit statuses."""


class Commands(TyperGroup):
    """Typer's group, with every misuse told in one line on stderr."""

    def main(self, *args: Any, standalone_mode: bool = True, **more: Any) -> Any:
        """Run the command line."""
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **more)
        try:
            status = super().main(*args, standalone_mode=False, **more)
        except click.ClickException as error:
            _say(_one_line(error.format_message()))
            status = BAD_INPUT
        except click.Abort:
            status = INTERRUPTED
        sys.exit(status if isinstance(status, int) else 0)


main = typer.Typer(
    cls=Commands,
    name="sunflower",
    help="Simulate federated learning with hundreds to thousands of Keras clients on Ray.",
    no_args_is_help=True,
    add_completion=False,
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


File = Annotated[Path | None, typer.Argument(metavar="[EXPERIMENT.toml]", show_default=False)]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The run folder, a new one")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on in --out where it was interrupted")]


@main.command()
@with_options()
def run(given: dict[str, Any], file: File = None, out: Out = None, resume: Resume = False) -> None:
    """Run one experiment: rounds of local training, aggregation and evaluation."""
    with bad_input():
        from simulation.run import free_path

        quiet()
        base = _base(file, out, resume)
        experiment = _parse(overlay(base, given))
        path = out if out is not None else free_path(experiment)
        _check_writable(path)
    again = f"sunflower run --resume --out {shlex.quote(str(path))}"
    with reported(path, again):
        from simulation.run import simulate
        from simulation.screen import Screen

        with Screen() as screen:
            result = simulate(experiment, out=path, resume=resume, listener=screen)
            screen.finish(result)


def _base(file: Path | None, out: Path | None, resume: bool) -> dict[str, Any]:
    """Return what the options are put over: a file, or the run that is to go on, or nothing."""
    from simulation import experiment, results

    if resume and out is None:
        raise ValueError("--resume must come with --out, the run folder to go on in")
    if file is not None:
        return experiment.read(file)
    if resume:
        config = results.read_json(Path(str(out)) / "config.json")
        if config is None:
            raise ValueError(f"resume: {out} holds no run")
        recorded = config.get("experiment")
        return _without_none(recorded) if isinstance(recorded, dict) else {}
    return {}


def _without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in table.items()
        if value is not None
    }


def _parse(data: Mapping[str, Any]) -> Experiment:
    from simulation.experiment import parse

    return parse(data)


def _check_writable(path: Path) -> None:
    """Raise ValueError when the folder could not be made: better now than after the start."""
    import os

    nearest = next(p for p in [path, *path.absolute().parents] if p.exists())
    if not nearest.is_dir() and nearest != path:
        raise ValueError(f"out: {path} cannot be made ({nearest} is not a folder)")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"out: {path} cannot be made ({nearest} is not writable)")


def quiet() -> None:
    """Keep the log lines and warnings of libraries off the screen; they go into run.log."""
    import logging
    import os
    import warnings

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    for name in ("flwr", "py.warnings", "ray"):
        __import__("flwr") if name == "flwr" else None
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False


@contextmanager
def bad_input() -> Iterator[None]:
    """Turn an error of the user's into its message on stderr and exit status 2."""
    try:
        yield
    except ValueError as error:
        _say(str(error))
        raise typer.Exit(BAD_INPUT) from None
    except KeyboardInterrupt:
        _say("interrupted; nothing was started")
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def reported(path: Path, again: str) -> Iterator[None]:
    """Report how a run ended: bad input found late, a failure, or an interruption.

    Args:
        path: the run folder.
        again: the command that goes on with the run.
    """
    from simulation.results import RunError, read_json

    before = (path / "config.json").exists()
    try:
        yield
    except KeyboardInterrupt:
        begun = (path / "config.json").exists()
        _say(f"interrupted; go on with: {again}" if begun else "interrupted before the first round")
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        begun = (path / "config.json").exists() and not before
        ours = isinstance(error, RunError) or type(error).__name__.endswith(("Error",))
        if isinstance(error, ValueError) and ours and not begun:
            _say(str(error))
            raise typer.Exit(BAD_INPUT) from None
        if not (path / "config.json").exists() and not isinstance(error, RuntimeError):
            raise
        _log_failure(path)
        first = (str(error).splitlines() or [type(error).__name__])[0]
        where = f"; see {path / 'run.log'}" if (path / "run.log").exists() else ""
        _say(f"the run failed: {first}{where}")
        if (read_json(path / "config.json") or {}) and (path / "checkpoint").exists():
            _say(f"go on with: {again}")
        raise typer.Exit(FAILED) from None


def _log_failure(path: Path) -> None:
    import logging

    from simulation.run import log_file

    if path.is_dir():
        with log_file(path / "run.log"):
            logging.getLogger("sunflower").exception("the run failed")


def _say(text: str) -> None:
    for line in text.splitlines():
        typer.echo(f"sunflower: {line}", err=True)


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    main()
