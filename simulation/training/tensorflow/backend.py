"""The backend ``tensorflow``: Keras models, clients one after the other in one graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulation.training.backend import one_by_one
from simulation.training.tensorflow.process import prepare_tensorflow, worker_environment

if TYPE_CHECKING:
    from simulation.config.experiment import Experiment
    from simulation.datasets.dataset import Dataset
    from simulation.training.backend import Trainer
    from strategies.client_rule import ClientRule

environment, prepare = worker_environment, prepare_tensorflow
train_together = one_by_one


def trainer(experiment: Experiment, rule: ClientRule, data: Dataset, weighted: bool) -> Trainer:
    """Return a new trainer (imports TensorFlow)."""
    from simulation.training.tensorflow.trainer import TensorFlowTrainer

    return TensorFlowTrainer(
        experiment, data.x_train, data.y_train, data.classes, data.scale, rule, weighted=weighted
    )
