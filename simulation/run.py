"""One run from configuration to run folder: ``simulate(experiment)``."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from flwr.serverapp.strategy import Strategy

from simulation import (
    bookkeeping,
    checkpoint,
    datasets,
    flower_sampling,
    foreign,
    memory,
    notebook,
    partition,
    plugins,
    preflight,
    results,
    resuming,
    ship,
    states,
    trackers,
)
from simulation.attack import attackers
from simulation.bookkeeping import (
    citations,
    disk,
    log_file,
    new_folder,
    notes_of,
    remarks,
    summary_of,
)
from simulation.chosen import asked
from simulation.chosen import make_strategy as make_strategy
from simulation.datasets import Dataset
from simulation.engine import EngineGrid
from simulation.evaluation import on_the_server
from simulation.experiment import Experiment
from simulation.listener import Listener as Listener
from simulation.listener import Listeners
from simulation.lock import locked, termination
from simulation.messaging import Messaging
from simulation.partition import AnyPartition
from simulation.privacy import privacy_of
from simulation.results import RunError, RunFolder
from simulation.resuming import check_same as check_same
from simulation.rounds import Driver, Folding, Loop, Position
from simulation.sections import Data
from simulation.states import Shelf
from simulation.work import ModelInfo, Setup
from strategies import Algorithm, Federated, WeightedMean
from strategies.core import Spec, Vector
from strategies.weights import weights_of

log = logging.getLogger("sunflower")

LABELLED = 10_000
"""Clients whose label counts are recorded, at most."""

Load = Callable[[str, Path | None, Data | None], Dataset]
"""Loads a dataset: :func:`simulation.datasets.load`."""


class Host(Protocol):
    """Where a run that is one of several gets its engine and its data."""

    def grid(self, experiment: Experiment, listener: Listener) -> EngineGrid:
        """Return the run's engine; closing it must leave what it shares with other runs."""

    def load(self, name: str, data_dir: Path | None, how: Data | None) -> Dataset:
        """Return a dataset as :func:`simulation.datasets.load` does."""


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
    path = Path(out) if out is not None else free_path(experiment)
    if not resume:
        results.check_free(path)
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
        data, parts = prepare(experiment, host.load if host else datasets.load)
        grid = host.grid(experiment, listener) if host else _engine(experiment, listener, chosen)
        stack.callback(grid.close)
        stack.enter_context(termination())  # Ray has put its own handler in our place.
        if not resume:
            stack.enter_context(new_folder(path))
        return _run(experiment, chosen, grid, data, parts, path, start, listener)


def _start(
    path: Path, experiment: Experiment, strategy: Strategy | Algorithm | None
) -> checkpoint.Checkpoint | None:
    """Return what a resumed run goes on from; None if it has to begin anew."""
    start = checkpoint.latest(path / "checkpoint")
    if (
        start is None
        and (results.read_json(path / "summary.json") or {}).get("status") == "complete"
    ):
        raise RunError(f"resume: {path} must have an undamaged checkpoint to go on from, got none")
    resuming.check_rounds(path, experiment, strategy, start.position.round if start else None)
    return start


def _default() -> Listener:
    return notebook.Notebook() if notebook.in_notebook() else Listener()


def prepare(experiment: Experiment, load: Load = datasets.load) -> tuple[Dataset, AnyPartition]:
    """Load an experiment's data and deal it to the clients.

    The centralised baseline is one client that holds the training rows of all.
    """
    data = load(experiment.dataset, experiment.data_dir, experiment.data)
    preflight.check_targets(experiment, data)
    plan, labels = experiment.partition, data.labels
    attackers(experiment, experiment.clients, None if labels is None else data.classes)
    parts = partition.make(
        plan.kind,
        data.y_train if labels is None else labels,
        experiment.clients,
        experiment.seed,
        alpha=plan.alpha,
        classes_per_client=plan.classes_per_client,
        shards_per_client=plan.shards_per_client,
        examples_per_client=plan.examples_per_client,
        law=plan.law,
        validation=plan.validation,
        owners=data.owners,
    )
    if experiment.mode == "centralised":
        pooled = np.sort(np.concatenate([parts.train_rows(c) for c in range(len(parts))]))
        rows = np.unique(pooled).astype(np.int32)
        size = np.array([0, len(rows)], np.int64)
        parts = partition.Partition(rows, size, np.array([len(rows)], np.int32))
    return data, parts


def free_path(experiment: Experiment) -> Path:
    """Return a folder under ``runs/`` that does not exist yet, named after the experiment."""
    slug = re.sub(r"[^a-z0-9.]+", "-", experiment.label.lower()).strip("-")
    dataset = re.sub(r"[^A-Za-z0-9._-]+", "-", experiment.dataset).strip("-")
    base = Path("runs") / f"{slug}-{dataset}-seed{experiment.seed}"
    number, path = 1, base
    while path.exists():
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path


def _engine(experiment: Experiment, listener: Listener, strategy: Strategy) -> EngineGrid:
    if experiment.resources.engine == "inline":
        from simulation.inline import InlineGrid

        return InlineGrid(listener.clients)
    if experiment.resources.engine == "flower":
        from simulation.flower import FlowerGrid

        return FlowerGrid(experiment, listener.clients)
    with notebook.without_remarks():
        from simulation.grid import RayGrid

    resources = experiment.resources
    if experiment.mode == "centralised":
        resources = resources.model_copy(update={"workers": 1})
    along = ship.packages(ship.modules_of(experiment, strategy))
    return RayGrid(resources, listener.clients, ship=along)


def _run(
    experiment: Experiment,
    strategy: Strategy,
    grid: EngineGrid,
    data: Dataset,
    parts: AnyPartition,
    path: Path,
    start: checkpoint.Checkpoint | None,
    listener: Listener,
) -> Result:
    listener.stage("starting workers")
    threads = max(1, int(experiment.resources.client_cpus))
    setup = Setup(experiment, threads=threads, given=plugins.handed_over(experiment))
    if isinstance(strategy, Federated):
        algorithm = strategy.algorithm
        setup = replace(setup, rule=algorithm.client, reducer=algorithm.reducer)
    else:
        folds = grid.folds and foreign.needs_only_the_mean(strategy)
        reducer = WeightedMean() if folds else None
        setup = replace(setup, rule=foreign.client_rule(strategy), reducer=reducer)
    if setup.keeps_state and grid.folds:
        shelf = Shelf(str(path.resolve() / "checkpoint" / checkpoint.CLIENTS))
        setup = replace(setup, shelf=shelf)
    grid.start(setup, data, parts)
    info = grid.info()
    memory.check(info.spec.size, grid.workers, grid.memory, experiment, setup)
    private = privacy_of(strategy, info.spec)
    for text in [*notes_of(experiment, strategy), *private.notes]:
        listener.note(text)
    if setup.shelf is not None:
        states.check_room(path, info.spec, len(setup.rule.own), setup.rule.local, experiment)
    existed = (path / "config.json").exists()
    config = {
        "label": experiment.label,
        "hash": experiment.digest(),
        "experiment": experiment.model_dump(mode="json"),
        "data": bookkeeping.sizes_of(data, parts),
        "model": asdict(info.described),
        "parameters": info.spec.size,
        "workers": grid.workers,
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
        log.info("data from %s; %d workers", data.source, grid.workers)
        for note in [*data.notes, *private.notes]:
            log.info("%s", note)
        if experiment.evaluation.clients and experiment.mode == "federated":
            partition.tell_unmeasured(parts, experiment.partition.validation)
        if not existed and parts.train_sizes.size <= LABELLED:
            labels = data.labels
            if labels is not None and data.classes is not None:
                folder.add_labels(parts.label_counts(labels, data.classes))
        natural = experiment.partition.kind == "natural" and experiment.mode != "centralised"
        if not existed and natural and data.owner_names is not None:
            folder.add_owners(data.owner_names)
        driver = _driver(strategy, grid, info, experiment)
        position = Position(0, info.initial)
        if start is not None:
            position = start.position
            driver.state = start.state  # type: ignore[misc]
            grid.restore_clients(start.clients)
        done = {record["round"] for record in results.read_rounds(path)}
        for text in remarks(experiment, info.described):
            log.info("%s", text)
            listener.note(text)
        listener.opened(path)
        listener.begin(_as_drawn(experiment, strategy), grid.workers, position.round)
        local = experiment.mode == "local"
        evaluate = on_the_server(experiment, setup.rule, grid)
        alias = info.described.alias
        loop = Loop(experiment, driver, evaluate, folder, listener.line, grid.timeline, alias)
        began, before = time.perf_counter(), start.seconds if start else 0.0

        def saved(at: Position) -> None:
            seconds = before + time.perf_counter() - began
            whole = checkpoint.Checkpoint(at, driver.state, grid.stored, seconds)
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
            status = bookkeeping.status_of(error)
            log.exception("the run %s", status)
            raise
        finally:
            lines = results.read_rounds(path)
            seconds = before + time.perf_counter() - began
            summary = summary_of(status, experiment, lines, position, seconds, info.spec)
            summary |= private.spent(lines)
            if start is None and grid.busy is not None:
                summary["busy_seconds"] = grid.busy
            if status == "complete":
                listener.stage("saving the model")
                with disk(path):
                    if local:  # There is no one model: what counts is what the clients keep.
                        summary["weights_sha256"] = states.digest(grid.stored)
                    else:
                        folder.add_model(grid.save(position.model))
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


def _driver(
    strategy: Strategy, grid: EngineGrid, info: ModelInfo, experiment: Experiment
) -> Driver:
    if isinstance(strategy, Federated) and grid.folds:
        return Folding(strategy, grid, info.spec, experiment)
    if isinstance(strategy, Federated):
        strategy.spec = info.spec
    return Messaging(strategy, grid, info.spec, experiment, not info.learning_rate)
