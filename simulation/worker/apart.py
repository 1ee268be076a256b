"""Clients that begin with weights of their own: layers or models that they keep, or have chosen.

Each has a job of its own. Where a backend trains clients side by side, jobs of several clients go
into one program, as those of several runs do: what a client computes does not depend on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from simulation.training.backend import Trainer, backend
from simulation.training.client_config import ClientConfig
from simulation.training.measured import TrainedClient, with_metrics
from simulation.training.plan import Examples, Job
from simulation.worker.client_state import ClientState, StateLayout
from simulation.worker.group_trainer import RoundInputs
from simulation.worker.phases import rule_of, train_phases
from simulation.worker.setup import Setup
from strategies.clustered import CLUSTER
from strategies.phases import Phase
from strategies.spec import Vector


class AskedClients(NamedTuple):
    """Clients of a call: their examples, slots to go on from, and all that they belong to."""

    clients: Sequence[int]
    sizes: Sequence[int]
    examples: Examples
    slots: Vector | None = None
    beside: Sequence[int] | None = None


class Process(Protocol):
    """What trains clients in a process."""

    setup: Setup
    trainer: Trainer
    layout: StateLayout
    train_job: Callable[[Trainer, Any, Job], list[TrainedClient]]

    def asked(
        self, clients: Sequence[int], slots: Vector | None = None,
        beside: Sequence[int] | None = None,
    ) -> AskedClients:  # fmt: skip
        """Return clients of a call, with the examples that they train on."""

    def job(
        self, trainer: Trainer, asked: AskedClients, inputs: RoundInputs, config: ClientConfig,
        own: Sequence[Mapping[str, Vector] | None],
    ) -> Job:  # fmt: skip
        """Return the job of some clients, each with what it keeps (None: nothing yet)."""


def is_apart(setup: Setup) -> bool:
    """Tell whether clients of a run begin with weights of their own."""
    rule = setup.rule
    return bool(rule.phases or rule.candidates or rule.local)


def train_apart(
    here: Process, clients: Sequence[int], inputs: RoundInputs,
    states: Sequence[ClientState | None], trainer: Trainer,
) -> list[TrainedClient]:  # fmt: skip
    """Train clients, each from weights of its own.

    Args:
        here: the process.
        clients: their numbers.
        inputs: round, model and what is shared.
        states: what each kept from its last round.
        trainer: of the run.
    """
    rule, received = here.setup.rule, np.array(inputs.model)
    several, starts, chosen = [], [], []
    for client, state in zip(clients, states, strict=True):
        slots = None
        if here.setup.keeps_slots:
            slots = trainer.initial_slots if state is None else state.slots
        several.append(here.asked([client], slots))
        start, choice = here.layout.personal(received.copy(), state), 0
        if rule.candidates:
            start, choice = best_of(here, several[-1], start, inputs.shared)
        starts.append(start)
        chosen.append(choice)

    def train(
        one: Trainer, begins: Sequence[Vector], config: ClientConfig, own: Sequence[Any]
    ) -> list[TrainedClient]:
        jobs = [
            here.job(one, asked, inputs, config, [kept])
            for asked, kept in zip(several, own, strict=True)
        ]
        return train_each(here, one, begins, jobs)

    def phase(one: Trainer, begins: Sequence[Vector], of: Phase, own: Any) -> list[TrainedClient]:
        return train(one, begins, inputs.config.of_phase(of), [own] * len(several))

    if rule.phases:
        done = train_phases(rule, trainer, received, starts, phase)
    else:
        kept = [None if one is None else one.own for one in states]
        done = train(trainer, starts, inputs.config, kept)
    if rule.candidates:
        done = [with_metrics(one, {CLUSTER: k}) for one, k in zip(done, chosen, strict=True)]
    pairs = zip(done, starts, strict=True)
    return [here.layout.keep_local(one, start) for one, start in pairs]


def train_each(
    here: Process, trainer: Trainer, starts: Sequence[Vector], jobs: Sequence[Job]
) -> list[TrainedClient]:
    """Train the one client of each job from weights of its own, in one program where there is."""
    if trainer.lanes == 1 or jobs[0].slots is not None:
        pairs = zip(starts, jobs, strict=True)
        return [here.train_job(trainer, start, job)[0] for start, job in pairs]
    library = backend(here.setup.experiment.resources.library)
    asked = [(trainer, start, job) for start, job in zip(starts, jobs, strict=True)]
    done = []
    for found in library.train_together(asked):
        if isinstance(found, Exception):
            raise found
        done.append(found[0])
    return done


def best_of(
    here: Process, asked: AskedClients, model: Vector, shared: Mapping[str, Any]
) -> tuple[Vector, int]:
    """Return the one of several models that has the least loss on a client's examples; its place.

    Args:
        here: the process.
        asked: the client.
        model: the first of the models [P].
        shared: has the trained weights [T] of the others.
    """
    models, of, trainer = [model], asked.examples, here.trainer
    for name in here.setup.rule.candidates:
        other = model.copy()
        other[: trainer.spec.trainable_size] = shared[name]
        models.append(other)
    rows, batch = np.arange(len(of.y)), here.setup.experiment.evaluation.batch_size
    losses = [
        float(trainer.evaluate(one, of.x, of.y, rows, None, batch, of.weights).loss[0])
        for one in models
    ]
    best = int(np.argmin(losses))
    return models[best], best


def own_model(
    here: Process, client: int, model: Vector, state: ClientState | None,
    shared: Mapping[str, Any] | None = None,
) -> Vector:  # fmt: skip
    """Return the model [P] that is measured of a client: of its own where it has one.

    Args:
        here: the process.
        client: its number.
        model: the server's.
        state: what the client keeps.
        shared: what the server shares, where clients choose among models.
    """
    rule, experiment = here.setup.rule, here.setup.experiment
    own = here.layout.personal(np.array(model), state)
    if rule.candidates:
        assert shared is not None
        own, _ = best_of(here, here.asked([client]), own, shared)
    if rule.tuned is None:
        return own
    trainer = here.trainer.phase(len(rule.phases) + 1, rule_of(rule.tuned))
    rate = None
    if experiment.training.decay is not None:  # There is no round whose rate it could be.
        rate = trainer.learning_rate
    config = ClientConfig(learning_rate=rate).of_phase(rule.tuned)
    inputs = RoundInputs(0, own, {}, config)
    job = here.job(trainer, here.asked([client]), inputs, config, [None])
    (done,) = trainer.train(trainer.place(own), job)
    return own + np.asarray(done.update.delta)
