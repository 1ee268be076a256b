"""TensorBoard: event files, written without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import override

from simulation.config.experiment import Experiment
from simulation.config.fields import Section
from simulation.listeners.listener import Listener
from simulation.listeners.trackers.common import numbers
from simulation.records.reading import read_rounds


class TensorBoard(Listener):
    """Write event files; TensorFlow is not needed for it. See them: ``tensorboard --logdir runs``.

    Args:
        dir: the folder of the event files; ``tensorboard/`` in the run folder when None.
    """

    module = "tensorboardX"

    class Options(Section):
        """What may be set."""

        dir: str | None = None

    def __init__(self, dir: str | None = None) -> None:
        self.dir = dir
        self._writer: Any = None

    @override
    def opened(self, path: Path) -> None:
        self._path = path
        self._folder = path / "tensorboard" if self.dir is None else Path(self.dir) / path.name

    @override
    def begin(self, experiment: Experiment, workers: int, done: int) -> None:
        """Open the file; of a resumed run, it takes the place of earlier ones."""
        from tensorboardX import SummaryWriter

        known = read_rounds(self._path)
        self._writer = SummaryWriter(str(self._folder), purge_step=0 if known else None)
        table = "".join(f"    {line}\n" for line in experiment.to_toml().splitlines())
        self._writer.add_text("experiment", table, 0)
        for record in known:
            self.line(record)

    @override
    def line(self, record: Mapping[str, Any]) -> None:
        """Add every number of the line as a scalar, its round as the step."""
        for name, value in numbers(record).items():
            self._writer.add_scalar(name, value, record["round"])
        self._writer.flush()

    @override
    def end(self, summary: Mapping[str, Any]) -> None:
        if self._writer is not None:
            self._writer.close()
