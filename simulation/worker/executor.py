"""One process's share of the work: train chunks of clients, evaluate, answer Flower messages.

An :class:`Executor` lives in every Ray worker, and in the driver with the inline engine. Calls go
by name, so that an engine needs to know none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simulation.config.given import admit
from simulation.datasets import inputs
from simulation.datasets.dataset import Dataset
from simulation.population import behaviour
from simulation.population.attackers import attackers
from simulation.population.partition import AnyPartition
from simulation.records import rows as leaf_rows
from simulation.records.client_states import Handle, StateError
from simulation.records.rows import Row, Rows, join
from simulation.training.client_config import AS_CONFIGURED, ClientConfig
from simulation.training.measured import Measured
from simulation.training.trainers import example_weights, trainer_for
from simulation.worker import chunk as leaf
from simulation.worker import tree
from simulation.worker.chunk import Order, Part
from simulation.worker.client_state import LOCAL
from simulation.worker.faults import Lost
from simulation.worker.group_trainer import Ahead
from strategies.adaptive import proximal_as_told
from strategies.core import Vector, merge_all
from strategies.personal import local_entries
from strategies.sums import Streaming

if TYPE_CHECKING:
    from flwr.app import Message, RecordDict
    from flwr.clientapp import ClientApp

    from simulation.training.backend import Trained
    from simulation.training.tensorflow.trainer import Trainer
from simulation.training.backend import ModelInfo
from simulation.worker.chunk import merge_parts
from simulation.worker.setup import Setup

ROWS_TOGETHER = 4096
"""Examples of the clients that one call of the graph trains, at most (unless one has more)."""


class Executor:
    """Do the work of one process. Building it imports TensorFlow and builds the model."""

    def __init__(self, setup: Setup, data: Dataset, partition: AnyPartition) -> None:
        admit(setup.given)
        self.setup = setup
        self.data = data
        self.partition = partition
        self.trainer = trainer_for(setup, data)
        self._app: ClientApp | None = setup.app
        rule = setup.rule
        self.local = local_entries(self.trainer.spec, rule.local) if rule.local else None
        classes = None if data.labels is None else data.classes
        self.attackers = attackers(setup.experiment, len(partition), classes)
        # Where deltas are only ever summed up, they need not be written.
        streams = isinstance(setup.reducer, Streaming)
        self.late = streams and self.local is None and self.attackers is None
        self.weights = example_weights(setup.experiment, data)

    @staticmethod
    def prepare(threads: int, gpus: float) -> None:
        """Make the process ready (imports TensorFlow), before there is anything to do."""
        from simulation.training.tensorflow.process import prepare_tensorflow

        prepare_tensorflow(threads, gpus)

    def info(self) -> ModelInfo:
        """Return the model's layout and initial weights."""
        return self.trainer.info

    def warm_up(self, shared: Mapping[str, Any]) -> None:
        """Compile the training graph on one batch, so that round 1 does not wait for it."""
        x, y = inputs.rows(self.data.x_train, slice(2)), self.data.y_train[:2]
        weights = None if self.weights is None else self.weights[:2]
        self.trainer.train(0, 0, self.trainer.initial, x, y, shared=shared, weights=weights)

    @cached_property
    def proximal(self) -> Trainer:
        """A trainer that pulls clients towards the received model: for messages that ask for it."""
        return trainer_for(replace(self.setup, rule=proximal_as_told()), self.data)

    def train(
        self,
        round: int,
        node: tree.Tree[NDArray[np.int64]],
        model: Vector,
        shared: Mapping[str, Any],
        states: Sequence[Handle | None],
        skip: Mapping[int, str] | None = None,
        config: ClientConfig = AS_CONFIGURED,
        parts: Mapping[int, float] | None = None,
    ) -> tuple[Part, Any]:
        """Train the clients below a node of the merge tree, and merge their updates as it says.

        Args:
            round: the round, from 1.
            node: a chunk (the numbers of its clients), or a tuple of nodes.
            model: global weights [P].
            shared: what the server shares.
            states: of each client what stands for its state, None where it is its first round.
            skip: clients to leave out, with the reason.
            config: what the strategy decides of local training in this round.
            parts: of stragglers, which part of their local work they do.

        Returns:
            ``(part, kept)``: the node's :class:`~simulation.worker.chunk.Part`, and of each client
            that contributed the sha256 of its state's file, or, where there is no shelf, the state
            itself: an array [clients, ...] (None if clients keep nothing).
        """
        import tensorflow as tf

        assert self.setup.reducer is not None
        reducer, left, skip = self.setup.reducer, iter(states), skip or {}
        order = Order(round, tf.constant(model), shared, config, parts or {})
        ids = np.concatenate(list(tree.leaves(node))).tolist()
        there = [place for place, client in enumerate(ids) if client not in skip]
        ahead = Ahead(self, order, [ids[i] for i in there], [states[i] for i in there])
        rows: list[Row] = []
        kept: list[Any] = []
        lost: list[Lost] = []

        def partial(node: tree.Tree[NDArray[np.int64]]) -> Any:
            if isinstance(node, tuple):
                return merge_all(reducer, (partial(child) for child in node), own=True)
            ids = node.tolist()
            done = leaf.train(self, ids, [next(left) for _ in ids], order, skip, ahead)
            rows.extend(done.rows)
            kept.extend(done.kept)
            lost.extend(done.lost)
            return done.total

        total = partial(node)
        table = leaf_rows.columns(rows, self.trainer.measures.metrics)
        part = Part(total, table, tuple(lost))
        return part, kept if self.setup.shelf or not kept else np.stack(kept)

    def together(self, chunk: Sequence[int]) -> Iterator[list[int]]:
        """Cut a chunk into the clients that one call of the graph trains."""
        most = 1 if self.setup.keeps_state else self.trainer.together
        ids: list[int] = []
        rows = 0
        for client in chunk:
            size = len(self.partition.train_rows(client))
            if ids and (len(ids) == most or rows + size > ROWS_TOGETHER):
                yield ids
                ids, rows = [], 0
            ids.append(client)
            rows += size
        if ids:
            yield ids

    def train_some(
        self, clients: list[int], order: Order, states: Sequence[Handle | None]
    ) -> list[Trained]:
        """Train clients in one call of the graph."""
        parts = [self.partition.train_rows(client) for client in clients]
        at = parts[0] if len(parts) == 1 else np.concatenate(parts)
        state = None if states[0] is None else states[0].load()
        own, slots = self._unpack(state)
        flat = order.flat if self.local is None else self.personal(np.array(order.flat), state)
        sizes = [len(p) for p in parts]
        y = self.data.y_train[at]
        if self.attackers is not None:
            y = self.attackers.labels(clients, sizes, y)
        done = self.trainer.train_many(
            clients,
            sizes,
            order.round,
            flat,
            inputs.rows(self.data.x_train, at),
            y,
            epochs=order.config.epochs or self.setup.experiment.training.local_epochs,
            shared=order.shared,
            own=None if own is None else [own],
            slots=slots,
            steps=self.limits(clients, sizes, order.parts, order.config),
            late=self.late,
            learning_rate=order.config.learning_rate,
            batch_size=order.config.batch_size,
            weights=None if self.weights is None else self.weights[at],
        )
        if self.local is not None:
            done = [self.keep_local(t, flat) for t in done]
        if self.attackers is None:
            return done
        return [replace(t, update=self.attackers.sent(t.update, order.round)) for t in done]

    def limits(
        self,
        clients: Sequence[int],
        sizes: Sequence[int],
        parts: Mapping[int, float],
        config: ClientConfig = AS_CONFIGURED,
    ) -> list[int | None] | None:
        """Return how many steps each straggler takes, None for others; None where all keep up."""
        if not parts:
            return None
        experiment = self.setup.experiment
        epochs = config.epochs or experiment.training.local_epochs
        batch = config.batch_size or experiment.training.batch_size
        return [
            behaviour.steps_of(parts[client], epochs * -(-n // batch)) if client in parts else None
            for client, n in zip(clients, sizes, strict=True)
        ]

    def merge(self, *results: Part) -> Part:
        """Merge the results of a node's children, from the left."""
        assert self.setup.reducer is not None
        return merge_parts(results, self.setup.reducer)

    def evaluate_clients(self, clients: NDArray[np.int64], model: Vector) -> Rows:
        """Return loss and accuracy of a model on each client's validation examples."""
        parts = [self.partition.validation_rows(c) for c in clients.tolist()]
        sizes = np.array([len(p) for p in parts], np.int64)
        at = np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)
        batch = self.setup.experiment.evaluation.batch_size
        found = self.trainer.evaluator.evaluate(
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
        return rows | self.trainer.measures.metrics.columns(found.states)

    def evaluate_own(
        self, clients: NDArray[np.int64], model: Vector, states: Sequence[Handle | None]
    ) -> Rows:
        """Return loss and accuracy of each client's personal model on its validation examples."""
        found = []
        for client, state in zip(np.split(clients, len(clients)), states, strict=True):
            own = self.personal(np.array(model), None if state is None else state.load())
            found.append(self.evaluate_clients(client, own))
        return join(found)

    def evaluate_test(self, start: int, stop: int, model: Vector) -> Measured:
        """Return what rows of the server's test set give."""
        at = np.arange(start, stop)
        batch = self.setup.experiment.evaluation.batch_size
        return self.trainer.evaluator.evaluate(
            model, self.data.x_test, self.data.y_test, at, None, batch,
            self.data.sample_weight_test,
        )  # fmt: skip

    def evaluate_test_own(self, model: Vector, states: Sequence[Handle | None]) -> dict[str, float]:
        """Return sums over clients: loss, accuracy and further metrics of each on the test set."""
        rows, total = len(self.data.y_test), dict[str, float]()
        for state in states:
            own = self.personal(np.array(model), None if state is None else state.load())
            found = self.evaluate_test(0, rows, own)
            values = {"loss": found.loss[0] / rows, "accuracy": found.right[0] / found.count[0]}
            values |= self.metric_results(found.states[0])
            total = {name: total.get(name, 0.0) + float(v) for name, v in values.items()}
        return total

    def metric_results(self, states: NDArray[Any]) -> dict[str, float]:
        """Return the values of the model's own metrics, by name, for their variables [S]."""
        metrics = self.trainer.measures.metrics
        values = metrics.results(states[None])[0] if metrics.size else ()
        return {name: float(value) for name, value in zip(metrics.names, values, strict=True)}

    def answer(
        self, messages: Sequence[Message], states: Sequence[RecordDict | None]
    ) -> list[tuple[Message, RecordDict | None]]:
        """Run the ClientApp on Flower messages; return each reply and the node's state."""
        from simulation.flower.client_app import answer, client_app

        if self._app is None:
            self._app = client_app(lambda context: self)
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

    def pack(self, own: Mapping[str, Vector], slots: Vector | None) -> Vector:
        """Return what a client keeps as one vector."""
        parts = [own[name] for name in self.setup.rule.own]
        if slots is not None:
            parts.append(slots)
        if self.local is not None:
            parts.append(own[LOCAL])
        return np.concatenate(parts).astype(np.float32)

    def put_away(self, trained: Trained, round: int) -> Any:
        """Put what a client keeps on the shelf and return its sha256; without one, return it."""
        state = self.pack(trained.own, trained.slots)
        if self.setup.shelf is None:
            return state
        try:
            return self.setup.shelf.put(trained.update.client, round, state).digest
        except OSError as error:
            raise StateError(str(error)) from error

    def personal(self, model: Vector, state: Vector | None) -> Vector:
        """Put the weights that stay on a client into ``model`` [P], and return it."""
        if self.local is not None and state is not None:
            model[self.local] = state[-len(self.local) :]
        return model

    def keep_local(self, trained: Trained, start: Vector) -> Trained:
        """Take the weights that stay on the client out of its update."""
        delta = trained.update.delta.copy()
        kept = start[self.local] + delta[self.local]
        delta[self.local] = 0.0
        own = {**trained.own, LOCAL: kept}
        return replace(trained, update=replace(trained.update, delta=delta), own=own)

    def _unpack(self, state: Vector | None) -> tuple[dict[str, Vector] | None, Vector | None]:
        fresh = self.trainer.initial_slots if self.setup.keeps_slots else None
        if state is None:
            return None, fresh
        if self.local is not None:
            state = state[: -len(self.local)]
        names, size = self.setup.rule.own, self.trainer.spec.trainable_size
        own = {name: state[i * size : (i + 1) * size] for i, name in enumerate(names)}
        return own, state[len(names) * size :] if self.setup.keeps_slots else None
