"""The reference engine: Flower's own Simulation Runtime, unchanged.

The same ``ClientApp`` as on our engines runs in Flower's actors; its ``ServerApp`` lends us its
``Grid`` for as long as the run lasts. Flower loads TensorFlow into this process, so the server's
evaluation happens here too. Under ``flwr run`` and in a deployment, it is Flower that starts us
(:mod:`simulation.runs.flower_server`), and the grid is the one that it gives us.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from functools import partial
from queue import Empty, Queue

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from simulation.config.experiment import Experiment
from simulation.datasets.dataset import Dataset
from simulation.engines.engine import Progress
from simulation.engines.inline import InlineEngine
from simulation.engines.ray.cluster import address_of
from simulation.flower.client_app import client_app
from simulation.flower.executor import always
from simulation.flower.nodes import NumberedGrid
from simulation.population.partition import AnyPartition
from simulation.training.backend import backend
from simulation.worker.setup import Setup


class FlowerRuntime(InlineEngine):
    """Flower's runtime, whose grid carries messages; what the server itself does is done here.

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
        lent: NumberedGrid | None = None,
    ) -> None:
        super().__init__(progress)
        self._experiment = experiment
        self._flower: NumberedGrid | None = lent
        self._failed: list[BaseException] = []
        self._handed_over: Queue[NumberedGrid] = Queue()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, setup: Setup, data: Dataset, partition: AnyPartition) -> None:
        """Start Flower's runtime, and wait until its ServerApp has lent its grid."""
        resources = self._experiment.resources
        if self._flower is None:
            os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
            library = backend(resources.library)
            os.environ.update(library.environment(setup.threads, resources.gpus))
        super().start(setup, data, partition)
        if self._flower is not None:
            self._listen(self._flower)
            return
        self._thread = threading.Thread(target=self._simulate, args=(setup,), daemon=True)
        self._thread.start()
        while self._flower is None:
            try:
                self._flower = self._handed_over.get(timeout=0.2)
            except Empty:
                if self._failed:
                    raise RuntimeError("Flower's runtime did not start") from self._failed[0]
        self._flower.wait()
        self._listen(self._flower)

    def _listen(self, grid: NumberedGrid) -> None:
        grid.answered = lambda replies: self.progress("message", replies, 0)

    def _simulate(self, setup: Setup) -> None:
        from flwr.simulation import run_simulation

        app = ServerApp()

        @app.main()
        def main(grid: Grid, context: Context) -> None:
            self._handed_over.put(NumberedGrid(grid, simulated=True))
            self._over.wait()

        resources = self._experiment.resources
        plan = {
            "client_resources": {
                "num_cpus": resources.client_cpus,
                "num_gpus": resources.gpus,
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
                    client_app(partial(always, setup)),
                    num_supernodes=len(self.partition),
                    backend_config=plan,
                )
        except Exception as error:
            self._failed.append(error)

    @property
    def grid(self) -> Grid:
        """Flower's grid, once the runtime has been started."""
        if self._flower is None:
            raise RuntimeError("the grid has not been started")
        return self._flower

    def close(self) -> None:
        """End the ServerApp, and with it Flower's runtime."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout=30)
