"""Means of classes, measured by a graph of TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from simulation.datasets import inputs
from simulation.training.keras.class_means import MeasuredMeans
from simulation.training.keras.objectives import ModelObjective
from simulation.training.tensorflow.graph import scaled
from strategies.spec import Spec


def class_means(
    objective: ModelObjective, spec: Spec, variables: Sequence[keras.Variable], scale: Any
) -> MeasuredMeans:
    """Return what measures them.

    Args:
        objective: of the client rule.
        spec: layout of the model.
        variables: the model's, in the layout's order.
        scale: what examples are multiplied by, in their structure.
    """

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        graph = tf.function(function, autograph=False)
        return lambda *given: graph(*tf.nest.map_structure(tf.constant, given))

    def taken(x: Any) -> Any:
        return inputs.each(scaled, x, scale)

    return MeasuredMeans(objective, spec, variables, taken, compiled)
