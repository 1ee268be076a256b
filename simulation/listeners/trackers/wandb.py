"""Weights & Biases: a run in files that are uploaded later, or at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from typing_extensions import override

from simulation.config.experiment import Experiment
from simulation.config.fields import Section
from simulation.listeners.listener import Listener
from simulation.listeners.trackers.common import flat, numbers, remembered
from simulation.records.reading import read_rounds


class Wandb(Listener):
    """Write a run of Weights & Biases, into the run folder unless ``mode`` is ``online``.

    Args:
        project: W&B's project.
        mode: ``offline`` writes files that ``wandb sync`` uploads; ``online`` sends them at once.
        entity: the user or team, where it is not the default one.
    """

    module = "wandb"

    class Options(Section):
        """What may be set."""

        project: str = "sunflower"
        mode: Literal["offline", "online"] = "offline"
        entity: str | None = None

    def __init__(
        self, project: str = "sunflower", mode: str = "offline", entity: str | None = None
    ) -> None:
        self.project, self.mode, self.entity = project, mode, entity
        self._run: Any = None

    @override
    def opened(self, path: Path) -> None:
        self._path = path

    @override
    def begin(self, experiment: Experiment, workers: int, done: int) -> None:
        """Start a run, or go on with the one that this run folder belongs to."""
        import wandb

        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,
            name=self._path.name,
            id=remembered(self._path / "wandb.run", lambda: uuid4().hex[:8]),
            resume="allow",
            reinit="create_new",
            dir=str(self._path),
            config=dict(flat(experiment.decisive())),
            tags=[experiment.label[:64]],
            settings=wandb.Settings(console="off", silent=True, x_disable_meta=True),
        )
        for record in read_rounds(self._path):
            self.line(record)

    @override
    def line(self, record: Mapping[str, Any]) -> None:
        """Log every number of the line, its round as the step."""
        self._run.log(numbers(record), step=record["round"])

    @override
    def end(self, summary: Mapping[str, Any]) -> None:
        if self._run is not None:
            self._run.summary.update({"status": summary["status"]})
            self._run.finish(exit_code=0 if summary["status"] == "complete" else 1)
