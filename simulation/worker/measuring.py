"""How a process measures models: on clients' examples, on the server's, and with a backdoor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.datasets import inputs
from simulation.datasets.dataset import Dataset
from simulation.population.backdoor import Backdoor
from simulation.population.partition import AnyPartition
from simulation.population.semantic import SemanticBackdoor
from simulation.records.client_states import Handle
from simulation.records.rows import Rows
from simulation.training.backend import Trainer
from simulation.training.measured import Measured
from simulation.worker.client_state import ClientState, StateLayout
from simulation.worker.setup import Setup
from strategies.spec import Vector


class Measuring:
    """Measure models with a trainer; what it needs is there once the process is set up."""

    setup: Setup
    data: Dataset
    partition: AnyPartition
    trainer: Trainer
    layout: StateLayout
    backdoor: Backdoor | SemanticBackdoor | None

    def read(self, handle: Handle | None) -> ClientState | None:
        """Return the state that a handle stands for."""
        return None if handle is None else self.layout.unpack(handle.load())

    def evaluate_clients(self, clients: NDArray[np.int64], model: Vector) -> Rows:
        """Return loss and accuracy of a model on each client's validation examples."""
        parts = [self.partition.validation_rows(c) for c in clients.tolist()]
        sizes = np.array([len(p) for p in parts], np.int64)
        at = np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)
        batch = self.setup.experiment.evaluation.batch_size
        found = self.trainer.evaluate(
            model, self.data.x_train, self.data.y_train, at, sizes.tolist(), batch,
            self.data.sample_weight,
        )  # fmt: skip
        with np.errstate(invalid="ignore", divide="ignore"):
            rows = {
                "client": clients,
                "examples": sizes,
                "loss": found.loss / sizes,
                "accuracy": found.right / found.count,
                "counted": found.count,
            }
        return rows | self.trainer.metrics.columns(found.states)

    def evaluate_test(self, start: int, stop: int, model: Vector) -> Measured:
        """Return what rows of the server's test set give."""
        at = np.arange(start, stop)
        batch = self.setup.experiment.evaluation.batch_size
        return self.trainer.evaluate(
            model, self.data.x_test, self.data.y_test, at, None, batch,
            self.data.sample_weight_test,
        )  # fmt: skip

    def evaluate_backdoor(self, start: int, stop: int, model: Vector) -> Measured:
        """Return how test examples that a backdoor is for do as examples of the target class.

        Args:
            start: the first place among their rows.
            stop: behind the last one.
            model: weights [P].
        """
        assert self.backdoor is not None
        rows = self.backdoor.tested[start:stop]
        x: Any = inputs.rows(self.data.x_test, rows)
        y = self.backdoor.as_target(self.data.y_test[rows])
        weights = self.data.sample_weight_test
        batch = self.setup.experiment.evaluation.batch_size
        return self.trainer.evaluate(
            model, self.backdoor.shown(x), y, np.arange(len(rows)), None, batch,
            None if weights is None else weights[rows],
        )  # fmt: skip

    def evaluate_test_own(self, model: Vector, states: Sequence[Handle | None]) -> dict[str, float]:
        """Return sums over clients: loss, accuracy and further metrics of each on the test set."""
        rows, total = len(self.data.y_test), dict[str, float]()
        for state in states:
            own = self.layout.personal(np.array(model), self.read(state))
            found = self.evaluate_test(0, rows, own)
            values = {"loss": found.loss[0] / rows, "accuracy": found.right[0] / found.count[0]}
            values |= self.metric_results(found.states[0])
            total = {name: total.get(name, 0.0) + float(v) for name, v in values.items()}
        return total

    def metric_results(self, states: NDArray[Any]) -> dict[str, float]:
        """Return the values of the model's own metrics, by name, for their variables [S]."""
        metrics = self.trainer.metrics
        values = metrics.results(states[None])[0] if metrics.size else ()
        return {name: float(value) for name, value in zip(metrics.names, values, strict=True)}
