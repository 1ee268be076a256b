"""A run that has an engine and data: its folder, its rounds, and how it ended."""

from __future__ import annotations

import logging
import time
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flwr.serverapp.strategy import Strategy

from simulation.config import flower_sampling
from simulation.config.errors import RunError
from simulation.config.experiment import Experiment
from simulation.config.privacy import privacy_of
from simulation.config.scheduling import updates_of
from simulation.datasets.dataset import Dataset
from simulation.engines.engine import Engine
from simulation.engines.evaluation import on_the_server
from simulation.listeners.listener import Listener
from simulation.population import partition
from simulation.population.partition import AnyPartition
from simulation.records import checkpoint, client_states, files, models, reading
from simulation.records.checkpoint import Position
from simulation.records.checkpoint_writer import CheckpointWriter, Due
from simulation.records.log import disk, log_file
from simulation.records.run_folder import RunFolder
from simulation.rounds import events, watching
from simulation.rounds.loop import Loop
from simulation.rounds.watching import Watch
from simulation.runs import memory
from simulation.runs import resume as resuming
from simulation.runs.machinery import driver_for, has_clock, setup_for
from simulation.runs.summary import (
    about_strategy,
    citations,
    ended_early,
    notes_of,
    remarks,
    sizes_of,
    status_of,
    summary_of,
)
from strategies import Federated
from strategies.spec import Spec, Vector
from strategies.weights import weights_of

log = logging.getLogger("sunflower")

LABELLED = 10_000
"""Clients whose label counts are recorded, at most."""


@dataclass(frozen=True)
class Result:
    """A finished run.

    Args:
        path: the run folder.
        rounds: the records of ``rounds.jsonl``.
        summary: the contents of ``summary.json``.
        weights: the final model, flat [P].
        spec: its layout.
    """

    path: Path
    rounds: list[dict[str, Any]]
    summary: dict[str, Any]
    weights: Vector
    spec: Spec


class RecordedRun:
    """One run. Making it starts the workers.

    Args:
        experiment: what to run.
        strategy: how updates are put together.
        engine: where clients are trained.
        data: the examples.
        parts: whose they are.
        path: the run folder.
        start: what the run goes on from; None: it begins anew.
        listener: hears what happens.
        given: whether the strategy is an object, of which the experiment says nothing.

    Raises:
        MemoryShort: when the run cannot fit into memory.
        ConfigError: when what clients keep cannot fit on the disk.
    """

    def __init__(
        self,
        experiment: Experiment,
        strategy: Strategy,
        engine: Engine,
        data: Dataset,
        parts: AnyPartition,
        path: Path,
        start: checkpoint.Checkpoint | None,
        listener: Listener,
        given: bool = False,
    ) -> None:
        listener.stage("starting workers")
        self.given = given
        self.experiment, self.strategy, self.engine = experiment, strategy, engine
        self.data, self.parts, self.path = data, parts, path
        self.start, self.listener = start, listener
        grouped = resuming.trains_in_a_group(path)
        self.setup = setup = setup_for(experiment, strategy, engine, path, grouped)
        engine.start(setup, data, parts)
        self.info = info = engine.info()
        memory.check(info.spec.size, engine.workers, engine.memory, experiment, setup)
        watching.check(experiment, setup.rule, info.described)
        self.watch = Watch(experiment)
        self.private = privacy_of(strategy, info.spec)
        for text in [*notes_of(experiment, strategy), *self.private.notes]:
            listener.note(text)
        if setup.shelf is not None:
            own = len(setup.rule.own) + setup.keeps_error
            client_states.check_room(path, info.spec, own, setup.rule.kept, experiment)
        self._began, self._before = time.perf_counter(), start.seconds if start else 0.0

    @property
    def seconds(self) -> float:
        """Wall time of the rounds, those of all parts of a resumed run."""
        return self._before + time.perf_counter() - self._began

    def run(self) -> Result:
        """Train all rounds and record them.

        Raises:
            RoundError: a round that could not be completed.
            DiskError: a run folder that cannot be written any more.
        """
        folder, begins = self._folder()
        with log_file(self.path / "run.log"):
            self._note_data(folder, begins)
            return self._rounds(folder)

    def _folder(self) -> tuple[RunFolder, bool]:
        """Return the run folder, and whether it is a new one."""
        experiment, path, start = self.experiment, self.path, self.start
        reducer, told = self.setup.reducer, about_strategy(experiment, self.strategy, self.given)
        config = {
            "label": experiment.label,
            "hash": experiment.digest(),
            "experiment": experiment.model_dump(mode="json"),
            "data": sizes_of(self.data, self.parts),
            "model": asdict(self.info.described),
            "parameters": self.info.spec.size,
            "workers": self.engine.workers,
            "backend": self.experiment.resources.library,
            "lanes": self.info.lanes,
            **({"grouped": True} if self.engine.setup.grouped else {}),
            **({"weights": weights_of(reducer)} if reducer is not None else {}),
            **({"strategy": told} if told else {}),
            "citations": citations(experiment),
        } | self.private.settings
        if not (path / "config.json").exists():
            return RunFolder.create(path, config), True
        last = start.position.round if start else -1
        line = resuming.last_line(path, experiment, last) if start else -1
        return RunFolder.reopen(path, last, line, config), False

    def _note_data(self, folder: RunFolder, begins: bool) -> None:
        """Log where the data is from; record whose labels are whose in a new folder."""
        experiment, data, parts = self.experiment, self.data, self.parts
        log.info("data from %s; %d workers", data.source, self.engine.workers)
        for note in [*data.notes, *self.private.notes]:
            log.info("%s", note)
        if experiment.evaluation.clients and experiment.mode == "federated":
            partition.tell_unmeasured(parts, experiment.partition.validation)
        if not begins:
            return
        labels = data.labels
        if parts.train_sizes.size <= LABELLED and labels is not None and data.classes is not None:
            who = range(len(parts))
            folder.add_labels(partition.label_counts(parts, who, labels, data.classes))
        natural = experiment.partition.kind == "natural" and experiment.mode != "centralised"
        if natural and data.owner_names is not None:
            folder.add_owners(data.owner_names)

    def _rounds(self, folder: RunFolder) -> Result:
        experiment, engine, listener, info = (
            self.experiment, self.engine, self.listener, self.info,
        )  # fmt: skip
        driver = driver_for(self.strategy, engine, info, experiment)
        position = Position(0, info.initial, events.START if has_clock(experiment) else {})
        if self.start is not None:
            position = self.start.position
            driver.state = self.start.state  # type: ignore[misc]
            engine.ledger.restore(self.start.clients)
        lines = reading.read_rounds(self.path)
        self.watch.see_all(lines)
        resuming.check_best(self.path, self.watch.best)
        done = {record["round"] for record in lines}
        for text in remarks(experiment, info.described):
            log.info("%s", text)
            listener.note(text)
        listener.opened(self.path)
        listener.begin(_as_drawn(experiment, self.strategy), engine.workers, position.round)
        evaluate = on_the_server(experiment, self.setup.rule, engine)
        alias = info.described.alias
        loop = Loop(
            experiment, driver, evaluate, folder, listener.line, engine.timeline, alias, self.watch,
            info.learning_rate,
        )  # fmt: skip
        self._began = time.perf_counter()

        due = Due.of(experiment.faults, self._most_between())
        checkpoints = CheckpointWriter(self.path / "checkpoint", folder.flush, due, position.round)

        def saved(at: Position) -> None:
            if experiment.save.every is not None and at.round % experiment.save.every == 0:
                folder.add_model(engine.save(at.model), models.some_model(at.round))
            taken = checkpoint.Checkpoint(at, driver.state, engine.ledger.stored, self.seconds)
            checkpoints.offer(taken, last=at.round == experiment.rounds)

        status = "failed"
        try:
            with disk(self.path), closing(checkpoints):
                position = loop.run(position, position.round in done, saved)
            status = "complete"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        except Exception as error:
            status = status_of(error)
            log.exception("the run %s", status)
            raise
        finally:
            lines, summary = self._finish(folder, status, position)
        return Result(self.path, lines, summary, position.model, info.spec)

    def _most_between(self) -> int | None:
        """Return how many rounds may pass without a checkpoint; None: as many as there are.

        Until the next one, the states of all clients that train lie on the disk, old ones too.
        """
        if self.setup.shelf is None:
            return None
        return max(1, len(self.parts) // updates_of(self.experiment))

    def _finish(
        self, folder: RunFolder, status: str, position: Position
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Write how the run ended; return the records of its rounds, and its summary."""
        experiment, engine = self.experiment, self.engine
        with suppress(OSError):
            folder.write()
        lines = reading.read_rounds(self.path)
        summary = summary_of(status, experiment, lines, position, self.seconds, self.info.spec)
        summary |= self.private.spent(lines) | ended_early(self.watch)
        if self.start is None and engine.busy is not None:
            summary["busy_seconds"] = engine.busy
        if status == "complete":
            self.listener.stage("saving the model")
            with disk(self.path):
                if experiment.mode == "local":  # What counts is what the clients keep.
                    summary["weights_sha256"] = client_states.sha256(engine.ledger.stored)
                else:
                    folder.add_model(engine.save(position.model))
                summary |= self._keep_best(folder)
                folder.finish(summary)
        else:
            with suppress(OSError):  # A full disk must not hide why the run ended.
                folder.finish(summary)
        if self.watch.reason is not None:
            self.listener.note(f"ended: {self.watch.reason}")
        self.listener.end(summary)
        return lines, summary

    def _keep_best(self, folder: RunFolder) -> dict[str, Any]:
        """Write the best round's model as one of Keras; return what the summary says of it."""
        best = self.watch.best
        if best is None or best.value is None:
            return {}
        round, model = models.read_best(self.path) or (None, None)
        if model is None or round != best.round:
            raise RunError(f"{models.BEST} must hold the model of round {best.round}, got {round}")
        folder.add_model(self.engine.save(model), "best.keras")
        about = {"round": best.round, best.name: best.value}
        return {"best": about | {"weights_sha256": files.weights_sha256(model)}}


def _as_drawn(experiment: Experiment, strategy: Strategy) -> Experiment:
    """Return the experiment with the cohort that a Flower strategy really draws, if it says so."""
    if isinstance(strategy, Federated):
        return experiment
    size = flower_sampling.trained(strategy, experiment.clients)
    return experiment.model_copy(update={"cohort": size}) if size else experiment
