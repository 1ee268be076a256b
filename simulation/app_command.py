"""What ``sunflower run --app`` does and shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from simulation.app import AppResult, free_path, parse_app, read_app, run_app
from simulation.cli import bad_input, endings, quiet
from simulation.run import Listener


class AppScreen(Listener):
    """Tells every round of an app in a line."""

    def __init__(self) -> None:
        self._console, self.begun = Console(highlight=False), False

    def stage(self, text: str) -> None:
        """Show what is being done."""
        self.begun = self.begun or text.startswith("running")
        self._console.print(text, style="dim")

    def line(self, record: Mapping[str, Any]) -> None:
        """Show a round."""
        told = {"clients": "{:d} clients", "seconds": "{:.1f} s", "clients_lost": "{:d} lost"}
        parts = [form.format(record[k]) for k, form in told.items() if record.get(k)]
        for key in ("train_loss", "client_loss", "client_accuracy", "server_accuracy"):
            if record.get(key) is not None:
                parts.append(f"{key.replace('_', ' ')} {record[key]:.4f}")
        self._console.print(f"round {record['round']}: {', '.join(parts)}")

    def finish(self, result: AppResult) -> None:
        """Show where the run folder is."""
        self._console.print(f"{result.summary['wall_seconds']:.1f} s; {result.path}")


def run_command(
    given: Mapping[str, Any], file: Path | None, out: Path | None, resume: bool
) -> dict[Path, dict[str, Any]]:
    """Run an app; return its summary by its run folder.

    Args:
        given: options by dotted key.
        file: an experiment file: there must be none.
        out: the run folder; a new one when None.
        resume: must not be asked for.
    """
    for name, value in (("EXPERIMENT.toml", file), ("--resume", resume or None)):
        if value is not None:
            raise click.UsageError(f"{name} must be left out with --app")
    with bad_input():
        quiet()
        plan = parse_app(given)
        path = out if out is not None else free_path(read_app(plan).name)
        screen = AppScreen()
        with endings(path, "", lambda: screen.begun):
            result = run_app(plan, path, screen)
        screen.finish(result)
    return {path: result.summary}
