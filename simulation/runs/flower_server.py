"""Sunflower's server as a Flower ``ServerApp``: for ``flwr run`` and for deployments.

The run configuration (``[tool.flwr.app.config]``) holds an experiment's keys; how many clients
there are is what their nodes say (``num-partitions``). The run folder is that of ``sunflower run``.
"""

from __future__ import annotations

from collections.abc import Mapping
from logging import INFO
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from typing_extensions import override

from simulation.config.experiment import Experiment
from simulation.datasets import registry
from simulation.flower import private
from simulation.flower.executor import experiment_of
from simulation.flower.nodes import NumberedGrid
from simulation.flower.runtime import FlowerRuntime
from simulation.runs.run import Listener, simulate

TOLD = {
    "server_accuracy": "accuracy",
    "server_loss": "loss",
    "client_accuracy": "clients' accuracy",
    "seconds": "seconds",
}
"""What a log line tells of a round: its key, and what it is called."""

log = private.logger().log

app = ServerApp()


class Lines(Listener):
    """Tells every round in a line of Flower's log."""

    @override
    def stage(self, text: str) -> None:
        log(INFO, "sunflower: %s", text)

    @override
    def note(self, text: str) -> None:
        log(INFO, "sunflower: %s", text)

    @override
    def begin(self, experiment: Experiment, workers: int, done: int) -> None:
        log(
            INFO,
            "sunflower: %s on %s, %d clients, %d rounds",
            experiment.label,
            experiment.dataset,
            experiment.clients,
            experiment.rounds,
        )

    @override
    def line(self, record: Mapping[str, Any]) -> None:
        known = {name: record.get(key) for key, name in TOLD.items()}
        parts = [f"{name} {value:.4f}" for name, value in known.items() if value is not None]
        log(INFO, "sunflower: round %d: %s", record["round"], ", ".join(parts))


class Lender:
    """Gives a run the grid that Flower has given us (a :class:`simulation.runs.run.Host`)."""

    load = staticmethod(registry.load)

    def __init__(self, grid: NumberedGrid) -> None:
        self._grid = grid

    def engine(self, experiment: Experiment, listener: Listener) -> FlowerRuntime:
        """Return the run's engine."""
        return FlowerRuntime(experiment, listener.clients, self._grid)


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the experiment that the run configuration describes on the nodes of a grid.

    Raises:
        ConfigError: a bad run configuration.
        RuntimeError: nodes that do not tell which client they are.
    """
    numbered = NumberedGrid(grid)
    experiment = experiment_of(context.run_config, numbered.wait())
    out = str(context.run_config.get("out", ""))
    result = simulate(
        experiment,
        out=Path(out) if out else None,
        listener=Lines(),
        host=Lender(numbered),
    )
    log(INFO, "sunflower: the run folder is %s", result.path.absolute())
