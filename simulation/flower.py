"""The reference engine: Flower's own Simulation Runtime, unchanged.

The same ``ClientApp`` as on our engines runs in Flower's actors; its ``ServerApp`` lends us its
``Grid`` for as long as the run lasts. Flower loads TensorFlow into this process, so the server's
evaluation happens here too. Under ``flwr run`` and in a deployment, it is Flower that starts us
(:mod:`simulation.server_app`), and the grid is the one that it gives us.
"""

from __future__ import annotations

import logging
import os
import shlex
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from queue import Empty, Queue
from typing import Any

from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.task_identity import TaskIdentity

from simulation.client_app import client_app
from simulation.cluster import address_of
from simulation.datasets import Dataset
from simulation.engine import EngineGrid, Progress
from simulation.experiment import ConfigError, Experiment, parse
from simulation.given import admit
from simulation.inline import InlineGrid
from simulation.numbered import Numbered
from simulation.options import overlay, toml_value
from simulation.partition import AnyPartition
from simulation.runtime import prepare_tensorflow, worker_environment
from simulation.work import Executor, Setup

_EXECUTORS: dict[str, Executor] = {}


def executor_here(setup: Setup) -> Executor:
    """Return this process's executor for a setup: data loaded, model built once."""
    key = setup.experiment.digest()
    if key not in _EXECUTORS:
        from simulation.run import prepare

        prepare_tensorflow(setup.threads, setup.experiment.resources.client_gpus)
        admit(setup.given)
        _EXECUTORS.clear()  # one experiment at a time: its data is large
        _EXECUTORS[key] = Executor(setup, *prepare(setup.experiment))
    return _EXECUTORS[key]


def _always(setup: Setup, context: Context) -> Executor:
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
    from simulation.run import make_strategy

    config = context.run_config
    experiment = experiment_of(config, int(context.node_config["num-partitions"]))
    rule = getattr(make_strategy(experiment), "algorithm", None)
    threads = max(1, int(experiment.resources.client_cpus))
    setup = Setup(experiment, threads=threads)
    return executor_here(setup if rule is None else replace(setup, rule=rule.client))


@contextmanager
def _same_identity() -> Iterator[None]:
    """Leave Flower's idea of who this process is as it was."""
    names = ("_task_id", "_run_id", "_node_id")
    before = {name: getattr(TaskIdentity, name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(TaskIdentity, name, value)


class FlowerGrid(EngineGrid):
    """Flower's runtime behind the interface of our engines; it speaks messages only.

    Args:
        experiment: what will run; its resources are given to Flower.
        progress: called as replies arrive.
        lent: the grid of a Flower runtime that runs already; None starts one.
    """

    folds = False

    def __init__(
        self,
        experiment: Experiment,
        progress: Progress | None = None,
        lent: Numbered | None = None,
    ) -> None:
        super().__init__(progress)
        self.simulated = lent is None  # What clients a grid has that is lent, only Flower knows.
        self._experiment = experiment
        self._local = InlineGrid()
        self._flower: Numbered | None = lent
        self._failed: list[BaseException] = []
        self._handed_over: Queue[Numbered] = Queue()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, setup: Setup, data: Dataset, partition: AnyPartition) -> None:
        """Start Flower's runtime, and wait until its ServerApp has lent its grid."""
        self.setup, self.data, self.partition = setup, data, partition
        if self._flower is not None:
            with _same_identity():
                self._local.start(setup, data, partition)
            return
        os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
        resources = self._experiment.resources
        os.environ.update(worker_environment(setup.threads, resources.client_gpus))
        self._local.start(setup, data, partition)
        self._thread = threading.Thread(target=self._simulate, args=(setup,), daemon=True)
        self._thread.start()
        while self._flower is None:
            try:
                self._flower = self._handed_over.get(timeout=0.2)
            except Empty:
                if self._failed:
                    raise RuntimeError("Flower's runtime did not start") from self._failed[0]
        self._flower.wait()

    def _simulate(self, setup: Setup) -> None:
        from flwr.simulation import run_simulation

        app = ServerApp()

        @app.main()
        def main(grid: Grid, context: Context) -> None:
            self._handed_over.put(Numbered(grid))
            self._over.wait()

        resources = self._experiment.resources
        backend = {
            "client_resources": {
                "num_cpus": resources.client_cpus,
                "num_gpus": resources.client_gpus,
            },
            "init_args": {
                # Without an address Ray joins whatever cluster was last started on this machine.
                "address": address_of(resources) or "local",
                "log_to_driver": False,
                "logging_level": logging.ERROR,
            },
        }
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run_simulation(
                    app,
                    client_app(partial(_always, setup)),
                    num_supernodes=len(self.partition),
                    backend_config=backend,
                )
        except Exception as error:
            self._failed.append(error)

    @property
    def _grid(self) -> Numbered:
        if self._flower is None:
            raise RuntimeError("the grid has not been started")
        return self._flower

    def get_node_ids(self) -> Iterable[int]:
        """Return the clients' numbers."""
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push messages through Flower's grid."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Pull replies from Flower's grid."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages through Flower's grid and wait for the replies."""
        replies = list(self._grid.send_and_receive(messages, timeout=timeout))
        self.progress("message", len(replies), 0)
        return replies

    def info(self) -> Any:
        """Return the model's layout and initial weights."""
        return self._local.info()

    def share(self, value: Any) -> Any:
        """Return the value itself."""
        return value

    def submit(
        self,
        call: str,
        *args: Any,
        first: bool = False,
        later: bool = False,
        done: Callable[[], None] | None = None,
        cost: float = 1.0,
        attempts: int | None = None,
    ) -> Any:
        """Carry out the server's own calls here."""
        return self._local.submit(call, *args, first=first, later=later, done=done)

    def result(self, ticket: Any, timeout: float | None = None) -> Any:
        """Return a call's result."""
        return self._local.result(ticket, timeout)

    def values_of(self, tickets: Sequence[Any]) -> list[Any]:
        """Return the values themselves."""
        return self._local.values_of(tickets)

    def kept(self, ticket: Any) -> Any:
        """Return what clients keep: Flower holds it, in their contexts."""
        return self._local.kept(ticket)

    def close(self) -> None:
        """End the ServerApp, and with it Flower's runtime."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout=30)
