"""The trackers that an experiment names, kept from ending its run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from typing_extensions import override

from simulation.config import plugins
from simulation.config.errors import ConfigError, one_line
from simulation.config.experiment import Experiment
from simulation.config.explain import explain
from simulation.config.sections import Track
from simulation.listeners.listener import Listener
from simulation.listeners.trackers.mlflow import MLflow
from simulation.listeners.trackers.tensorboard import TensorBoard
from simulation.listeners.trackers.wandb import Wandb

log = logging.getLogger("sunflower.trackers")

BUILT_IN: dict[str, Any] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": Wandb}


class Guarded(Listener):
    """A tracker that cannot end a run: when it fails under way, it is named and hears no more.

    Before the rounds begin, errors are the user's to mend and pass.
    """

    def __init__(self, name: str, tracker: Listener) -> None:
        self.name, self.tracker = name, tracker
        self.failed = False

    @override
    def opened(self, path: Path) -> None:
        self.tracker.opened(path)

    @override
    def begin(self, experiment: Experiment, workers: int, done: int) -> None:
        """Tell the tracker. Raises ConfigError when it cannot begin."""
        try:
            self.tracker.begin(experiment, workers, done)
        except Exception as error:
            raise ConfigError(
                f"track must name a tracker that works, got {self.name!r} ({one_line(error)})"
            ) from error

    @override
    def stage(self, text: str) -> None:
        self._tell("stage", text)

    @override
    def note(self, text: str) -> None:
        self._tell("note", text)

    @override
    def clients(self, kind: str, clients: int, examples: int) -> None:
        self._tell("clients", kind, clients, examples)

    @override
    def line(self, record: Mapping[str, Any]) -> None:
        self._tell("line", record)

    @override
    def end(self, summary: Mapping[str, Any]) -> None:
        self._tell("end", summary)

    def _tell(self, what: str, *args: Any) -> None:
        if self.failed:
            return
        try:
            getattr(self.tracker, what)(*args)
        except Exception as error:
            self.failed = True
            log.warning(
                "the tracker %s failed and hears no more of this run: %s",
                self.name,
                one_line(error),
            )


def make(tracks: Sequence[Track]) -> list[Listener]:
    """Return the trackers that an experiment names.

    Raises:
        ConfigError: an extra is not installed, an option is bad, or a class of the user's is no
            listener.
    """
    return [Guarded(track.name, _one(track)) for track in tracks]


def _one(track: Track) -> Listener:
    if ":" not in track.name:
        return _built_in(track)
    found = plugins.resolve("track", track.name)
    try:
        tracker = found(**track.options)
    except Exception as error:
        raise ConfigError(
            "track must name a class that takes its options, "
            f"got {track.name!r} ({one_line(error)})"
        ) from error
    if not isinstance(tracker, Listener):
        raise ConfigError(
            f"track must name a class of simulation.Listener's, got {track.name!r} "
            f"(a {type(tracker).__name__})"
        )
    return tracker


def _built_in(track: Track) -> Listener:
    kind = BUILT_IN[track.name]
    try:
        options = kind.Options.model_validate(track.options)
    except ValidationError as error:
        lines = explain(error, kind.Options)
        raise ConfigError("\n".join(f"track.{track.name}.{line}" for line in lines)) from None
    if find_spec(kind.module) is None:
        raise ConfigError(
            f"track must name a tracker that is installed (pip install "
            f"'sunflower-fl[{track.name}]'), got {track.name!r}"
        )
    try:
        tracker: Listener = kind(**options.model_dump())
    except Exception as error:
        raise ConfigError(
            f"track must name a tracker that works, got {track.name!r} ({one_line(error)})"
        ) from error
    return tracker
