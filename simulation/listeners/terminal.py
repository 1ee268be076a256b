"""What a run shows: progress bars on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
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
from typing_extensions import override

from simulation.config import cohorts, scheduling
from simulation.config.experiment import Experiment
from simulation.config.local_work import local_work
from simulation.listeners.listener import Listener
from simulation.listeners.text import _some, count, decimal, describe, percent

WINDOW = 20.0
"""Seconds over which images/s is measured."""

FILES = {
    "rounds.jsonl": "metrics, a line a round",
    "clients.parquet": "metrics of every client and round",
    "summary.json": "the result",
    "model.keras": "the final model",
    "best.keras": "the model of the best round",
    "config.json": "everything needed to repeat it",
    "run.log": "the log",
}


class Rate:
    """Images a second over the last while.

    Args:
        clock: seconds, from any moment on.
    """

    def __init__(self, clock: Any = time.monotonic) -> None:
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque([(clock(), 0)])

    def add(self, images: int) -> None:
        """Note that images have been processed since the last call."""
        now, total = self._clock(), self._marks[-1][1] + images
        self._marks.append((now, total))
        while len(self._marks) > 2 and now - self._marks[0][0] > WINDOW:
            self._marks.popleft()

    @property
    def value(self) -> float | None:
        """Images a second; None before there is anything to measure."""
        (first, before), (last, after) = self._marks[0], self._marks[-1]
        return (after - before) / (last - first) if last > first else None


class _Speed(ProgressColumn):
    """The column that shows images/s."""

    def render(self, task: Task) -> Text:
        rate = task.fields.get("rate")
        value = rate.value if rate is not None else None
        return Text(f"{value:,.0f} images/s" if value else "", style="progress.data.speed")


class Warnings(logging.Handler):
    """Show Sunflower's own warnings without tearing the progress bars."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self.console = console

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is None:
            self.console.print(f"warning: {record.getMessage()}", style="yellow", markup=False)


class Screen(Listener):
    """Show a run as it goes. Use it as a context manager.

    Args:
        console: where to; standard output when None.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.live = self.console.is_terminal
        self.begun = False
        self._stages = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=self.console,
        )
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            _Speed(),
            console=self.console,
        )
        whole = Group(self._stages, self._bars)
        self._display = Live(whole, console=self.console, refresh_per_second=5, transient=True)
        self._warnings = Warnings(self.console)
        self._stage = self._stages.add_task("", total=None, visible=False)

    def __enter__(self) -> Screen:
        logging.getLogger("sunflower").addHandler(self._warnings)
        if self.live:
            self._display.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._display.stop()
        logging.getLogger("sunflower").removeHandler(self._warnings)

    @override
    def stage(self, text: str) -> None:
        self._stages.reset(self._stage, description=text, visible=True)
        if not self.live:
            self.print(text)

    @override
    def note(self, text: str) -> None:
        self.print(text)

    @override
    def begin(self, experiment: Experiment, workers: int, done: int) -> None:
        self.begun = True
        central = experiment.mode == "centralised"
        self._cohort = 1 if central else scheduling.updates_of(experiment)
        self._work, self._rounds = local_work(experiment.training), experiment.rounds
        self._told, self._trained, self._answered = done, 0, 0
        self._rate = Rate()
        about = "about " if cohorts.varies(experiment) else ""
        within = scheduling.rounds_within(experiment)
        some = f"{about}{self._cohort // within:,} of {experiment.clients:,} clients"
        some += f", {within} times" if within > 1 else ""
        who = "the pooled data" if central else some
        after = f", going on after round {done}" if done else ""
        self.print(
            f"{experiment.label}: {count(experiment.rounds, 'round')} of {who} "
            f"on {count(workers, 'worker')}{after}"
        )
        self._stages.update(self._stage, visible=False)
        self._bar = self._bars.add_task(
            "rounds", total=self._rounds, completed=done, rate=self._rate
        )
        self._inner = self._bars.add_task("clients", total=self._cohort, visible=not central)

    @override
    def clients(self, kind: str, clients: int, examples: int) -> None:
        if kind == "train":
            self._rate.add(round(self._work.about(examples, clients)))
            before, self._trained = self._trained, self._trained + clients
            if before // self._cohort < self._trained // self._cohort:
                self._bars.reset(self._inner)  # its ETA is that of a round
        else:  # messages, which train or evaluate; the round's line tells of what there were
            self._answered += clients
        self._move()

    @override
    def line(self, record: Mapping[str, Any]) -> None:
        # It comes when the next round is trained already, or is being trained: what has been
        # counted since then belongs to that one.
        self._told = record["round"]
        self._trained = max(0, self._trained - (record["clients"] or 0))
        if self._answered:
            self._answered = self._trained = 0
            seen = self._work.about(record["examples"] or 0, record["clients"] or 0)
            self._rate.add(round(seen))
        self._move()
        self.print(describe(record, self._rounds, self._cohort))

    def _move(self) -> None:
        ahead, part = divmod(self._trained, self._cohort)
        self._bars.update(self._bar, completed=min(self._told + ahead, self._rounds))
        self._bars.update(self._inner, completed=part or min(self._answered, self._cohort))

    def finish(self, path: Path, summary: Mapping[str, Any]) -> None:
        """Show the result of a run in its folder, and where its files are."""
        self.console.print(result_table(summary))
        for name, what in FILES.items():
            if (path / name).exists():
                self.console.print(f"{path / name}  {what}", soft_wrap=True, markup=False)

    def print(self, text: str) -> None:
        """Print a line above the bars."""
        self.console.print(text, soft_wrap=True, markup=False)


def result_table(summary: Mapping[str, Any]) -> Table:
    """Return the summary of a finished run as a table."""
    table = Table(title="Result", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    final, speed = summary["final"], summary.get("images_per_second")
    rows = (
        ("Rounds", str(summary["rounds"])),
        ("Accuracy on the server's test set", percent(final.get("server_accuracy"))),
        ("Loss on the server's test set", decimal(final.get("server_loss"))),
        ("Accuracy on the clients' validation data", percent(final.get("client_accuracy"))),
        ("Wall time", f"{summary['wall_seconds']:.1f} s"),
        ("Images/s", f"{speed:,.0f}" if speed else None),
        ("Client results lost", _some(summary.get("clients_lost"))),
        ("SHA-256 of the weights", f"{summary['weights_sha256'][:16]}..."),
    )
    for name, value in rows:
        if value is not None:
            table.add_row(name, value)
    return table
