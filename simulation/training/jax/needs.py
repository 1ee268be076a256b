"""What the program of so many lanes needs of a device's memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from simulation.datasets import inputs
from simulation.datasets.dataset import Dataset
from simulation.training.jax import memory
from simulation.training.jax.lanes import Round, Steps
from simulation.training.jax.placed import placed
from simulation.training.jax.prepared import PreparedModel
from simulation.training.jax.runner import STEPS_AT_ONCE, Runner, most_clients
from strategies.client_rule import ClientRule
from strategies.objective import HELD, KNOWN, MEANS
from strategies.spec import Spec


class Needs:
    """Ask the compiled program of an experiment.

    Args:
        model: the model.
        spec: layout of the flat vector.
        rule: the client rule.
        data: the examples.
        batch: examples of a step.
        weighted: whether examples have weights.
    """

    def __init__(
        self, model: PreparedModel, spec: Spec, rule: ClientRule, data: Dataset, batch: int,
        weighted: bool,
    ) -> None:  # fmt: skip
        self.model, self.spec, self.rule, self.data = model, spec, rule, data
        self.batch, self.weighted = batch, weighted
        # What a hook is told only a server knows, and a few vectors of one client's are all that
        # it adds to a step; an objective adds whole models.
        told = rule.uploads if rule.objective is not None and rule.objective.means else ()
        self.alone = ClientRule(
            objective=rule.objective, own=rule.own, scalars=rule.scalars, direction=rule.direction,
            uploads=told, uses=told,
        )  # fmt: skip
        self.runner = Runner(model, spec, self.alone, 1)

    def of(self, lanes: int) -> int:
        """Return how many bytes the program of so many lanes takes, with what it is given."""
        clients = most_clients(lanes, self.spec.size)
        client, ended = self.runner.empty(lanes, clients)
        shape, model, data = (STEPS_AT_ONCE, lanes), self.model, self.data
        like = np.zeros((*shape, self.batch), np.int32)
        there = placed().of(data.x_train)
        x = inputs.rows(data.x_train, like) if there is None else like
        flags = np.zeros(shape, np.int32)
        weights = np.zeros(like.shape, np.float32) if self.weighted else None
        steps = Steps(x, data.y_train[like], weights, flags, flags.astype(bool), flags, flags)
        shared: dict[str, Any] = {}
        own: dict[str, Any] = {}
        if self.rule.objective is not None or self.rule.direction is not None:
            shared = {name: np.float32(v) for name, v in self.alone.share(1).items()}
            size = self.spec.trainable_size
            own = {
                name: np.zeros((clients, self.rule.size(name, size)), np.float32)
                for name in self.rule.own
            }
            if self.rule.objective is not None and self.rule.objective.means:
                classes, numbers = self.spec.of_classes
                shared[MEANS] = np.zeros(classes * numbers, np.float32)
                shared[KNOWN] = np.zeros(classes, np.float32)
            of = self.runner.programs.changes.objective
            if of is not None and of.objective.held:
                own[HELD] = np.zeros((clients, of.classes), np.float32)
        given = Round(
            np.zeros(self.spec.size, np.float32), model.values(model.slots),
            model.values(model.frozen), model.values(model.rest), np.float32(0), shared, own,
            np.zeros((clients, len(model.seeds), 2), np.uint32), there,
        )  # fmt: skip
        compiled = self.runner.programs.run.lower(given, client, ended, steps, 1).compile()
        states = len(self.rule.own) * clients * self.spec.trainable_size * 4
        return memory.needs(compiled) + states
