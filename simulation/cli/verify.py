"""The command ``sunflower verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RUN = typer.Argument(metavar="RUN", show_default=False, help="The run folder; it stays as it is")

ROUNDS = typer.Option(
    "--rounds", min=0, metavar="N", help="First rounds to train again; as many as took a minute"
)

TOLERANCE = typer.Option(
    "--tolerance",
    min=0,
    metavar="PART",
    help="By which part numbers may differ: 0 with the same versions, else 0.01",
)

DATA = typer.Option("--data-dir", metavar="DIR", help="Where the data is, if not where it was")


def verify(
    run: Annotated[Path, RUN],
    rounds: Annotated[int | None, ROUNDS] = None,
    tolerance: Annotated[float | None, TOLERANCE] = None,
    data_dir: Annotated[Path | None, DATA] = None,
) -> None:
    """Train some rounds of a run again, and compare them with what it recorded."""
    from simulation.cli.endings import FAILED, bad_input, endings, quiet, say

    with bad_input():
        from simulation.listeners.terminal import Screen
        from simulation.runs import verification

        quiet()
        screen = Screen()
        with endings(run, "", lambda: screen.begun), screen:
            found = verification.verify(run, rounds, tolerance, data_dir, screen)
    for text in found.checked:
        typer.echo(text)
    for text in found.wrong[: verification.LARGEST]:
        say(text)
    if len(found.wrong) > verification.LARGEST:
        say(f"and {len(found.wrong) - verification.LARGEST} more")
    if found.wrong:
        raise typer.Exit(FAILED)
