"""One process's share of the work: train chunks of clients, evaluate, save.

An :class:`Executor` lives in every Ray worker, and in the driver with the inline engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.config.given import admit
from simulation.config.scheduling import server_round
from simulation.datasets.dataset import Dataset
from simulation.population import behaviour
from simulation.population.attackers import attackers, backdoor
from simulation.population.partition import AnyPartition
from simulation.population.root import root_rows
from simulation.population.told_labels import told_labels
from simulation.records.client_states import Handle, StateError
from simulation.records.rows import Row, Rows, columns, join
from simulation.training.backend import ModelError, Trainer, backend, done_or_raise
from simulation.training.client_config import AS_CONFIGURED, ClientConfig
from simulation.training.measured import ModelInfo, TrainedClient, with_metrics
from simulation.training.plan import Asked, Examples, Job
from simulation.training.trainers import example_weights, rate_in, trainer_for
from simulation.worker import tree
from simulation.worker.apart import AskedClients, is_apart, own_model, train_apart
from simulation.worker.chunk import Part, merge_parts, train_chunk
from simulation.worker.client_state import ClientState, StateLayout, state_after
from simulation.worker.encoder import encoder_of
from simulation.worker.faults import Lost
from simulation.worker.group_trainer import GroupTrainer, RoundInputs
from simulation.worker.measuring import Measuring
from simulation.worker.mixed import Mixed
from simulation.worker.setup import Setup
from strategies.optional_protocols import AddsUp
from strategies.protocols import Reducer
from strategies.reducing import merge_all
from strategies.spec import Vector
from strategies.sums import Streaming

TrainJob = Callable[[Trainer, Any, Job], list[TrainedClient]]
"""As :meth:`Trainer.train`, with or without jobs of other runs."""


def train_alone(trainer: Trainer, model: Any, job: Job) -> list[TrainedClient]:
    """Train a job by itself."""
    return trainer.train(model, job)


class Executor(Measuring):
    """Do the work of one process. Building it builds the model."""

    def __init__(self, setup: Setup, data: Dataset, partition: AnyPartition) -> None:
        admit(setup.given)
        self.setup, self.apart = setup, is_apart(setup)
        self.data = data
        self.partition = partition
        self.trainer = trainer_for(setup.experiment, setup.rule, setup.reducer, data)
        self.layout = StateLayout(setup, self.trainer.spec)
        classes = None if data.labels is None else data.classes
        self.attackers = attackers(setup.experiment, len(partition), classes)
        self.encoder = encoder_of(setup.experiment, self.trainer.spec)
        self.backdoor = backdoor(setup.experiment, len(partition), data)
        try:
            self.told = told_labels(setup.rule, partition, data)
        except ValueError as error:
            raise ModelError(str(error)) from None
        # Where deltas are only ever summed up, they need not be written.
        read = (self.layout.kept, self.attackers, self.encoder)
        written = self.apart or any(one is not None for one in read)
        self.lazy_delta = self._only_sums(setup.reducer) and not written
        self.weights = example_weights(setup.experiment, data)
        self.root = root_rows(setup.experiment, len(data.y_train))
        self.mixed: Mixed | None = None
        self.train_job: TrainJob = self.train_in_group if setup.grouped else train_alone

    @staticmethod
    def prepare(threads: int, gpus: float, library: str) -> None:
        """Make the process ready for a backend, before there is anything to do."""
        backend(library).prepare(threads, gpus)

    @property
    def size(self) -> int:
        """P, how many weights the model has."""
        return self.trainer.spec.size

    def info(self) -> ModelInfo:
        """Return the model's layout and initial weights."""
        return self.trainer.info

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
        assert self.setup.reducer is not None
        reducer, left, skip = self.setup.reducer, iter(states), skip or {}
        if self.mixed is None:
            placed = self.trainer.place(model)
            inputs = RoundInputs(round, placed, shared, config, parts or {}, self.lazy_delta)
            ids = tree.clients_below(node)
            there = [place for place, client in enumerate(ids) if client not in skip]
            group = GroupTrainer(self, inputs, [ids[i] for i in there], [states[i] for i in there])
        else:
            group = self.mixed.trainer_of_next()
            inputs = group.inputs
        rows: list[Row] = []
        kept: list[Any] = []
        lost: list[Lost] = []

        def partial(node: tree.Tree[NDArray[np.int64]]) -> Any:
            if isinstance(node, tuple):
                return merge_all(reducer, (partial(child) for child in node), own=True)
            ids = node.tolist()
            done = train_chunk(self, ids, [next(left) for _ in ids], inputs, skip, group)
            rows.extend(done.rows)
            kept.extend(done.kept)
            lost.extend(done.lost)
            return done.total

        total = partial(node)
        part = Part(total, columns(rows, self.trainer.metrics), tuple(lost))
        return part, kept if self.setup.shelf or not kept else np.stack(kept)

    @property
    def mixes(self) -> bool:
        """Whether one call may train clients with different models: bits are each client's own."""
        return self.lanes == 1 and not self._one_by_one

    def _only_sums(self, reducer: Reducer | None) -> bool:
        if reducer is None:
            return False
        if self.lanes == 1:  # A clipped delta is read twice, which computing it twice outweighs.
            return isinstance(reducer, Streaming)
        return isinstance(reducer, AddsUp) and reducer.only_sums

    @property
    def lanes(self) -> int:
        """How many clients are trained side by side."""
        return self.trainer.lanes

    def group(self, clients: Sequence[int], chunk: int) -> int:
        """Return how many clients, of whom so many are of one chunk, are trained in one call."""
        if self._one_by_one:
            return 1
        some = clients[: self.trainer.most]
        return self.trainer.group([len(self.partition.train_rows(c)) for c in some], chunk)

    def limit(self, clients: Sequence[int]) -> int:
        """Return how many clients of a chunk are trained side by side in one call."""
        return 1 if self._one_by_one else self.group(clients, len(clients))

    @property
    def _one_by_one(self) -> bool:
        """Whether a call trains one client, which goes on from slots, weights or a state."""
        if self.lanes > 1:
            return self.setup.keeps_slots
        return self.apart or self.setup.keeps_slots or self.setup.keeps_state

    def train_in_group(self, trainer: Trainer, model: Any, job: Job) -> list[TrainedClient]:
        """Train a job as beside others, whose bits do not depend on them."""
        library = backend(self.setup.experiment.resources.library)
        (found,) = library.train_together([(trainer, model, job)])
        return done_or_raise(found)

    def train_clients(
        self,
        clients: Sequence[int],
        inputs: RoundInputs,
        states: Sequence[ClientState | None],
        trainer: Trainer | None = None,
        beside: Sequence[int] | None = None,
    ) -> list[TrainedClient]:
        """Train clients in one call of the backend: the only way in which a client is trained.

        Args:
            clients: their numbers; one where each goes on from slots of its own.
            inputs: round, model and what is shared.
            states: what each kept from its last round.
            trainer: another one than the run's.
            beside: all clients of the call that these belong to, where that has others.
        """
        trainer, config = trainer or self.trainer, inputs.config
        if self.apart:
            done = train_apart(self, clients, inputs, states, trainer)
        else:
            slots = None
            if self.setup.keeps_slots:
                slots = trainer.initial_slots if states[0] is None else states[0].slots
            fresh = self.layout.fresh(inputs.model) if None in states else None
            own = [fresh if one is None else one.own for one in states]
            asked = self.asked(clients, slots, beside)
            job = self.job(trainer, asked, inputs, config, own)
            done = self.train_job(trainer, inputs.model, job)
        return self._sent(done, inputs, states)

    def train_on_server(self, round: int, model: Vector, shared: Mapping[str, Any]) -> Vector:
        """Return what training on the server's own examples moves a model by [P].

        As a client trains that has them, whose number follows that of the last one.
        """
        rows = self.root
        assert rows is not None
        weights = None if self.weights is None else self.weights[rows]
        examples = Examples(self.data.x_train, self.data.y_train[rows], weights, rows)
        asked = AskedClients([len(self.partition)], [len(rows)], examples)
        inputs = RoundInputs(round, self.trainer.place(model), shared)
        job = self.job(self.trainer, asked, inputs, inputs.config, [None])
        (done,) = self.train_job(self.trainer, inputs.model, job)
        return np.array(done.update.delta, np.float32)

    def train_mixed(
        self, groups: Sequence[tuple[RoundInputs, Sequence[int]]]
    ) -> list[list[TrainedClient]]:
        """Train groups in one call of the backend, each from its own model; they keep nothing."""
        jobs = []
        for one, clients in groups:
            nothing: list[Mapping[str, Vector] | None] = [None] * len(clients)
            job = self.job(self.trainer, self.asked(clients), one, one.config, nothing)
            jobs.append((self.trainer, one.model, job))
        found = backend(self.setup.experiment.resources.library).train_together(jobs)
        return [
            self._sent(done_or_raise(done), one, [None] * len(clients))
            for (one, clients), done in zip(groups, found, strict=True)
        ]

    def _sent(
        self,
        done: list[TrainedClient],
        inputs: RoundInputs,
        states: Sequence[ClientState | None],
    ) -> list[TrainedClient]:
        """Return what clients send of what they have trained."""
        if self.told is not None:
            done = [with_metrics(t, self.told.metrics(t.update.client)) for t in done]
        if self.attackers is not None:
            done = [replace(t, update=self.attackers.sent(t.update, inputs.round)) for t in done]
        if self.encoder is None:
            return done
        kept = [None if one is None else one.error for one in states]
        return [
            self.encoder.sent(one, inputs.round, error)
            for one, error in zip(done, kept, strict=True)
        ]

    def asked(
        self, clients: Sequence[int], slots: Vector | None = None,
        beside: Sequence[int] | None = None,
    ) -> AskedClients:  # fmt: skip
        """Return clients of a call, with the examples that they train on."""
        parts = [self.partition.train_rows(client) for client in clients]
        at = parts[0] if len(parts) == 1 else np.concatenate(parts)
        sizes, y = [len(p) for p in parts], self.data.y_train[at]
        if self.attackers is not None:
            y = self.attackers.labels(clients, sizes, y)
        weights = None if self.weights is None else self.weights[at]
        examples = Examples(self.data.x_train, y, weights, at)
        return AskedClients(clients, sizes, self._examples(clients, sizes, examples), slots, beside)

    def job(
        self, trainer: Trainer, asked: AskedClients, inputs: RoundInputs, config: ClientConfig,
        own: Sequence[Mapping[str, Vector] | None],
    ) -> Job:  # fmt: skip
        """Return the job of some clients, each with what it keeps (None: nothing yet)."""
        clients, sizes, beside = asked.clients, asked.sizes, asked.beside
        work = config.work(self.setup.experiment.training)
        return trainer.plan.job(
            clients,
            sizes,
            inputs.round,
            asked.examples,
            Asked(
                epochs=work.epochs,
                count=work.count,
                steps=self.limits(clients, sizes, inputs.parts, config),
                learning_rate=self._rate(trainer, inputs),
                batch_size=config.batch_size,
                shared=inputs.shared,
                lazy_delta=inputs.lazy_delta,
            ),
            own=own,
            slots=asked.slots,
            beside=None if beside is None else self._places(clients, beside, inputs),
        )

    def _examples(
        self, clients: Sequence[int], sizes: Sequence[int], examples: Examples
    ) -> Examples:
        """Return what clients train on: with a backdoor every client's own copies of its rows.

        All clients' are copied then, so that all train in the same way whoever is beside them.
        """
        if self.backdoor is None:
            return examples
        x: Any = examples.x
        return Examples(*self.backdoor.poisoned(clients, sizes, x, examples.y), examples.weights)

    def _rate(self, trainer: Trainer, inputs: RoundInputs) -> float | None:
        """Return the clients' learning rate: as the strategy says, else as it is in this round."""
        if inputs.config.learning_rate is not None:
            return inputs.config.learning_rate
        experiment = self.setup.experiment
        round = server_round(experiment, inputs.round)
        return rate_in(experiment, trainer.learning_rate, round)

    def _places(
        self, clients: Sequence[int], beside: Sequence[int], inputs: RoundInputs
    ) -> tuple[list[int], list[int | None] | None, list[int]]:
        """Return sizes and limits of all clients that belong together, and the places of some."""
        sizes = [int(n) for n in self.partition.train_sizes[np.asarray(beside, np.int64)]]
        limits = self.limits(beside, sizes, inputs.parts, inputs.config)
        return sizes, limits, [list(beside).index(client) for client in clients]

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
        whole = config.work(self.setup.experiment.training).steps(sizes).tolist()
        return [
            behaviour.steps_of(parts[client], steps) if client in parts else None
            for client, steps in zip(clients, whole, strict=True)
        ]

    def merge(self, shape: tree.Tree[int], parts: Sequence[Part]) -> Part:
        """Merge parts as the tree ``shape`` says, whose leaves are their places."""
        assert self.setup.reducer is not None
        if not isinstance(shape, tuple):
            return parts[shape]
        return merge_parts([self.merge(child, parts) for child in shape], self.setup.reducer)

    def evaluate_own(
        self, clients: NDArray[np.int64], model: Vector, states: Sequence[Handle | None],
        shared: Mapping[str, Any] | None = None,
    ) -> Rows:  # fmt: skip
        """Return loss and accuracy of each client's personal model on its validation examples."""
        found = []
        for client, state in zip(np.split(clients, len(clients)), states, strict=True):
            own = own_model(self, int(client[0]), model, self.read(state), shared)
            found.append(self.evaluate_clients(client, own))
        return join(found)

    def save(self, model: Vector) -> bytes:
        """Return a model of weights [P] as the bytes of a ``.keras`` file."""
        return self.trainer.save(model)

    def put_away(self, trained: TrainedClient, round: int) -> Any:
        """Put what a client keeps on the shelf and return its sha256; without one, return it."""
        state = self.layout.pack(state_after(trained))
        if self.setup.shelf is None:
            return state
        try:
            return self.setup.shelf.put(trained.update.client, round, state).digest
        except OSError as error:
            raise StateError(str(error)) from error
