"""What clients train with, decided once for all backends: rows of every step, steps, seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.config.local_work import LocalWork
from simulation.datasets import inputs
from simulation.datasets.inputs import Inputs
from simulation.training.measured import TrainedClient
from strategies.client_rule import ADDED, ClientRule, Local
from strategies.direction import SECOND, Direction
from strategies.objective import LAST
from strategies.random_streams import stream
from strategies.spec import Vector
from strategies.updates import Update

# Purposes of the random streams: the first key after the seed.
SHUFFLE, LAYER_SEEDS = 11, 12

GRADIENTS = ClientRule("gradient", full_batch=True)
"""What clients train by whose gradients are measured: a step of rate 1 tells them."""

GRADIENT_PHASE = 1000
"""The phase of that training, which has random streams of its own."""


@dataclass(frozen=True)
class Examples:
    """The examples of a job's clients, joined.

    Args:
        source: their inputs; with ``at``, those of all examples that there are.
        y: their labels [N, ...].
        weights: of each [N], where they have any.
        at: which rows of ``source`` they are [N]; None: all, in this order.
    """

    source: Inputs
    y: NDArray[Any]
    weights: NDArray[np.float32] | None = None
    at: NDArray[np.integer] | None = None

    @cached_property
    def x(self) -> Inputs:
        """Their inputs [N, ...], read when somebody asks for them."""
        return self.source if self.at is None else inputs.rows(self.source, self.at)


@dataclass(frozen=True)
class Asked:
    """What is asked of a job's clients beside their examples; what is None stays as it is usual.

    Args:
        epochs: local epochs, perhaps a part of one.
        count: steps that each client takes, in the place of epochs.
        steps: optimiser steps of each client, fewer than these; None: all.
        learning_rate: the optimiser's.
        batch_size: examples of a step.
        shared: what the server shares: vectors [T] or numbers, by name.
        lazy_delta: whether deltas may be computed when they are read (see
            :class:`~strategies.stacked.Computed`).
    """

    epochs: float = 1
    count: int | None = None
    steps: Sequence[int | None] | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    shared: Mapping[str, Any] | None = None
    lazy_delta: bool = False


@dataclass(frozen=True)
class Beside:
    """Clients whose places beside others are held: see :attr:`Job.beside`.

    Args:
        steps: optimiser steps of all clients that belong together [M].
        places: which of them are the job's [K].
    """

    steps: NDArray[np.int32]
    places: NDArray[np.int64]


@dataclass(frozen=True)
class Job:
    """K clients of one call, with N examples in all.

    Args:
        clients: their numbers.
        sizes: how many examples each has.
        round: the round, from 1.
        examples: of all of them, joined.
        order: rows of ``examples`` in the order of training [E, N], for each local epoch.
        starts: where each client's rows start [K + 1].
        batches: examples of a step of each [K].
        steps: optimiser steps of each [K].
        seeds: of the model's random layers [K, G, 2].
        shared: what the server shares, as float32.
        own: each client's state, by name.
        slots: the optimiser's state to go on from; a fresh one when None.
        learning_rate: the optimiser's; its own when None.
        lazy_delta: whether deltas may be computed when they are read.
        beside: the clients that these were once trained beside, where that must be as it was; None:
            nobody else. A backend whose bits do not depend on it takes no notice.
        largest: examples of the largest step of all of these.
        full_batch: whether each step takes all examples of its client.
        gradient: the job whose one step tells the gradients that the rule asks for.
    """

    clients: Sequence[int]
    sizes: Sequence[int]
    round: int
    examples: Examples
    order: NDArray[np.int32]
    starts: NDArray[np.int32]
    batches: NDArray[np.int32]
    steps: NDArray[np.int32]
    seeds: NDArray[np.uint32]
    shared: Mapping[str, NDArray[np.float32]]
    own: Sequence[Mapping[str, Vector]]
    slots: Vector | None
    learning_rate: float | None
    lazy_delta: bool
    beside: Beside | None = None
    largest: int = 1
    full_batch: bool = False
    gradient: Job | None = None

    def held(self, classes: int) -> NDArray[np.float32]:
        """Return how many rows of each class each client has [K, classes].

        Targets are class numbers, or one-hot rows.
        """
        y = self.examples.y
        one_hot = y if y.ndim == 2 and y.shape[1] == classes > 1 else None
        if one_hot is None:
            one_hot = np.ravel(y).astype(np.int64)[:, None] == np.arange(classes)
        ends = zip(self.starts[:-1], self.starts[1:], strict=True)
        return np.stack([one_hot[a:b].sum(0) for a, b in ends]).astype(np.float32)

    def rows_seen(self, place: int) -> int:
        """Return how many examples a client trains on; the last batch of an epoch is a short one.

        Args:
            place: of the client in the job.
        """
        size, batch = self.sizes[place], int(self.batches[place])
        epochs, rest = divmod(int(self.steps[place]), -(-size // batch))
        return max(1, epochs * size + min(size, rest * batch))


@dataclass(frozen=True)
class Plan:
    """What decides the jobs of an experiment.

    Args:
        seed: the experiment's.
        batch: examples of a step; None: all that a client has.
        rule: the client rule.
        trainable: T, how many weights are trained.
        layer_seeds: G, how many random layers the model has.
        phase: of a round's local training, from 0: each has random streams of its own.
    """

    seed: int
    batch: int | None
    rule: ClientRule
    trainable: int
    layer_seeds: int
    phase: int = 0

    def job(
        self,
        clients: Sequence[int],
        sizes: Sequence[int],
        round: int,
        examples: Examples,
        asked: Asked,
        own: Sequence[Mapping[str, Vector] | None] | None = None,
        slots: Vector | None = None,
        beside: tuple[Sequence[int], Sequence[int | None] | None, Sequence[int]] | None = None,
    ) -> Job:
        """Return the job of some clients in a round.

        Args:
            clients: their numbers, which with seed and round decide their random streams.
            sizes: how many examples each has.
            round: the round, from 1.
            examples: of all of them, joined.
            asked: what they are to do.
            own: each client's state from its last round; zeros when None.
            beside: examples and limits of steps (None: none) of all clients that belong together,
                and which of them these are; None: nobody else.
            slots: the optimiser's state to go on from (one client only).
        """
        work = self._work(asked)
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        batches, steps = _steps(work, sizes, asked.steps)
        all_sizes, held = sizes, None
        if beside is not None:
            all_sizes, limits, places = beside
            held = Beside(
                np.asarray(_steps(work, all_sizes, limits)[1], np.int32),
                np.asarray(places, np.int64),
            )
        zeros = {
            name: np.zeros(self.rule.size(name, self.trainable), np.float32)
            for name in self.rule.own
        }
        return Job(
            clients=clients,
            sizes=sizes,
            round=round,
            examples=examples,
            order=self._order(round, clients, sizes, work),
            starts=starts,
            batches=np.asarray(batches, np.int32),
            steps=np.asarray(steps, np.int32),
            seeds=self._seeds(round, clients),
            shared={k: np.asarray(v, np.float32) for k, v in (asked.shared or {}).items()},
            own=[zeros if one is None else one for one in own or [None] * len(clients)],
            slots=slots,
            learning_rate=asked.learning_rate,
            lazy_delta=asked.lazy_delta,
            beside=held,
            largest=max(
                (n if work.batch is None else min(n, work.batch) for n in all_sizes), default=1
            ),
            full_batch=work.batch is None,
            gradient=self._gradient_job(clients, sizes, round, examples, beside),
        )

    def _gradient_job(
        self, clients: Sequence[int], sizes: Sequence[int], round: int, examples: Examples,
        beside: tuple[Sequence[int], Sequence[int | None] | None, Sequence[int]] | None,
    ) -> Job | None:  # fmt: skip
        """Return the job of one plain step on all that each client has, where the rule asks."""
        if not self.rule.gradient:
            return None
        if beside is not None:
            beside = beside[0], None, beside[2]
        one = replace(self, rule=GRADIENTS, phase=GRADIENT_PHASE)
        return one.job(clients, sizes, round, examples, Asked(learning_rate=1.0), beside=beside)

    def _work(self, asked: Asked) -> LocalWork:
        if self.rule.full_batch:
            return LocalWork(1, None)
        return LocalWork(asked.epochs, asked.batch_size or self.batch, asked.count)

    def _order(
        self, round: int, clients: Sequence[int], sizes: Sequence[int], work: LocalWork
    ) -> NDArray[np.int32]:
        """Return rows in the order of training [E, N]: of who begins fewer epochs, as they lie."""
        passes = work.passes(sizes).tolist()
        order = np.tile(np.arange(sum(sizes), dtype=np.int32), (max([1, *passes]), 1))
        start = 0
        for client, n, epochs in zip(clients, sizes, passes, strict=True):
            if work.batch is not None and n > work.batch:  # A batch has no order.
                shuffle = self._stream(SHUFFLE, round, client)
                for epoch in range(epochs):
                    order[epoch, start : start + n] = shuffle.permutation(n)
                    order[epoch, start : start + n] += start
            start += n
        return order

    def _stream(self, purpose: int, round: int, client: int) -> np.random.Generator:
        phase = (self.phase,) if self.phase else ()
        return stream(self.seed, purpose, round, client, *phase)

    def _seeds(self, round: int, clients: Sequence[int]) -> NDArray[np.uint32]:
        if not self.layer_seeds:
            return np.zeros((len(clients), 0, 2), np.uint32)
        streams = (self._stream(LAYER_SEEDS, round, client) for client in clients)
        return np.stack([s.integers(0, 2**32, (self.layer_seeds, 2), np.uint32) for s in streams])


def _steps(
    work: LocalWork, sizes: Sequence[int], limits: Sequence[int | None] | None
) -> tuple[list[int], list[int]]:
    """Return the batch size and the steps of each client."""
    batches = [max(1, n) if work.batch is None else work.batch for n in sizes]
    whole = work.steps(sizes).tolist()
    given = limits or whole
    return batches, [w if s is None else min(w, s) for w, s in zip(whole, given, strict=True)]


def trained_client(
    plan: Plan, job: Job, place: int, delta: Any, measured: Sequence[float],
    states: NDArray[np.float32], slots: Vector | None, rate: float,
    sgd: tuple[float, bool] | None, initial_loss: float | None = None, start: Any = None,
    second: Vector | None = None, uploads: Mapping[str, Vector] | None = None,
) -> TrainedClient:  # fmt: skip
    """Return what a client's training gives, from what a backend has computed.

    Args:
        plan: of the experiment.
        job: that the client is of.
        place: of the client in it.
        delta: what training added to the model [P].
        measured: sums of losses, of what is right, and of what counts for the accuracy.
        states: variables [S] of the model's own metrics.
        slots: the optimiser's state after training, where it is kept.
        rate: the learning rate that was used.
        sgd: momentum, and whether it is Nesterov's, where the optimiser is SGD.
        initial_loss: of the received model on the client's examples, where the rule asks for it.
        start: the received model [P], which is read where the rule needs it.
        second: the second model and the client's numbers [T + N], where the rule has them.
        uploads: what else is measured on the client's examples, by name.
    """
    client, size, steps = job.clients[place], job.sizes[place], int(job.steps[place])
    seen, (loss, right, count) = job.rows_seen(place), measured
    metrics = {"loss": loss / seen, "accuracy": right / count if count else np.nan}
    if initial_loss is not None:
        metrics["initial_loss"] = initial_loss
    momentum = sgd or (0.0, False)
    extras: Mapping[str, Vector] = {}
    own = job.own[place]
    if plan.rule.after is not None:
        local = Local(steps, rate, *momentum)
        extras, own = plan.rule.after(delta[: plan.trainable], job.shared, own, local)
        if ADDED in extras:
            delta = np.asarray(delta, np.float32).copy()
            delta[: plan.trainable] += extras[ADDED]
            extras = {name: value for name, value in extras.items() if name != ADDED}
    extras = {**extras, **(uploads or {})}
    if plan.rule.objective is not None and plan.rule.objective.last:
        ended = np.asarray(start)[: plan.trainable] + delta[: plan.trainable]
        own = {**own, LAST: ended.astype(np.float32)}
    own_model, way = None, plan.rule.direction
    if way is not None and way.second and second is not None:
        if way.lasts:
            own = {**own, SECOND: second}
        own_model = _own_model(way, np.asarray(start) + delta, second, job.shared)
    update = Update(client, size, delta, steps, extras, metrics, rate, plan.trainable, *momentum)
    return TrainedClient(update, own, slots, count / seen * size, states, own_model)


def _own_model(
    way: Direction, ended: Vector, second: Vector, shared: Mapping[str, Any]
) -> Vector | None:
    """Return the client's own model [P], with the moving statistics of the one that is sent."""
    if way.model is None:
        return None
    cut = len(second) - len(way.numbers)
    numbers = dict(zip(way.numbers, second[cut:].tolist(), strict=True))
    said = {name: float(v) for name, v in shared.items() if np.ndim(v) == 0}
    own = way.model(ended[:cut], second[:cut], numbers, said)
    return np.concatenate([own, ended[cut:]]).astype(np.float32)
