"""What a client rule asks of a Keras model beside its loss, on any backend."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from simulation.training.backend import ModelError
from strategies.personal import frozen_weights
from strategies.spec import Spec


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


def frozen_places(spec: Spec, patterns: Sequence[str]) -> frozenset[int]:
    """Return the places of the trainable weights that are not trained.

    Args:
        spec: layout of the model.
        patterns: of their names.

    Raises:
        ModelError: for a pattern that fits none, or where nothing would be trained.
    """
    try:
        return frozen_weights(spec, tuple(patterns))
    except ValueError as error:
        raise ModelError(str(error)) from error
