"""Jobs with models of their own in one call of the graph: a call costs as much as a small client.

What a client computes does not depend on those beside it, nor on how many models there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simulation.training.backend import Outcome, one_by_one
from simulation.training.plan import Job
from simulation.training.tensorflow.trainer import TensorFlowTrainer

Ask = tuple[TensorFlowTrainer, Any, Job]
"""A run's trainer, its model [P], and a job."""


def train_together(asked: Sequence[Ask]) -> list[Outcome]:
    """Return what :meth:`TensorFlowTrainer.train` gives for each, or the error that it raises."""
    trainer, _, job = asked[0]
    clients = sum(len(one.clients) for _, _, one in asked)
    alike = len({_kind(*ask) for ask in asked}) == 1 and job.slots is None
    if len(asked) == 1 or not alike or clients > trainer.together:
        return one_by_one(asked)
    try:
        return list(trainer.train_each([(model, one) for _, model, one in asked]))
    except Exception:
        return one_by_one(asked)  # Whose error it is, each by itself tells.


def _kind(trainer: TensorFlowTrainer, model: Any, job: Job) -> Any:
    """Return what must be equal for jobs of one call."""
    shared = tuple((name, np.shape(job.shared[name])) for name in sorted(job.shared))
    return id(trainer), isinstance(model, np.ndarray), job.learning_rate, shared
