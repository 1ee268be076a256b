"""What a run is made of, by what the experiment says: setup, engine, driver."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from flwr.serverapp.strategy import Strategy

from simulation.config.experiment import Experiment
from simulation.engines.engine import Engine
from simulation.engines.ray import shipping
from simulation.engines.ray.quiet import without_remarks
from simulation.flower import their_strategies
from simulation.flower.driver import MessagingDriver
from simulation.flower.executor import ANSWERING, MessageExecutor
from simulation.flower.grid import MessageGrid
from simulation.listeners.listener import Listener
from simulation.population.attackers import attacked
from simulation.records import checkpoint
from simulation.records.client_states import StateFolder
from simulation.rounds.buffered import BufferedDriver
from simulation.rounds.clocked import ClockedDriver
from simulation.rounds.driver import Driver
from simulation.rounds.folding import FoldingDriver
from simulation.rounds.hierarchical import HierarchicalDriver
from simulation.training.measured import ModelInfo
from simulation.worker.meeting import Member
from simulation.worker.setup import Setup
from strategies import Federated, WeightedMean


def inline_engine(listener: Listener, member: Member | None = None) -> Engine:
    """Return an engine in this process, of a run alone or of a member of a group."""
    from simulation.engines.inline import InlineEngine

    return InlineEngine(listener.clients, MessageExecutor, member)


def engine_for(experiment: Experiment, listener: Listener, strategy: Strategy) -> Engine:
    """Return the engine that an experiment names, not started yet."""
    if experiment.resources.engine == "inline":
        return inline_engine(listener)
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


def setup_for(
    experiment: Experiment,
    strategy: Strategy,
    engine: Engine,
    path: Path,
    grouped: bool = False,
) -> Setup:
    """Return what the workers of a run need besides the data.

    Args:
        experiment: the experiment.
        strategy: what decides the clients' rule and how updates are folded.
        engine: where the workers are.
        path: the run folder, in which clients' states are kept.
        grouped: whether it trains as one of a group, though it may be by itself now.
    """
    threads = max(1, int(experiment.resources.client_cpus))
    given = shipping.handed_over(experiment)
    setup = Setup(experiment, threads=threads, given=given, grouped=grouped)
    if isinstance(strategy, Federated):
        algorithm = strategy.algorithm
        reducer = attacked(algorithm.reducer, experiment, experiment.clients)
        setup = replace(setup, rule=algorithm.client, reducer=reducer)
    else:
        folds = engine.folds and their_strategies.needs_only_the_mean(strategy)
        mean = attacked(WeightedMean(), experiment, experiment.clients) if folds else None
        setup = replace(setup, rule=their_strategies.client_rule(strategy), reducer=mean)
    if setup.keeps_state and engine.folds:
        folder = StateFolder(str(path.resolve() / "checkpoint" / checkpoint.CLIENTS))
        setup = replace(setup, shelf=folder)
    return setup


def has_clock(experiment: Experiment) -> bool:
    """Tell whether a run has a simulated clock; the baselines have none."""
    return experiment.devices is not None and experiment.mode == "federated"


def clocked_driver(experiment: Experiment) -> type[FoldingDriver]:
    """Return what trains the rounds of a run with a clock."""
    if experiment.schedule.one_by_one:
        return BufferedDriver
    return HierarchicalDriver if experiment.schedule.kind == "hierarchical" else ClockedDriver


def driver_for(
    strategy: Strategy, engine: Engine, info: ModelInfo, experiment: Experiment
) -> Driver:
    """Return what trains the rounds: by folding where the engine can, else by messages."""
    if isinstance(strategy, Federated) and engine.folds and has_clock(experiment):
        return clocked_driver(experiment)(strategy, engine, info.spec, experiment)
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
