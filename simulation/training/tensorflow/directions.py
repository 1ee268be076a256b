"""Steps along a client rule's direction: gradients at points of its choice, in the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from keras import ops

from simulation.training.keras import losses
from simulation.training.keras.directions import check_direction
from simulation.training.tensorflow import steps as stepping
from simulation.training.tensorflow.one_kernel import one_kernel
from strategies.direction import Direction, Pieces, Place

if TYPE_CHECKING:
    from simulation.training.tensorflow.changes import Changes


class Directed:
    """A direction for one model.

    Args:
        model: a compiled model.
        direction: of the client rule.
        states: variables that a forward pass changes: moving statistics, seeds, counters.

    Raises:
        ModelError: for a model whose gradients cannot be asked for.
    """

    def __init__(
        self, model: keras.Model, direction: Direction, states: Sequence[keras.Variable]
    ) -> None:
        check_direction(model, stepping.is_own(model) or stepping.scales_loss(model.optimizer))
        self.model, self.direction, self.states = model, direction, list(states)
        trained = model.trainable_variables if direction.second else []
        self._second = [tf.Variable(tf.zeros(v.shape, v.dtype)) for v in trained]
        self._numbers = {name: tf.Variable(0.0) for name in direction.numbers}

    def begin(self, parts: Sequence[tf.Tensor], numbers: tf.Tensor | None) -> None:
        """Let a client begin, with a second model and its numbers [N] (None: as they begin)."""
        for variable, part in zip(self._second, parts, strict=False):
            variable.assign(part)
        usual = self.direction.numbers.values()
        for place, (variable, value) in enumerate(zip(self._numbers.values(), usual, strict=True)):
            variable.assign(value if numbers is None else numbers[place])

    def end(self) -> tf.Tensor:
        """Return the second model and the client's numbers [T + N]."""
        parts = [tf.reshape(tf.cast(v, tf.float32), [-1]) for v in self._second]
        numbers = [tf.reshape(v, [1]) for v in self._numbers.values()]
        return tf.concat([tf.zeros([0]), *parts, *numbers], 0)

    def take(
        self, x: Any, y: tf.Tensor, weights: Any, changes: Changes, first: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        """Return the gradient that the optimiser takes, and output and loss of the first point.

        Args:
            x: the batch, as the model takes it.
            y: its targets.
            weights: of its examples, None where they have none.
            changes: of the client.
            first: whether it is the client's first step.
        """
        model, before = self.model, [(v, v.value.read_value()) for v in self.states]
        seen: list[tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]] = []

        def gradient(point: Pieces) -> Pieces:
            values = [tf.identity(part) for part in point.parts]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(values)
                pairs = [*zip(model.trainable_variables, values, strict=True), *before]
                with keras.StatelessScope(pairs, collect_losses=True) as scope:
                    output = model(x, training=True)
                    with one_kernel(losses.resolved(model, y, output)[0]):
                        loss = losses.total(model, x, y, output, weights, training=True)
                goal = tf.reduce_sum(loss)
            found = tape.gradient(goal, values, unconnected_gradients="zero")
            if not seen:
                seen.append((output, loss, [scope.get_current_value(v) for v in self.states]))
            return Pieces([tf.convert_to_tensor(g) for g in found])

        way = self.direction.step(ops, gradient, self._place(changes, first))
        if not seen:
            raise ValueError("a direction must ask for a gradient, got none")
        if way.second is not None:
            for variable, part in zip(self._second, way.second.parts, strict=True):
                variable.assign(part)
        for name, value in way.numbers.items():
            self._numbers[name].assign(value)
        (output, loss, after), *_ = seen
        for variable, value in zip(self.states, after, strict=True):
            variable.assign(value)
        return way.gradient.parts, output, loss

    def _place(self, changes: Changes, first: tf.Tensor) -> Place:
        trained = self.model.trainable_variables
        return Place(
            w=Pieces([v.value.read_value() for v in trained]),
            w0=Pieces(list(changes.begin[: len(trained)])),
            second=Pieces([v.read_value() for v in self._second]) if self._second else None,
            numbers={name: v.read_value() for name, v in self._numbers.items()},
            first=first,
            rate=tf.cast(tf.convert_to_tensor(self.model.optimizer.learning_rate), tf.float32),
            shared=changes.numbers,
            inner=self.direction.inner,
        )
