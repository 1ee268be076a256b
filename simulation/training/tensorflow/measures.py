"""What is measured of a model: its loss, which accuracy, which further metrics; decided once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from numpy.typing import NDArray

from simulation.training.backend import ModelError
from simulation.training.keras import accuracy, losses, private
from simulation.training.keras.measuring import described, fitting
from simulation.training.keras.named_metrics import named_metrics, scores_are_logits
from simulation.training.measured import Described
from simulation.training.tensorflow import steps
from simulation.training.tensorflow.keras_metrics import KerasMetrics


class Measures:
    """Accuracy and metrics of a compiled model.

    Args:
        model: the model.
        x: an example as it takes it [1, ...].
        y: its target.
        output: what it gives for it.
        weights: the example's weight [1], where examples have one.
        classes: number of classes of the dataset, None where it has none.
        chosen: whether Sunflower chose the loss.
        asked: names of metrics beside those that it is compiled with.
        targets: those of all examples.

    Raises:
        ModelError: when loss or metrics do not fit output and targets.
    """

    def __init__(
        self,
        model: keras.Model,
        x: Any,
        y: NDArray[Any],
        output: tf.Tensor,
        weights: NDArray[Any] | None,
        classes: int | None,
        chosen: bool,
        asked: Sequence[str] = (),
        targets: NDArray[Any] | None = None,
    ) -> None:
        self.chosen = chosen
        target = tf.constant(y)
        with fitting(model, output, y):
            self._try(model, x, target, output, weights)
            self.loss, _ = losses.resolved(model, target, output)
            self.accuracy = accuracy.choose(model, target, output, classes)
            if asked:
                self._check_steps(model, asked)
            named = named_metrics(
                asked, self.accuracy, scores_are_logits(model, self.loss), output,
                y if targets is None else targets, model.name,
            )  # fmt: skip
            self.metrics = KerasMetrics(model, self.accuracy, named)
            each = losses.by_example(model, target, output, weights)
        self.by_batches = not each or self.metrics.size > 0
        """Whether evaluation takes batch by batch of one client, as Keras' ``evaluate`` does."""

    @staticmethod
    def _check_steps(model: keras.Model, asked: Sequence[str]) -> None:
        for name in ("train_step", "test_step"):
            if getattr(type(model), name) is not getattr(keras.Model, name):
                raise ModelError(
                    f"evaluation.metrics must be left out for model {model.name!r}, whose own "
                    f"{name} says what it measures, got {', '.join(asked)}"
                )

    @staticmethod
    def _try(model: keras.Model, x: Any, y: Any, output: Any, weights: Any) -> None:
        """Compute loss and metrics once; metrics make their variables when they see a batch."""
        compiled = private.compiled_metrics(model)
        if compiled is not None and not compiled.built:
            compiled.build(y, output)
        if not steps.is_own(model):
            losses.total(model, x, y, output, weights, training=False)
        if type(model).test_step is keras.Model.test_step:
            model.compute_metrics(x, y, output, sample_weight=weights)

    def right(self, y: Any, output: Any, weights: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Return what is right of each example and what counts [n]; NaN without an accuracy."""
        if self.accuracy is not None:
            return self.accuracy.of(y, output, weights)
        rows = [tf.shape(output)[0]]
        return tf.fill(rows, float("nan")), tf.ones(rows)

    def described(self, scale: Any) -> Described:
        """Return what a run says of its model."""
        return described(self.loss, self.chosen, self.accuracy, self.metrics.names, scale)
