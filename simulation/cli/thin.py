"""The command ``sunflower thin``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RUNS = typer.Argument(metavar="RUNS...", show_default=False, help="Run or study folders")

EVERYTHING = typer.Option("--all", help="The last checkpoints too: such runs cannot go on")


def thin(
    runs: Annotated[list[Path], RUNS],
    everything: Annotated[bool, EVERYTHING] = False,
) -> None:
    """Remove checkpoints of complete runs but the last, from which they go on."""
    from simulation.cli.endings import bad_input, quiet

    with bad_input():
        from simulation.runs import thin as thinning

        quiet()
        done = thinning.thin(runs, everything)
    typer.echo(f"{done.freed / 1e6:,.1f} MB freed in {_counted(len(done.runs))}")
    if done.left:
        typer.echo(f"{_counted(len(done.left))} not complete and left alone: {done.left[0]} ...")


def _counted(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"
