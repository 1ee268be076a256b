"""The metrics that a model reports beside loss and accuracy, in the graph.

What a Keras metric has seen is in its variables, and those of two sets of examples add up, as
Keras' distributed training takes it too. So clients and pieces of a test set are added, and the
value over all examples is one that no mean of values could give (AUC, precision).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from typing_extensions import override

from simulation.training.keras import private
from simulation.training.keras.accuracy import PLAIN, Accuracy
from simulation.training.keras.measuring import MetricColumns, flattened
from simulation.training.keras.named_metrics import Added, NamedMetrics, beside, joined_names


class KerasMetrics(MetricColumns):
    """Metrics of a model, with their variables as one vector [S].

    Args:
        model: a compiled model whose metrics are built.
        accuracy: the one that is measured anyway.
        named: those that an experiment names, if any.

    Raises:
        ModelError: for one that the model is compiled with and that is named too.
    """

    def __init__(
        self, model: keras.Model, accuracy: Accuracy | None, named: NamedMetrics | None = None
    ) -> None:
        self.model = model
        loss = private.loss_tracker(model)
        found = [m for m in model.metrics if m is not loss]
        compiled = private.compiled_metrics(model)
        known = {*PLAIN, accuracy.alias or "accuracy"} if accuracy is not None else set()
        plain = all(
            one is compiled and {m.name for m in compiled.metrics} <= known for one in found
        )
        self.metrics = [] if plain else found
        self._known = {"loss", *known}
        self._own = [v for m in self.metrics for v in m.variables]
        self._added = None if named is None else Added(named)
        self.variables = [*self._own, *([] if self._added is None else [self._added.variable])]
        self.size = sum(int(np.prod(v.shape)) for v in self.variables)
        self._results: Any = None
        self.names: tuple[str, ...] = ()
        if self.metrics:
            self.reset()
            self.names = tuple(flattened(self._values(), self._known))
        if named is not None:
            self.names = joined_names(model, self.names, named)

    def reset(self) -> None:
        """Let every metric have seen nothing."""
        for metric in self.model.metrics:
            metric.reset_state()
        if self._added is not None:
            self._added.variable.assign(tf.zeros(self._added.variable.shape))

    def take(self) -> tf.Tensor:
        """Return the variables [S]."""
        parts = [tf.reshape(tf.cast(v.value, tf.float32), [-1]) for v in self.variables]
        return tf.concat([tf.zeros([0]), *parts], 0)

    def put(self, flat: tf.Tensor) -> None:
        """Set the variables from a vector [S]."""
        _put(self.variables, flat)

    def update(self, x: Any, y: Any, output: Any, weights: Any) -> None:
        """Let the metrics see a batch."""
        if self.metrics:
            self.model.compute_metrics(x, y, output, sample_weight=weights)
        if self._added is not None:
            self._added.see(y, output)

    @override
    def results(self, states: NDArray[Any]) -> NDArray[np.float64]:
        size = sum(int(np.prod(v.shape)) for v in self._own)
        named = None if self._added is None else self._added.metrics
        return beside(self._compiled(states[:, :size]), named, states[:, size:])

    def _compiled(self, states: NDArray[Any]) -> NDArray[np.float64]:
        """Return the values of the metrics that the model is compiled with."""
        if not self._own:
            return np.zeros((len(states), 0))
        if self._results is None:

            def results(flat: tf.Tensor) -> tf.Tensor:
                _put(self._own, flat)
                values = flattened(self._values(), self._known)
                return tf.stack([tf.cast(v, tf.float32) for v in values.values()])

            signature = [tf.TensorSpec([states.shape[1]], tf.float32)]
            graph = tf.function(results, input_signature=signature, autograph=False)
            self._results = graph.get_concrete_function()
        rows = [self._results(tf.constant(row, tf.float32)).numpy() for row in states]
        return np.array(rows, np.float64).reshape(len(states), -1)

    def _values(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for metric in self.metrics:
            value = metric.result()
            found |= value if isinstance(value, dict) else {metric.name: value}
        return found


def _put(variables: list[keras.Variable], flat: tf.Tensor) -> None:
    """Set variables from a vector of all of them."""
    if not variables:
        return
    parts = tf.split(flat, [int(np.prod(v.shape)) for v in variables])
    for variable, part in zip(variables, parts, strict=True):
        variable.assign(tf.cast(tf.reshape(part, variable.shape), variable.dtype))
