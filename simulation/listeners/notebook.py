"""Runs in a notebook: a display that follows them, in Jupyter and in Colab, without widgets."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from typing_extensions import override

from simulation.config import scheduling
from simulation.config.experiment import Experiment
from simulation.listeners.listener import Listener

PAUSE = 0.25
"""Seconds between two updates of the display."""

WIDTH, HEIGHT = 240, 48
"""Of the curve, in pixels."""


def in_notebook() -> bool:
    """Tell whether this process is a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class Notebook(Listener):
    """Show a run in the output of a cell: a bar, the last round, and the accuracy so far.

    The output is plain HTML that stays in the saved notebook; as text it is the last line.
    """

    def __init__(self) -> None:
        self.title, self.text = "", ""
        self.round, self.rounds, self.part = 0, 0, 0.0
        self.accuracy: list[tuple[int, float]] = []
        self._handle: Any = None
        self._shown = 0.0
        self._cohort, self._trained = 1, 0

    @override
    def stage(self, text: str) -> None:
        self.text = text
        self._show()

    @override
    def begin(self, experiment: Experiment, workers: int, done: int) -> None:
        central = experiment.mode == "centralised"
        self._cohort = 1 if central else scheduling.updates_of(experiment)
        self.title, self.rounds, self.round = experiment.label, experiment.rounds, done
        self.text = "1 worker" if workers == 1 else f"{workers} workers"
        self._show()

    @override
    def clients(self, kind: str, clients: int, examples: int) -> None:
        self._trained += clients
        self.part = min(1.0, self._trained / self._cohort)
        if time.monotonic() - self._shown > PAUSE:
            self._show()

    @override
    def line(self, record: Mapping[str, Any]) -> None:
        self.round = record["round"]
        # What has been counted since then belongs to the next round, which is under way.
        self._trained = max(0, self._trained - (record["clients"] or 0))
        self.part = min(1.0, self._trained / self._cohort)
        self.text = self._describe(record)
        if record.get("server_accuracy") is not None:
            self.accuracy.append((self.round, record["server_accuracy"]))
        if time.monotonic() - self._shown > PAUSE or self.round == self.rounds:
            self._show()

    @override
    def opened(self, path: Path) -> None:
        self._path = path

    @override
    def end(self, summary: Mapping[str, Any]) -> None:
        self.part = 0.0
        speed = summary.get("images_per_second")
        rate = f"  {speed:,.0f} images/s" if speed else ""
        state = "" if summary["status"] == "complete" else f"{summary['status']}  "
        last = self._describe(summary["final"]) if summary["final"] else ""
        self.text = f"{state}{last}{rate}  {summary['wall_seconds']:.1f} s in all"
        self._show()

    def __repr__(self) -> str:
        """Return the state as text."""
        return f"{self.title}: {self.text}" if self.title else self.text

    def _repr_html_(self) -> str:
        parts = [f"<b>{escape(self.title)}</b>"] if self.title else []
        if self.rounds:
            done = min(self.rounds, self.round + self.part)
            parts.append(
                f'<progress max="{self.rounds}" value="{done:.3f}" '
                f'aria-label="rounds" style="width:15em"></progress>'
            )
        parts.append(f"<code>{escape(self.text)}</code>")
        return f"<div>{' '.join(parts)}{self._curve()}</div>"

    def _curve(self) -> str:
        """Return the accuracy over rounds as a line, from 0 to 1."""
        if len(self.accuracy) < 2:
            return ""
        points = " ".join(
            f"{WIDTH * r / self.rounds:.1f},{HEIGHT * (1 - a):.1f}" for r, a in self.accuracy
        )
        return (
            f'<br><svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="accuracy over rounds"><polyline points="{points}" fill="none" '
            'stroke="currentColor" stroke-width="1.5"/></svg>'
        )

    def _describe(self, record: Mapping[str, Any]) -> str:
        from simulation.listeners.text import describe

        return describe(record, self.rounds)

    def _show(self) -> None:
        from IPython import display as ipython

        display: Any = ipython.display
        self._shown = time.monotonic()
        if self._handle is None:
            self._handle = display(self, display_id=True)
        else:
            self._handle.update(self)
