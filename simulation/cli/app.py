"""What ``sunflower run --app`` does and shows."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from typing_extensions import override

from simulation.cli.endings import bad_input, endings, quiet
from simulation.config.app import parse_app
from simulation.config.errors import RunError
from simulation.flower.app_settings import read_app
from simulation.listeners.listener import Listener
from simulation.records.reading import read_json
from simulation.records.run_folder import free_path
from simulation.runs.app_run import AppResult, run_app

METRICS = ("train_", "client_", "server_")
"""How the keys of metrics begin."""

MOST_METRICS = 8
"""Metrics that a line shows; rounds.jsonl has all."""


class AppScreen(Listener):
    """Tells every round of an app in a line."""

    def __init__(self) -> None:
        self._console, self.begun = Console(highlight=False), False

    @override
    def stage(self, text: str) -> None:
        self.begun = self.begun or text.startswith("running")
        self._console.print(text, style="dim")

    @override
    def line(self, record: Mapping[str, Any]) -> None:
        told = {"clients": "{:d} clients", "seconds": "{:.1f} s", "clients_lost": "{:d} lost"}
        parts = [form.format(record[k]) for k, form in told.items() if record.get(k)]
        metrics = [k for k in record if k.startswith(METRICS)]
        shown = [key for key in metrics if record[key] is not None]
        parts += [f"{key.replace('_', ' ')} {record[key]:.4f}" for key in shown[:MOST_METRICS]]
        self._console.print(f"round {record['round']}: {', '.join(parts)}", soft_wrap=True)

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
        resume: go on in ``out``, with its clients and run configuration where none are given.
    """
    if file is not None:
        raise click.UsageError("EXPERIMENT.toml must be left out with --app")
    if resume and out is None:
        raise click.UsageError("--resume must come with --out, the run folder to go on in")
    with bad_input():
        quiet()
        plan = parse_app({**_recorded(out), **given} if resume and out is not None else given)
        path = out if out is not None else free_path(read_app(plan).name)
        folder, place = shlex.quote(str(plan.app)), shlex.quote(str(path))
        screen = AppScreen()
        again = f"sunflower run --app {folder} --resume --out {place}"
        with endings(path, again if plan.faults.keep_replies else "", lambda: screen.begun):
            result = run_app(plan, path, screen, resume)
        screen.finish(result)
    return {path: result.summary}


def _recorded(path: Path) -> dict[str, Any]:
    """Return the clients and the run configuration of a run folder."""
    config = read_json(path / "config.json")
    if config is None or "overrides" not in config:
        raise RunError(f"resume: {path} holds no run of an app")
    return {"clients": config["experiment"]["clients"], "run_config": config["overrides"]}
