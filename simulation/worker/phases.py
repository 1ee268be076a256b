"""Local training in phases: several trainings of a client in a round, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from simulation.training.backend import Trainer
from simulation.training.measured import TrainedClient
from strategies.client_rule import ClientRule
from strategies.phases import RECEIVED, Phase
from strategies.spec import Vector

TrainPhase = Callable[[Trainer, Sequence[Vector], Phase, Mapping[str, Vector]], list[TrainedClient]]
"""Trains clients, each from weights of its own [P], with vectors [T] that the hook sees."""


def rule_of(phase: Phase) -> ClientRule:
    """Return the client rule that a phase trains by."""
    seen = () if phase.hook is None else (RECEIVED,)
    return ClientRule("phase", phase.hook, own=seen, frozen=phase.frozen)


def train_phases(
    rule: ClientRule, trainer: Trainer, received: Vector, starts: Sequence[Vector],
    train: TrainPhase,
) -> list[TrainedClient]:  # fmt: skip
    """Train clients in their phases; return what they send, and second models where they have any.

    Loss, accuracy and steps are those of the last phase that trains what is sent.

    Args:
        rule: of the clients.
        trainer: of the run.
        received: the server's weights [P].
        starts: each client's own model [P]: the second one, else what its phases begin with.
        train: trains one phase.
    """
    cut = trainer.spec.trainable_size
    sent, second = list(starts), list(starts)
    if rule.second:
        sent = [received] * len(starts)
    change, last = [np.zeros_like(received) for _ in starts], list[TrainedClient]()
    for place, phase in enumerate(rule.phases):
        sees = {} if phase.hook is None else {RECEIVED: received[:cut]}
        one = trainer.phase(place, rule_of(phase))
        begins = second if phase.second else [a + b for a, b in zip(sent, change, strict=True)]
        done = train(one, begins, phase, sees)
        deltas = [np.asarray(trained.update.delta) for trained in done]
        if phase.second:
            second = [a + b for a, b in zip(second, deltas, strict=True)]
        else:
            change, last = [a + b for a, b in zip(change, deltas, strict=True)], done
    return [
        replace(
            trained,
            update=replace(trained.update, delta=delta),
            own={},
            local=own if rule.second else None,
        )
        for trained, delta, own in zip(last, change, second, strict=True)
    ]
