"""The command ``sunflower export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RUNS = typer.Argument(metavar="RUNS...", show_default=False, help="Run or study folders")

OUT = typer.Option("--out", metavar="PATH", help="A new folder, or an archive NAME.zip")

WEIGHTS = typer.Option("--weights", help="With the final models, as NumPy's files")

LICENSE = typer.Option("--license", metavar="URL", help="Under which others may use it")


def export(
    runs: Annotated[list[Path], RUNS],
    out: Annotated[Path, OUT],
    weights: Annotated[bool, WEIGHTS] = False,
    license: Annotated[str | None, LICENSE] = None,
) -> None:
    """Copy what a colleague needs of runs, described as an RO-Crate; no checkpoints."""
    from simulation.cli.endings import bad_input, quiet

    with bad_input():
        from simulation.runs import export as exporting

        quiet()
        made = exporting.export(runs, out, weights, license)
    typer.echo(made)
