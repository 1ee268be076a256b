"""What a run shows: progress bars on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from simulation.experiment import Experiment
from simulation.run import Listener, Result

WINDOW = 20.0
"""Seconds over which images/s is measured."""

FILES = {
    "rounds.jsonl": "metrics, a line a round",
    "clients.parquet": "metrics of every client and round",
    "summary.json": "the result",
    "model.keras": "the final model",
    "config.json": "everything needed to repeat it",
    "run.log": "the log",
}


class Rate:
    """Images a second over the last while."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()
        self.total = 0

    def add(self, images: int) -> None:
        """Note that images have been processed."""
        now = time.monotonic()
        self.total += images
        self._marks.append((now, self.total))
        while len(self._marks) > 2 and now - self._marks[0][0] > WINDOW:
            self._marks.popleft()

    def start(self) -> None:
        """Note the beginning."""
        self._marks.append((time.monotonic(), self.total))

    @property
    def value(self) -> float | None:
        """Images a second; None before there is anything to measure."""
        if len(self._marks) < 2:
            return None
        (first, before), (last, after) = self._marks[0], self._marks[-1]
        return (after - before) / (last - first) if last > first else None


class _Speed(ProgressColumn):
    """The column that shows images/s."""

    def __init__(self, rate: Rate) -> None:
        super().__init__()
        self.rate = rate

    def render(self, task: Task) -> Text:
        value = self.rate.value
        return Text(f"{value:,.0f} images/s" if value else "", style="progress.data.speed")


class _Warnings(logging.Handler):
    """Shows Sunflower's own warnings without tearing the progress bars."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        self.console.print(f"warning: {record.getMessage()}", style="yellow", markup=False)


class Screen(Listener):
    """Show a run as it goes.

    Args:
        console: where to; standard output when None.
        title: put before every line, to tell runs of a study apart.
    """

    def __init__(self, console: Console | None = None, title: str = "") -> None:
        self.console = console or Console(highlight=False)
        self.title = f"{title}: " if title else ""
        self.live = self.console.is_terminal
        self._rate = Rate()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            _Speed(self._rate),
            console=self.console,
            transient=True,
            disable=not self.live,
        )
        self._warnings = _Warnings(self.console)
        self._waiting = self._progress.add_task("", total=None, visible=False)
        self._cohort, self._epochs, self._trained, self._answered = 0, 1, 0, 0
        self._rounds = 0

    def __enter__(self) -> Screen:
        logging.getLogger("sunflower").addHandler(self._warnings)
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
        logging.getLogger("sunflower").removeHandler(self._warnings)

    def stage(self, text: str) -> None:
        """Show what is being done."""
        if self.live:
            self._progress.update(self._waiting, description=f"{self.title}{text}", visible=True)
        else:
            self.print(text)

    def begin(self, experiment: Experiment, workers: int, done: int) -> None:
        """Show the bars."""
        central = experiment.mode == "centralised"
        self._cohort = 1 if central else experiment.cohort_size
        self._epochs, self._rounds = experiment.training.local_epochs, experiment.rounds
        what = "pooled data" if central else f"{self._cohort:,} of {experiment.clients:,} clients"
        noun = "worker" if workers == 1 else "workers"
        self.print(
            f"{experiment.label}: {what} a round, {experiment.rounds} rounds, {workers} {noun}"
            + (f", going on after round {done}" if done else "")
        )
        self._progress.update(self._waiting, visible=False)
        self._done = done
        self._bar = self._progress.add_task("rounds", total=self._rounds, completed=done)
        self._inner = self._progress.add_task("clients", total=self._cohort, visible=not central)
        self._rate.start()

    def clients(self, kind: str, clients: int, examples: int) -> None:
        """Move the bars."""
        if kind == "train":
            self._rate.add(examples * self._epochs)
            self._trained += clients
            rounds, part = divmod(self._trained, self._cohort)
            self._progress.update(self._bar, completed=min(self._done + rounds, self._rounds))
            self._progress.update(self._inner, completed=part)
        else:
            self._answered += clients
            self._progress.update(self._inner, completed=min(self._answered, self._cohort))

    def line(self, record: Mapping[str, Any]) -> None:
        """Show the metrics of a round."""
        if self._answered:
            self._answered = 0
            self._rate.add((record["examples"] or 0) * self._epochs)
            self._progress.update(self._bar, completed=record["round"])
        self.print(describe(record, self._rounds))

    def finish(self, result: Result) -> None:
        """Show the result, and where its files are."""
        self._progress.stop()
        self.console.print(final_table(result))
        for name, what in FILES.items():
            if (result.path / name).exists():
                self.console.print(f"{result.path / name}  {what}", soft_wrap=True, markup=False)

    def print(self, text: str) -> None:
        """Print a line above the bars."""
        self.console.print(f"{self.title}{text}", soft_wrap=True, markup=False)


def describe(record: Mapping[str, Any], rounds: int) -> str:
    """Return a round's record as a line of text."""
    width = len(str(rounds))
    parts = [f"round {record['round']:>{width}}/{rounds}"]
    for key, name in (
        ("server_accuracy", "accuracy"),
        ("server_loss", "loss"),
        ("client_accuracy", "on clients"),
        ("train_loss", "training loss"),
    ):
        if record[key] is not None:
            text = f"{record[key]:.1%}" if key.endswith("accuracy") else f"{record[key]:.4f}"
            parts.append(f"{name} {text}")
    if record["seconds"]:
        parts.append(f"{record['seconds']:.1f} s")
    return "  ".join(parts)


def final_table(result: Result) -> Table:
    """Return a finished run's result as a table."""
    table = Table(title="Result", show_header=False, title_justify="left")
    final, summary = result.summary["final"], result.summary
    rows: list[tuple[str, str | None]] = [
        ("Rounds", str(summary["rounds"])),
        ("Accuracy on the server's test set", _percent(final.get("server_accuracy"))),
        ("Loss on the server's test set", _number(final.get("server_loss"))),
        ("Accuracy on clients' validation data", _percent(final.get("client_accuracy"))),
        ("Wall time", f"{summary['wall_seconds']:.1f} s"),
        ("Images/s", _thousands(summary.get("images_per_second"))),
        ("SHA-256 of the weights", summary["weights_sha256"][:16]),
    ]
    for name, value in rows:
        if value is not None:
            table.add_row(name, value)
    return table


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.2%}"


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def _thousands(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f}"
