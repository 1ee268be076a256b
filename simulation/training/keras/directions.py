"""What a client rule's direction asks of a Keras model, on any backend."""

from __future__ import annotations

import keras

from simulation.training.backend import ModelError


def check_direction(model: keras.Model, takes_own_steps: bool) -> None:
    """Refuse a model whose gradients at other points cannot be asked for.

    Args:
        model: a compiled model.
        takes_own_steps: whether it takes its steps by itself, or its loss is scaled.

    Raises:
        ModelError: for one that does.
    """
    if takes_own_steps or model.optimizer.loss_scale_factor:
        raise ModelError(
            "strategy must be one that takes gradients at the weights alone for model "
            f"{model.name!r}, which has a train_step of its own or scales its loss"
        )
