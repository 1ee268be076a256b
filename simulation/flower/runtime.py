"""The reference engine: Flower's own Simulation Runtime, unchanged.

The same ``ClientApp`` as on our engines runs in Flower's actors; its ``ServerApp`` lends us its
``Grid`` for as long as the run lasts. Flower loads TensorFlow into this process, so the server's
evaluation happens here too. Under ``flwr run`` and in a deployment, it is Flower that starts us
(:mod:`simulation.server_app`), and the grid is the one that it gives us.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from queue import Empty, Queue
from typing import Any

from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp

from simulation.config.experiment import Experiment
from simulation.datasets.dataset import Dataset
from simulation.engines.engine import EngineGrid, Progress
from simulation.engines.inline import InlineGrid
from simulation.engines.ray.cluster import address_of
from simulation.flower.client_app import client_app
from simulation.flower.executor import _always
from simulation.flower.nodes import Numbered
from simulation.flower.private import _same_identity
from simulation.population.partition import AnyPartition
from simulation.training.process import worker_environment
from simulation.worker.setup import Setup


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
