"""What clients upload beside their updates that is measured on all that they have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from simulation.datasets import inputs
from simulation.datasets.inputs import Inputs
from simulation.training.backend import Trainer
from simulation.training.plan import GRADIENT_PHASE, GRADIENTS, Job
from strategies.client_rule import GRADIENT
from strategies.spec import Vector
from strategies.steps import step_weight

Uploads = Mapping[str, Vector]
ByClass = Callable[[Vector, Inputs, Any], Uploads]
"""From a client's trained weights [P], its examples and targets."""


def measured_uploads(
    trainer: Trainer, by_class: ByClass | None, model: Any, job: Job, end: Callable[[int], Vector]
) -> list[Uploads]:
    """Return what each client of a job uploads by name; nothing where its rule asks for nothing.

    Args:
        trainer: of the run.
        by_class: measures means by class, where the trainer's rule has any.
        model: the received model [P], or what the trainer has placed.
        job: the clients.
        end: a client's trained weights [P], by its place in the job.
    """
    found: list[Uploads] = [{} for _ in job.clients]
    if job.gradient is not None:
        found = [{GRADIENT: gradient} for gradient in gradients(trainer, model, job.gradient)]
    objective = trainer.plan.rule.objective
    if by_class is None or objective is None or objective.means is None:
        return found
    of = job.examples
    for k, before in enumerate(found):
        rows = slice(int(job.starts[k]), int(job.starts[k + 1]))
        found[k] = {**before, **by_class(end(k), inputs.rows(of.x, rows), of.y[rows])}
    return found


def gradients(trainer: Trainer, model: Any, job: Job) -> list[Vector]:
    """Return the gradient [T] of the received model on all that each client of a job has.

    A step of rate 1 moves a model by the gradient; with Nesterov's momentum m by 1 + m of it.

    Args:
        trainer: of the run, whose optimiser is SGD of one learning rate.
        model: the received model [P], or what the trainer has placed.
        job: one step of each client.
    """
    momentum, nesterov = trainer.sgd or (0.0, False)
    scale = np.float32(-1 / step_weight(1, momentum, nesterov))
    one, cut = trainer.phase(GRADIENT_PHASE, GRADIENTS), trainer.spec.trainable_size
    return [scale * np.asarray(done.update.delta)[:cut] for done in one.train(model, job)]
