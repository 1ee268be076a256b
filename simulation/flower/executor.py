"""Executors for Flower: one that answers messages, and that of a process which Flower runs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment, parse
from simulation.config.given import admit
from simulation.config.overlay import overlay, toml_value
from simulation.config.strategy import make_strategy
from simulation.flower.client_app import answer, client_app
from simulation.population.deal import prepare
from simulation.worker.executor import Executor
from simulation.worker.setup import Setup

ANSWERING = "simulation.flower.executor:MessageExecutor"
"""What does the work in the actors of a run: it answers messages too."""


class MessageExecutor(Executor):
    """An executor that answers Flower messages too."""

    _app: ClientApp | None = None

    def answer(
        self, messages: Sequence[Message], states: Sequence[RecordDict | None]
    ) -> list[tuple[Message, RecordDict | None]]:
        """Run the ClientApp on messages; return each reply and the node's state."""
        if self._app is None:
            self._app = self.setup.app or client_app(lambda context: self)
        population = len(self.partition)
        return [
            answer(self._app, message, state, population)
            for message, state in zip(messages, states, strict=True)
        ]


_EXECUTORS: dict[str, Executor] = {}


def executor_here(setup: Setup) -> Executor:
    """Return this process's executor for a setup: data loaded, model built once."""
    resources = setup.experiment.resources
    key = f"{setup.experiment.digest()} {resources.library} {resources.lanes}"
    if key not in _EXECUTORS:
        Executor.prepare(setup.threads, resources.gpus, resources.library)
        admit(setup.given)
        _EXECUTORS.clear()  # one experiment at a time: its data is large
        _EXECUTORS[key] = Executor(setup, *prepare(setup.experiment))
    return _EXECUTORS[key]


def always(setup: Setup, context: Context) -> Executor:
    """Return this process's executor for a setup, whatever the context says."""
    return executor_here(setup)


OWN_KEYS = ("out", "set")
"""Keys of the run configuration that are none of an experiment's."""


def experiment_of(config: Mapping[str, Any], clients: int) -> Experiment:
    """Return the experiment that a Flower run configuration describes.

    Its keys are those of an experiment file; empty text leaves the default. The key ``set`` holds
    any others, as ``key=value`` with spaces between them.

    Args:
        config: ``context.run_config``.
        clients: how many there are: ``num-partitions``.

    Raises:
        ConfigError: one line per problem.
    """
    given = {k: v for k, v in config.items() if k not in OWN_KEYS and v != ""}
    for pair in shlex.split(str(config.get("set", ""))):
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"set must be key=value with spaces between them, got {pair!r}")
        given[key] = toml_value(value)
    return parse(overlay({"clients": clients, "resources": {"engine": "flower"}}, given))


def executor_of(context: Context) -> Executor:
    """Return this process's executor for the run that a context is of."""
    config = context.run_config
    experiment = experiment_of(config, int(context.node_config["num-partitions"]))
    rule = getattr(make_strategy(experiment), "algorithm", None)
    threads = max(1, int(experiment.resources.client_cpus))
    setup = Setup(experiment, threads=threads)
    return executor_here(setup if rule is None else replace(setup, rule=rule.client))
