"""The backend ``tensorflow``: Keras models, clients one after the other in one graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from simulation.training.tensorflow.process import prepare_tensorflow, worker_environment

if TYPE_CHECKING:
    from simulation.config.experiment import Experiment
    from simulation.datasets.dataset import Dataset
    from simulation.training.backend import Outcome, Trainer
    from strategies.client_rule import ClientRule

environment, prepare = worker_environment, prepare_tensorflow


def train_together(asked: Sequence[Any]) -> list[Outcome]:
    """Train jobs, each from a model of its own, in one call of the graph where they fit."""
    from simulation.training.tensorflow.together import train_together

    return train_together(asked)


def trainer(experiment: Experiment, rule: ClientRule, data: Dataset, weighted: bool) -> Trainer:
    """Return a new trainer (imports TensorFlow)."""
    from simulation.training.tensorflow.trainer import TensorFlowTrainer

    return TensorFlowTrainer(
        experiment, data.x_train, data.y_train, data.classes, data.scale, rule, weighted=weighted
    )
