"""One run from configuration to run folder: ``simulate(experiment)``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from flwr.serverapp.strategy import Strategy

from simulation.config import flower_sampling
from simulation.config.errors import RunError
from simulation.config.experiment import Experiment
from simulation.config.sections import Data
from simulation.config.strategy import asked
from simulation.config.strategy import make_strategy as make_strategy
from simulation.datasets import registry
from simulation.datasets.dataset import Dataset
from simulation.engines.engine import Engine
from simulation.listeners import notebook, trackers
from simulation.listeners.listener import Listener as Listener
from simulation.listeners.listener import Listeners
from simulation.population.deal import prepare
from simulation.records import checkpoint, reading, run_folder
from simulation.records.lock import locked
from simulation.records.log import new_folder
from simulation.records.run_folder import folder_name, free_path
from simulation.runs import preflight
from simulation.runs import resume as resuming
from simulation.runs.machinery import engine_for
from simulation.runs.recorded import RecordedRun
from simulation.runs.recorded import Result as Result
from simulation.runs.resume import check_same as check_same
from simulation.runs.signals import termination
from strategies import Algorithm, Federated


class Host(Protocol):
    """Where a run that is one of several gets its engine and its data."""

    def engine(self, experiment: Experiment, listener: Listener) -> Engine:
        """Return the run's engine; closing it must leave what it shares with other runs."""

    def load(self, name: str, data_dir: Path | None, how: Data | None) -> Dataset:
        """Return a dataset as :func:`simulation.datasets.registry.load` does."""


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
    preflight.check(experiment, path, resume)
    preflight.check_realism(experiment, isinstance(chosen, Federated))
    preflight.check_metrics(experiment, isinstance(chosen, Federated))
    preflight.check_devices(experiment, chosen)
    preflight.check_compression(experiment)
    preflight.check_root(experiment, chosen)
    with ExitStack() as stack:
        stack.enter_context(termination())
        stack.enter_context(flower_sampling.cohort_applied(chosen, experiment))
        if resume:
            check_same(path, experiment)
            experiment = resuming.as_computed(path, experiment)
            preflight.check_backend(experiment.resources)
            preflight.check_resume(experiment, chosen)
            stack.enter_context(locked(path))
        start = _start(path, experiment, strategy) if resume else None
        listener.stage(f"loading {experiment.dataset}")
        data, parts = prepare(experiment, host.load if host else registry.load)
        engine = host.engine if host else partial(engine_for, strategy=chosen)
        made = engine(experiment, listener)
        stack.callback(made.close)
        stack.enter_context(termination())  # Ray has put its own handler in our place.
        if not resume:
            stack.enter_context(new_folder(path))
        given = strategy is not None
        one = RecordedRun(experiment, chosen, made, data, parts, path, start, listener, given)
        return one.run()


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
