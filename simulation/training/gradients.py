"""Gradients of the received model on all that a client has, as one step of its SGD tells them."""

from __future__ import annotations

from typing import Any

import numpy as np

from simulation.training.backend import Trainer
from simulation.training.plan import GRADIENT_PHASE, GRADIENTS, Job
from strategies.spec import Vector
from strategies.steps import step_weight


def gradients(trainer: Trainer, model: Any, job: Job) -> list[Vector] | None:
    """Return the gradient [T] of each client of a job; None where its rule asks for none.

    A step of rate 1 moves a model by the gradient; with Nesterov's momentum m by 1 + m of it.

    Args:
        trainer: of the run, whose optimiser is SGD of one learning rate.
        model: the received model [P], or what the trainer has placed.
        job: the clients.
    """
    if job.gradient is None:
        return None
    momentum, nesterov = trainer.sgd or (0.0, False)
    scale = np.float32(-1 / step_weight(1, momentum, nesterov))
    one, cut = trainer.phase(GRADIENT_PHASE, GRADIENTS), trainer.spec.trainable_size
    done = one.train(model, job.gradient)
    return [scale * np.asarray(trained.update.delta)[:cut] for trained in done]
