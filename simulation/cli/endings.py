"""How a command ends: exit codes, one line for each problem, no traceback."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer

BAD_INPUT, FAILED, LOST, INTERRUPTED, TERMINATED = 2, 1, 3, 130, 143
"""Exit statuses. LOST: the run went to its end, but some clients failed and were left out."""


def quiet() -> None:
    """Keep the log lines and warnings of libraries off the screen; a run has them in run.log."""
    from simulation.flower import private

    private.logger()  # Flower gives it a handler first, which is taken away here.
    logging.captureWarnings(True)
    for name in ("flwr", "py.warnings", "ray"):
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False


@contextmanager
def bad_input() -> Iterator[None]:
    """Turn an error of the user's into its text on stderr and exit status 2."""
    from simulation.config.errors import ConfigError

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
        from simulation.engines.calls import AgentLost, ClusterLost
        from simulation.runs.summary import status_of

        lost = isinstance(error, AgentLost | ClusterLost) and begun() and again
        where = "on a cluster that is there, " if isinstance(error, ClusterLost) else ""
        say(
            f"the run {status_of(error)}: {first_line(error)}"
            + (f"; see {log}" if log.exists() else "")
            + (f"; {where}go on with: {again}" if lost else "")
        )
        raise typer.Exit(FAILED) from None


def leave(status: int) -> NoReturn:
    """End the process: at once where a lost cluster would keep Ray, and with it us, waiting."""
    ray_side = sys.modules.get("simulation.engines.ray.cluster")
    if ray_side is not None and ray_side.LEFT_BEHIND.is_set():
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _status(stop: KeyboardInterrupt) -> int:
    from simulation.runs.signals import Terminated

    return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED


def first_line(error: Exception) -> str:
    """Return an error's first line, or its kind where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def say(text: str) -> None:
    """Print one line on stderr."""
    typer.echo(f"sunflower: {' '.join(text.split())}", err=True)
