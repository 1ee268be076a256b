"""What a study shows: one live table of all its runs on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from simulation.config.experiment import Experiment
from simulation.listeners.listener import Listener
from simulation.listeners.terminal import Warnings
from simulation.listeners.text import count, decimal, describe, percent
from simulation.records.reading import read_json, read_rounds
from simulation.studies.campaign import Outcome, Plan, Prospect, State
from simulation.studies.forecast import Forecast, in_words

AROUND = 8
"""Lines of a terminal that the table leaves to the rest."""

ORDER = ("failed", "running", "starting", "complete", "interrupted", "new")
"""What is shown first where not all runs fit on the terminal."""

COLOURS = {"failed": "red", "running": "cyan", "starting": "cyan", "complete": "green"}


@dataclass
class RunProgress:
    """Where a run stands."""

    rounds: int
    state: str
    done: int = 0
    record: Mapping[str, Any] | None = None
    since: float | None = None
    seconds: float = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken here."""
        since = self.since  # the run's own thread may end it meanwhile
        return self.seconds if since is None else time.monotonic() - since


class RunLine(Listener):
    """Hears one run and keeps its row.

    Args:
        row: where the run stands.
        screen: the study's.
        name: the run's.
    """

    def __init__(self, row: RunProgress, screen: StudyScreen, name: str) -> None:
        self.row, self.screen, self.name = row, screen, name

    def stage(self, text: str) -> None:
        """Note that the run is on its way."""
        self.row.state = "running" if self.row.record is not None else "starting"

    def begin(self, experiment: Experiment, workers: int, done: int) -> None:
        """Note that rounds begin."""
        self.screen.begun = True
        self.row.state = "running"
        after = f", going on after round {done}" if done else ""
        rounds = count(experiment.rounds, "round")
        self.screen.tell(f"{self.name}: {rounds} on {count(workers, 'worker')}{after}")

    def line(self, record: Mapping[str, Any]) -> None:
        """Note a round."""
        self.screen.advance(record["round"] - self.row.done)
        self.row.done, self.row.record = record["round"], record
        self.screen.tell(f"{self.name}: {describe(record, self.row.rounds)}")


class StudyScreen:
    """Show the runs of a study, several of which may go on at a time.

    Args:
        plan: the runs by name.
        out: the study's folder.
        console: where to; standard output when None.
    """

    def __init__(self, plan: Plan, out: Path, console: Console | None = None) -> None:
        self.plan, self.out, self.begun = plan, out, False
        self.console = console or Console(highlight=False)
        self.rows = {name: RunProgress(e.rounds, "new") for name, e in plan.items()}
        self._lock = threading.Lock()
        self._bars = Progress(
            TextColumn("rounds"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self.console,
        )
        self._bar = self._bars.add_task("rounds", total=sum(e.rounds for e in plan.values()))
        self._live = Live(
            get_renderable=self._picture,
            console=self.console,
            refresh_per_second=2,
            transient=True,
        )
        self._warnings = Warnings(self.console)

    def __enter__(self) -> StudyScreen:
        logging.getLogger("sunflower").addHandler(self._warnings)
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()
        logging.getLogger("sunflower").removeHandler(self._warnings)

    def announce(self, prospect: Prospect, found: Forecast, every: bool = False) -> None:
        """Show the plan and what it will take, before it starts.

        Args:
            prospect: the plan.
            found: its forecast.
            every: whether to show every run.
        """
        first, *more = in_words(prospect, found)
        self.console.print(f"{first} in {self.out}", soft_wrap=True, markup=False)
        if every:
            table = Table("Run", "State", "Rounds", "Clients", "Cohort")
            for column in table.columns[2:]:
                column.justify = "right"
            table.columns[0].overflow = "fold"
            for name, experiment in prospect.plan.items():
                cohort = experiment.cohort_size if experiment.mode == "federated" else "all"
                numbers = (experiment.rounds, experiment.clients, cohort)
                table.add_row(name, prospect.states[name], *map(str, numbers))
            self.console.print(table)
        for line in more:
            self.console.print(line, soft_wrap=True, markup=False)

    @contextmanager
    def watch(self, name: str, experiment: Experiment, state: State) -> Iterator[Listener]:
        """Show one run, from its beginning to its end."""
        row = self.rows[name]
        done = read_rounds(self.out / name) if state != "new" else []
        row.state = state
        if done:
            row.done, row.record = done[-1]["round"], done[-1]
            self.advance(row.done)
        if state == "complete":
            yield Listener()
            return
        row.since = time.monotonic()
        row.state = "starting"
        try:
            yield RunLine(row, self, name)
        except KeyboardInterrupt:
            row.state = "interrupted"
            raise
        except BaseException:
            row.state = "failed"
            raise
        else:
            row.state = "complete"
        finally:
            row.seconds, row.since = row.elapsed, None

    def advance(self, rounds: int) -> None:
        """Move the bar of all rounds."""
        self._bars.advance(self._bar, rounds)

    def tell(self, text: str) -> None:
        """Print a line, where there is no table that shows it."""
        if not self.console.is_terminal:
            with self._lock:
                self.console.print(text, soft_wrap=True, markup=False)

    def _picture(self) -> Group:
        return Group(self.table(self.console.height - AROUND), self._bars)

    def table(self, most: int) -> Table:
        """Return the table of runs: those that matter most if not all fit.

        Args:
            most: lines that there is room for.
        """
        table = Table("Run", "State", "Round", "Accuracy", "Loss", "Time")
        for column in table.columns[2:]:
            column.justify = "right"
        table.columns[0].overflow = "fold"
        names = list(self.rows)
        shown = set(sorted(names, key=lambda n: ORDER.index(self.rows[n].state))[: max(1, most)])
        for name in names:
            if name in shown:
                row = self.rows[name]
                record, elapsed = row.record or {}, row.elapsed
                table.add_row(
                    name,
                    row.state,
                    f"{row.done}/{row.rounds}",
                    percent(record.get("server_accuracy")) or "",
                    decimal(record.get("server_loss")) or "",
                    f"{elapsed:.0f} s" if elapsed else "",
                    style=COLOURS.get(row.state, "dim"),
                )
        hidden = [self.rows[n].state for n in names if n not in shown]
        if hidden:
            kinds = [(hidden.count(state), state) for state in ORDER]
            table.caption = "and " + ", ".join(f"{n} {state}" for n, state in kinds if n)
        return table

    def finish(self, outcome: Outcome) -> None:
        """Show the result of every run, and what to do next."""
        table = Table("Run", "Rounds", "Accuracy", "Loss", "Time", title="Results")
        table.columns[0].overflow = "fold"
        for column in table.columns[1:]:
            column.justify = "right"
        for name in outcome.complete:
            summary = read_json(self.out / name / "summary.json") or {}
            final = summary.get("final", {})
            table.add_row(
                name,
                str(summary.get("rounds", "")),
                percent(final.get("server_accuracy")) or "",
                decimal(final.get("server_loss")) or "",
                f"{summary.get('wall_seconds', 0.0):.0f} s",
            )
        self.console.print(table)
        if outcome.complete:
            self.console.print(f"Figures and tables: sunflower report {self.out}", soft_wrap=True)
