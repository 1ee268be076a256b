"""One process's share of the work: train chunks of clients, evaluate, answer Flower messages.

An :class:`Executor` lives in every Ray worker, and in the driver with the inline engine. Calls go
by name, so that an engine needs to know none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simulation import schedule
from simulation.datasets import Dataset
from simulation.experiment import Experiment
from simulation.partition import AnyPartition
from strategies.core import ClientRule, Reducer, Spec, Update, Vector

if TYPE_CHECKING:
    from flwr.app import Message, RecordDict
    from flwr.clientapp import ClientApp

    from simulation.client import Trained

Rows = dict[str, NDArray[Any]]
"""Per-client columns of equal length: client, examples, loss, accuracy and the like."""


@dataclass(frozen=True)
class ModelInfo:
    """What the server must know of the model: its layout and its initial weights [P]."""

    spec: Spec
    initial: Vector
    learning_rate: float


@dataclass(frozen=True)
class Setup:
    """Everything that a worker needs besides the data.

    Args:
        experiment: the experiment.
        rule: the strategy's client rule.
        reducer: how updates are folded on the worker; None when only messages are used.
        app: a ``ClientApp`` that answers messages; Sunflower's own when None.
        threads: TensorFlow threads of a worker.
    """

    experiment: Experiment
    rule: ClientRule = field(default_factory=ClientRule)
    reducer: Reducer | None = None
    app: ClientApp | None = None
    threads: int = 1

    @property
    def keeps_slots(self) -> bool:
        """Whether the optimiser goes on from round to round (the centralised baseline)."""
        return self.experiment.mode == "centralised"

    @property
    def keeps_state(self) -> bool:
        """Whether clients keep anything from round to round."""
        return bool(self.rule.own) or self.keeps_slots


class Executor:
    """Do the work of one process. Building it imports TensorFlow and builds the model."""

    def __init__(self, setup: Setup, data: Dataset, partition: AnyPartition) -> None:
        from simulation.client import Trainer

        self.setup = setup
        self.data = data
        self.partition = partition
        self.trainer = Trainer(
            setup.experiment, data.x_train, data.y_train, data.classes, data.scale, setup.rule
        )
        self._app: ClientApp | None = setup.app

    @staticmethod
    def prepare(threads: int, gpus: float) -> None:
        """Make the process ready (imports TensorFlow), before there is anything to do."""
        from simulation.runtime import prepare_tensorflow

        prepare_tensorflow(threads, gpus)

    def info(self) -> ModelInfo:
        """Return the model's layout and initial weights."""
        return self.trainer.info

    def warm_up(self, shared: Mapping[str, Any]) -> None:
        """Compile the training graph on one batch, so that round 1 does not wait for it."""
        size = min(2, len(self.data.x_train))
        x, y = self.data.x_train[:size], self.data.y_train[:size]
        self.trainer.train(0, 0, self.trainer.initial, x, y, shared=shared)

    def train(
        self,
        round: int,
        node: schedule.Tree[NDArray[np.int64]],
        model: Vector,
        shared: Mapping[str, Any],
        states: Sequence[Vector | None],
    ) -> tuple[tuple[Any, Rows], Vector | None]:
        """Train the clients below a node of the merge tree, and merge their updates as it says.

        Args:
            round: the round, from 1.
            node: a chunk (the numbers of its clients), or a tuple of nodes.
            model: global weights [P].
            shared: what the server shares.
            states: what each client kept from its last round, None where it is its first.

        Returns:
            ``((partial, rows), kept)``: the node's partial, a row per client, and a row of
            kept state per client [clients, ...] (None if clients keep nothing).
        """
        import tensorflow as tf

        assert self.setup.reducer is not None
        reducer, flat, left = self.setup.reducer, tf.constant(model), iter(states)
        rows = _Columns("client", "examples", "steps", "train_loss", "train_accuracy")
        kept: list[Vector] = []

        def partial(node: schedule.Tree[NDArray[np.int64]]) -> Any:
            if isinstance(node, tuple):
                return schedule.fold((partial(child) for child in node), reducer.merge)
            total = None
            for client in node.tolist():
                trained = self._train_one(client, round, flat, shared, next(left))
                total = reducer.fold(total, trained.update)
                rows.add_update(trained.update)
                if self.setup.keeps_state:
                    kept.append(self._pack(trained.own, trained.slots))
            return total

        return (partial(node), rows.arrays()), np.stack(kept) if kept else None

    def _train_one(
        self, client: int, round: int, flat: Any, shared: Mapping[str, Any], state: Vector | None
    ) -> Trained:
        at = self.partition.train_rows(client)
        own, slots = self._unpack(state)
        return self.trainer.train(
            client,
            round,
            flat,
            self.data.x_train[at],
            self.data.y_train[at],
            epochs=self.setup.experiment.training.local_epochs,
            shared=shared,
            own=own,
            slots=slots,
        )

    def merge(self, *results: tuple[Any, Rows]) -> tuple[Any, Rows]:
        """Merge the results of a node's children, from the left."""
        assert self.setup.reducer is not None
        partial = schedule.fold((r[0] for r in results), self.setup.reducer.merge)
        return partial, join([r[1] for r in results])

    def evaluate_clients(self, clients: NDArray[np.int64], model: Vector) -> Rows:
        """Return loss and accuracy of a model on each client's validation examples."""
        parts = [self.partition.validation_rows(c) for c in clients.tolist()]
        sizes = np.array([len(p) for p in parts], np.int64)
        at = np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)
        batch = self.setup.experiment.evaluation.batch_size
        loss, right = self.trainer.evaluate(model, self.data.x_train, self.data.y_train, at, batch)
        return {
            "client": clients,
            "examples": sizes,
            "loss": segment_means(loss, sizes),
            "accuracy": segment_means(right, sizes),
        }

    def evaluate_test(self, start: int, stop: int, model: Vector) -> tuple[int, float, float]:
        """Return count and sums of loss and correctness over rows of the server's test set."""
        at = np.arange(start, stop)
        batch = self.setup.experiment.evaluation.batch_size
        loss, right = self.trainer.evaluate(model, self.data.x_test, self.data.y_test, at, batch)
        return len(at), float(loss.sum(dtype=np.float64)), float(right.sum(dtype=np.float64))

    def answer(
        self, messages: Sequence[Message], states: Sequence[RecordDict | None]
    ) -> list[tuple[Message, RecordDict | None]]:
        """Run the ClientApp on Flower messages; return each reply and the node's state."""
        from simulation.client_app import answer, client_app

        if self._app is None:
            self._app = client_app(lambda: self)
        population = len(self.partition)
        return [
            answer(self._app, message, state, population)
            for message, state in zip(messages, states, strict=True)
        ]

    def save(self, model: Vector) -> bytes:
        """Return a model of weights [P] as the bytes of a ``.keras`` file."""
        import tempfile
        from pathlib import Path

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"
            self.trainer.save(model, str(path))
            return path.read_bytes()

    def _pack(self, own: Mapping[str, Vector], slots: Vector | None) -> Vector:
        parts = [own[name] for name in self.setup.rule.own]
        if slots is not None:
            parts.append(slots)
        return np.concatenate(parts).astype(np.float32)

    def _unpack(self, state: Vector | None) -> tuple[dict[str, Vector] | None, Vector | None]:
        fresh = self.trainer.initial_slots if self.setup.keeps_slots else None
        if state is None:
            return None, fresh
        names, size = self.setup.rule.own, self.trainer.spec.trainable_size
        own = {name: state[i * size : (i + 1) * size] for i, name in enumerate(names)}
        return own, state[len(names) * size :] if self.setup.keeps_slots else None


class _Columns:
    """Collects rows, gives columns."""

    def __init__(self, *names: str) -> None:
        self._lists: dict[str, list[float]] = {name: [] for name in names}

    def add_update(self, update: Update) -> None:
        metrics = update.metrics
        values = (update.client, update.examples, update.steps)
        measured = (metrics["loss"], metrics["accuracy"])
        for column, value in zip(self._lists.values(), (*values, *measured), strict=True):
            column.append(value)

    def arrays(self) -> Rows:
        return {name: np.asarray(values) for name, values in self._lists.items()}


def join(parts: Sequence[Rows]) -> Rows:
    """Join rows of several chunks."""
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def segment_means(values: NDArray[Any], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean of each run of ``sizes[i]`` neighbouring values; NaN for an empty run."""
    ends = np.cumsum(sizes)
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    with np.errstate(invalid="ignore", divide="ignore"):
        return (sums[ends] - sums[ends - sizes]) / sizes
