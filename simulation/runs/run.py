"""One run from configuration to run folder: ``simulate(experiment)``."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from flwr.serverapp.strategy import Strategy

from simulation.config import flower_sampling
from simulation.config.errors import RunError
from simulation.config.experiment import Experiment
from simulation.config.privacy import privacy_of
from simulation.config.sections import Data
from simulation.config.strategy import asked
from simulation.config.strategy import make_strategy as make_strategy
from simulation.datasets import registry
from simulation.datasets.dataset import Dataset
from simulation.engines.engine import Engine
from simulation.engines.evaluation import on_the_server
from simulation.engines.ray import shipping
from simulation.engines.ray.quiet import without_remarks
from simulation.flower import their_strategies
from simulation.flower.driver import MessagingDriver
from simulation.flower.executor import ANSWERING, MessageExecutor
from simulation.flower.grid import MessageGrid
from simulation.listeners import notebook, trackers
from simulation.listeners.listener import Listener as Listener
from simulation.listeners.listener import Listeners
from simulation.population import partition
from simulation.population.deal import prepare
from simulation.population.partition import AnyPartition
from simulation.records import checkpoint, client_states, reading, run_folder
from simulation.records.checkpoint import Position
from simulation.records.client_states import StateFolder
from simulation.records.lock import locked
from simulation.records.log import disk, log_file, new_folder
from simulation.records.run_folder import RunFolder, folder_name, free_path
from simulation.rounds.driver import Driver
from simulation.rounds.folding import FoldingDriver
from simulation.rounds.loop import Loop
from simulation.runs import memory, preflight
from simulation.runs import resume as resuming
from simulation.runs.resume import check_same as check_same
from simulation.runs.signals import termination
from simulation.runs.summary import citations, notes_of, remarks, sizes_of, status_of, summary_of
from simulation.training.measured import ModelInfo
from simulation.worker.setup import Setup
from strategies import Algorithm, Federated, WeightedMean
from strategies.core import Spec, Vector
from strategies.weights import weights_of

log = logging.getLogger("sunflower")

LABELLED = 10_000
"""Clients whose label counts are recorded, at most."""


class Host(Protocol):
    """Where a run that is one of several gets its engine and its data."""

    def engine(self, experiment: Experiment, listener: Listener) -> Engine:
        """Return the run's engine; closing it must leave what it shares with other runs."""

    def load(self, name: str, data_dir: Path | None, how: Data | None) -> Dataset:
        """Return a dataset as :func:`simulation.datasets.registry.load` does."""


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


def simulate(
    experiment: Experiment | None = None,
    strategy: Strategy | Algorithm | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    listener: Listener | None = None,
    host: Host | None = None,
    model: str | Callable[..., Any] | None = None,
    dataset: str | Callable[..., Any] | None = None,
) -> Result:
    """Run an experiment and record it in a run folder.

    Args:
        experiment: what to run; the defaults when None.
        strategy: an :class:`~strategies.Algorithm`, or any Flower strategy object (built in or
            third party); None takes the one that the experiment names.
        out: the run folder, which must not exist; made up under ``runs/`` when None.
        resume: go on in ``out`` from its last checkpoint.
        listener: hears progress; when None, notebooks show a bar and all else shows nothing.
        host: gives engine and data to the runs of a study; None: the run has its own.
        model: in the place of the experiment's: a name or a function.
        dataset: likewise.

    Raises:
        ConfigError: a bad experiment, or resources that no node has.
        RunError: a run folder that cannot be used.
        DataError: data that cannot be had.
        ModelError: a model that cannot be built or does not fit the data.

    Example:
        >>> from simulation import Experiment, simulate
        >>> result = simulate(Experiment(dataset="fashion-mnist-mini", clients=10, rounds=1))
        >>> result.summary["rounds"]
        1
    """
    experiment = asked(experiment or Experiment(), model=model, dataset=dataset)
    listener = Listeners([listener or _default(), *trackers.make(experiment.track)])
    chosen = make_strategy(experiment, strategy)
    if strategy is not None:
        named = getattr(chosen, "algorithm", None)
        title = named.name if named is not None else type(chosen).__name__
        experiment = experiment.model_copy(update={"name": experiment.name or title})
    path = Path(out) if out is not None else free_path(folder_name(experiment))
    if not resume:
        run_folder.check_free(path)
    preflight.check(experiment, path)
    preflight.check_realism(experiment, isinstance(chosen, Federated))
    with ExitStack() as stack:
        stack.enter_context(termination())
        stack.enter_context(flower_sampling.cohort_applied(chosen, experiment))
        if resume:
            check_same(path, experiment)
            preflight.check_resume(experiment, chosen)
            stack.enter_context(locked(path))
        start = _start(path, experiment, strategy) if resume else None
        listener.stage(f"loading {experiment.dataset}")
        data, parts = prepare(experiment, host.load if host else registry.load)
        engine = host.engine if host else partial(_engine, strategy=chosen)
        made = engine(experiment, listener)
        stack.callback(made.close)
        stack.enter_context(termination())  # Ray has put its own handler in our place.
        if not resume:
            stack.enter_context(new_folder(path))
        return _run(experiment, chosen, made, data, parts, path, start, listener)


def _start(
    path: Path, experiment: Experiment, strategy: Strategy | Algorithm | None
) -> checkpoint.Checkpoint | None:
    """Return what a resumed run goes on from; None if it has to begin anew."""
    start = checkpoint.latest(path / "checkpoint")
    if (
        start is None
        and (reading.read_json(path / "summary.json") or {}).get("status") == "complete"
    ):
        raise RunError(f"resume: {path} must have an undamaged checkpoint to go on from, got none")
    resuming.check_rounds(path, experiment, strategy, start.position.round if start else None)
    return start


def _default() -> Listener:
    return notebook.Notebook() if notebook.in_notebook() else Listener()


def _engine(experiment: Experiment, listener: Listener, strategy: Strategy) -> Engine:
    if experiment.resources.engine == "inline":
        from simulation.engines.inline import InlineEngine

        return InlineEngine(listener.clients, MessageExecutor)
    if experiment.resources.engine == "flower":
        from simulation.flower.runtime import FlowerRuntime

        return FlowerRuntime(experiment, listener.clients)
    with without_remarks():
        from simulation.engines.ray.engine import RayEngine

    resources = experiment.resources
    if experiment.mode == "centralised":
        resources = resources.model_copy(update={"workers": 1})
    along = shipping.packages(shipping.modules_of(experiment, strategy))
    return RayEngine(resources, listener.clients, ANSWERING, ship=along)


def _run(
    experiment: Experiment,
    strategy: Strategy,
    engine: Engine,
    data: Dataset,
    parts: AnyPartition,
    path: Path,
    start: checkpoint.Checkpoint | None,
    listener: Listener,
) -> Result:
    listener.stage("starting workers")
    threads = max(1, int(experiment.resources.client_cpus))
    setup = Setup(experiment, threads=threads, given=shipping.handed_over(experiment))
    if isinstance(strategy, Federated):
        algorithm = strategy.algorithm
        setup = replace(setup, rule=algorithm.client, reducer=algorithm.reducer)
    else:
        folds = engine.folds and their_strategies.needs_only_the_mean(strategy)
        reducer = WeightedMean() if folds else None
        setup = replace(setup, rule=their_strategies.client_rule(strategy), reducer=reducer)
    if setup.keeps_state and engine.folds:
        shelf = StateFolder(str(path.resolve() / "checkpoint" / checkpoint.CLIENTS))
        setup = replace(setup, shelf=shelf)
    engine.start(setup, data, parts)
    info = engine.info()
    memory.check(info.spec.size, engine.workers, engine.memory, experiment, setup)
    private = privacy_of(strategy, info.spec)
    for text in [*notes_of(experiment, strategy), *private.notes]:
        listener.note(text)
    if setup.shelf is not None:
        client_states.check_room(path, info.spec, len(setup.rule.own), setup.rule.local, experiment)
    existed = (path / "config.json").exists()
    config = {
        "label": experiment.label,
        "hash": experiment.digest(),
        "experiment": experiment.model_dump(mode="json"),
        "data": sizes_of(data, parts),
        "model": asdict(info.described),
        "parameters": info.spec.size,
        "workers": engine.workers,
        **({"weights": weights_of(setup.reducer)} if setup.reducer is not None else {}),
        "citations": citations(experiment),
    } | private.settings
    if existed:
        last = start.position.round if start else -1
        line = resuming.last_line(path, experiment, last) if start else -1
        folder = RunFolder.reopen(path, last, line, config)
    else:
        folder = RunFolder.create(path, config)
    with log_file(path / "run.log"):
        log.info("data from %s; %d workers", data.source, engine.workers)
        for note in [*data.notes, *private.notes]:
            log.info("%s", note)
        if experiment.evaluation.clients and experiment.mode == "federated":
            partition.tell_unmeasured(parts, experiment.partition.validation)
        if not existed and parts.train_sizes.size <= LABELLED:
            labels = data.labels
            if labels is not None and data.classes is not None:
                who = range(len(parts))
                folder.add_labels(partition.label_counts(parts, who, labels, data.classes))
        natural = experiment.partition.kind == "natural" and experiment.mode != "centralised"
        if not existed and natural and data.owner_names is not None:
            folder.add_owners(data.owner_names)
        driver = _driver(strategy, engine, info, experiment)
        position = Position(0, info.initial)
        if start is not None:
            position = start.position
            driver.state = start.state  # type: ignore[misc]
            engine.ledger.restore(start.clients)
        done = {record["round"] for record in reading.read_rounds(path)}
        for text in remarks(experiment, info.described):
            log.info("%s", text)
            listener.note(text)
        listener.opened(path)
        listener.begin(_as_drawn(experiment, strategy), engine.workers, position.round)
        local = experiment.mode == "local"
        evaluate = on_the_server(experiment, setup.rule, engine)
        alias = info.described.alias
        loop = Loop(experiment, driver, evaluate, folder, listener.line, engine.timeline, alias)
        began, before = time.perf_counter(), start.seconds if start else 0.0

        def saved(at: Position) -> None:
            seconds = before + time.perf_counter() - began
            whole = checkpoint.Checkpoint(at, driver.state, engine.ledger.stored, seconds)
            checkpoint.write(path / "checkpoint", whole)

        status = "failed"
        try:
            with disk(path):
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
            lines = reading.read_rounds(path)
            seconds = before + time.perf_counter() - began
            summary = summary_of(status, experiment, lines, position, seconds, info.spec)
            summary |= private.spent(lines)
            if start is None and engine.busy is not None:
                summary["busy_seconds"] = engine.busy
            if status == "complete":
                listener.stage("saving the model")
                with disk(path):
                    if local:  # There is no one model: what counts is what the clients keep.
                        summary["weights_sha256"] = client_states.sha256(engine.ledger.stored)
                    else:
                        folder.add_model(engine.save(position.model))
                    folder.finish(summary)
            else:
                with suppress(OSError):  # A full disk must not hide why the run ended.
                    folder.finish(summary)
            listener.end(summary)
    return Result(path, lines, summary, position.model, info.spec)


def _as_drawn(experiment: Experiment, strategy: Strategy) -> Experiment:
    """Return the experiment with the cohort that a Flower strategy really draws, if it says so."""
    if isinstance(strategy, Federated):
        return experiment
    size = flower_sampling.trained(strategy, experiment.clients)
    return experiment.model_copy(update={"cohort": size}) if size else experiment


def _driver(strategy: Strategy, engine: Engine, info: ModelInfo, experiment: Experiment) -> Driver:
    if isinstance(strategy, Federated) and engine.folds:
        return FoldingDriver(strategy, engine, info.spec, experiment)
    if isinstance(strategy, Federated):
        strategy.spec = info.spec
    scheduled = not info.learning_rate
    if experiment.resources.engine == "flower":
        from simulation.flower.runtime import FlowerRuntime

        assert isinstance(engine, FlowerRuntime)
        return MessagingDriver(strategy, engine.grid, info.spec, experiment, scheduled)
    folding = engine if engine.folds else None
    return MessagingDriver(strategy, MessageGrid(engine), info.spec, experiment, scheduled, folding)
