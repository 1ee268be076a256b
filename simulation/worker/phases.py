"""Local training in phases: several trainings of a client in a round, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from simulation.training.backend import Trainer
from simulation.training.measured import TrainedClient
from strategies.client_rule import ClientRule
from strategies.phases import RECEIVED, Phase
from strategies.spec import Vector

TrainPhase = Callable[[Trainer, Vector, Phase, Mapping[str, Vector]], TrainedClient]
"""Trains the client from some weights [P], with vectors [T] that the phase's hook sees."""


def rule_of(phase: Phase) -> ClientRule:
    """Return the client rule that a phase trains by."""
    seen = () if phase.hook is None else (RECEIVED,)
    return ClientRule("phase", phase.hook, own=seen, frozen=phase.frozen)


def train_phases(
    rule: ClientRule, trainer: Trainer, received: Vector, start: Vector, train: TrainPhase
) -> TrainedClient:
    """Train a client in its phases; return what it sends, and its second model where it has one.

    Loss, accuracy and steps are those of the last phase that trains what is sent.

    Args:
        rule: of the client.
        trainer: of the run.
        received: the server's weights [P].
        start: the client's own model [P]: the second one, else what its phases begin with.
        train: trains one phase.
    """
    cut = trainer.spec.trainable_size
    sent, second = (received, start) if rule.second else (start, None)
    change, last = np.zeros_like(sent), None
    for place, phase in enumerate(rule.phases):
        sees = {} if phase.hook is None else {RECEIVED: received[:cut]}
        one = trainer.phase(place, rule_of(phase))
        if phase.second:
            assert second is not None
            second = second + train(one, second, phase, sees).update.delta
        else:
            last = train(one, sent + change, phase, sees)
            change = change + last.update.delta
    assert last is not None
    update = replace(last.update, delta=change)
    return replace(last, update=update, own={}, local=second)
