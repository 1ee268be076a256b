"""The small interface through which a run tells what it does: screens and trackers implement it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

if TYPE_CHECKING:
    from simulation.config.experiment import Experiment


class Listener:
    """Hears what a run does; override what you want to show or record.

    The methods are called in the driver's process, in this order: ``stage``, ``opened``,
    ``note``, ``begin``, then ``clients`` and ``line`` as the rounds go, and ``end``.
    """

    def stage(self, text: str) -> None:
        """Hear what is being done before and after the rounds."""

    def note(self, text: str) -> None:
        """Hear what the run does that its settings do not say by themselves."""

    def opened(self, path: Path) -> None:
        """Hear where the run folder is; its ``config.json`` is written."""

    def begin(self, experiment: Experiment, workers: int, done: int) -> None:
        """Hear that rounds begin, ``done`` of them being done already."""

    def clients(self, kind: str, clients: int, examples: int) -> None:
        """Hear that some clients have trained (``train``) or answered (``message``)."""

    def line(self, record: Mapping[str, Any]) -> None:
        """Hear a line of ``rounds.jsonl``."""

    def end(self, summary: Mapping[str, Any]) -> None:
        """Hear how the run ended: the contents of ``summary.json``."""


class Listeners(Listener):
    """Several listeners as one; each hears everything, in their order."""

    def __init__(self, many: Sequence[Listener]) -> None:
        self.many = tuple(many)

    @override
    def stage(self, text: str) -> None:
        for one in self.many:
            one.stage(text)

    @override
    def note(self, text: str) -> None:
        for one in self.many:
            one.note(text)

    @override
    def opened(self, path: Path) -> None:
        for one in self.many:
            one.opened(path)

    @override
    def begin(self, experiment: Experiment, workers: int, done: int) -> None:
        for one in self.many:
            one.begin(experiment, workers, done)

    @override
    def clients(self, kind: str, clients: int, examples: int) -> None:
        for one in self.many:
            one.clients(kind, clients, examples)

    @override
    def line(self, record: Mapping[str, Any]) -> None:
        for one in self.many:
            one.line(record)

    @override
    def end(self, summary: Mapping[str, Any]) -> None:
        for one in self.many:
            one.end(summary)
