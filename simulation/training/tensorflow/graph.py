"""The compiled graphs: local training of clients one after the other, and evaluation.

One call trains several clients: for each, set the weights, reset the optimiser, all epochs and
batches (the last short one too) with the client rule's gradient hook, and out comes a flat delta.
Sizes are data, not shapes, so nothing is traced again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from simulation.datasets import inputs
from simulation.training.keras import losses
from simulation.training.keras.objectives import ModelObjective, watching
from simulation.training.tensorflow import steps as stepping
from simulation.training.tensorflow.changes import Changes, term_of
from simulation.training.tensorflow.directions import Directed
from simulation.training.tensorflow.layout import Apart, listed, rows_of
from simulation.training.tensorflow.measures import Measures
from simulation.training.tensorflow.one_kernel import one_kernel
from strategies.client_rule import Hook
from strategies.direction import SECOND, Direction
from strategies.objective import HELD, OF_CLASSES
from strategies.spec import Spec, Vector


class Graph:
    """Graphs over one compiled Keras model.

    Args:
        model: the compiled model.
        spec: layout of the flat vector.
        weights: the model's variables in the spec's order.
        slots: the optimiser's variables that a client starts afresh.
        seeds: states of the model's seed generators.
        hook: the client rule's gradient hook, if any.
        rest: other states of the model, which a client starts as they are now.
        scale: inputs are multiplied by it; for several inputs one for each, in their structure.
        measures: how it is told what is right, and what else the model reports.
        most: clients of a call, at most.
        objective: what clients add to the loss, if anything.
        frozen: places of the weights that have gradients but are not trained.
        direction: how clients make their gradients, if not at the weights alone.
    """

    def __init__(
        self,
        model: keras.Model,
        spec: Spec,
        weights: list[keras.Variable],
        slots: list[keras.Variable],
        seeds: list[keras.Variable],
        hook: Hook | None,
        scale: Any,
        measures: Measures,
        rest: Sequence[keras.Variable] = (),
        most: int = 1,
        objective: ModelObjective | None = None,
        frozen: Collection[int] = (),
        direction: Direction | None = None,
    ) -> None:
        self.objective, self.frozen = objective, sorted(frozen)
        self.apart = Apart(spec)
        self.measures, self.metrics = measures, measures.metrics
        self.model, self.spec, self.weights, self.most = model, spec, weights, most
        self.slots, self.seeds, self.hook, self.scale = slots, seeds, hook, scale
        self.initial_slots = join([v.numpy() for v in slots])
        self.rest = [(v, v.numpy()) for v in rest]
        moved = [*weights[spec.trainable :], *rest, *seeds]
        self.directed = None if direction is None else Directed(model, direction, moved)

    def compile_fit(
        self,
        x: Any,
        y: Any,
        weights: Mapping[str, Any],
        shared: Mapping[str, Any],
        own: Mapping[str, Any],
        several: bool = False,
    ) -> Any:
        """Return the training function (see :meth:`fit`) for inputs like these.

        With ``several``, each client has one of several models.
        """
        count, many = tf.TensorSpec([None], tf.int32), [None] if several else []
        flat: Any = tf.TensorSpec([self.spec.size], tf.float32)
        if several:
            flat = [tf.TensorSpec([self.apart.size], tf.float32)] * self.most
        # A function's arguments are those that it is called with: none may be left out.
        return traced(
            self.fit if several else lambda *given: self.fit(*given),
            [
                flat,
                tf.TensorSpec(self.initial_slots.shape, tf.float32),
                rows_like(x),
                rows_like(y),
                {k: rows_like(v) for k, v in weights.items()},
                tf.TensorSpec([None, None], tf.int32),
                count,
                count,
                count,
                tf.TensorSpec([None, len(self.seeds), 2], tf.uint32),
                {k: tf.TensorSpec([*many, *np.shape(v)], tf.float32) for k, v in shared.items()},
                {k: tf.TensorSpec([None, *np.shape(v)[1:]], tf.float32) for k, v in own.items()},
                *([count] if several else []),
            ],
        )

    def compile_measure(self, x: Any, y: Any, weights: Mapping[str, Any], whole: bool) -> Any:
        """Return the function :meth:`measure` or, of whole batches, :meth:`measure_batch`."""
        signature = [rows_like(x), rows_like(y), {k: rows_like(v) for k, v in weights.items()}]
        if not whole:
            return traced(self.measure, signature)
        return traced(self.measure_batch, [*signature, tf.TensorSpec([self.metrics.size])])

    def compile_assign(self) -> Any:
        """Return the function that sets the weights [P]."""
        signature = [tf.TensorSpec([self.spec.size], tf.float32)]
        return traced(lambda flat: assign(self.weights, self.parts(flat)), signature)

    def inputs(self, x: Any) -> Any:
        """Return examples as the model takes them."""
        return inputs.each(scaled, x, self.scale)

    def parts(self, flat: tf.Tensor, count: int | None = None) -> list[tf.Tensor]:
        """Cut a flat vector into (the first ``count``) weights."""
        sizes, shapes = self.spec.sizes[:count], self.spec.shapes[:count]
        cut = tf.split(flat, list(sizes)) if sizes else []
        return [tf.reshape(p, s) for p, s in zip(cut, shapes, strict=True)]

    def fit(
        self,
        flat: Any,
        slots: tf.Tensor,
        x: Any,
        y: tf.Tensor,
        weights: Mapping[str, tf.Tensor],
        order: tf.Tensor,
        starts: tf.Tensor,
        batches: tf.Tensor,
        steps: tf.Tensor,
        seeds: tf.Tensor,
        shared: Mapping[str, tf.Tensor],
        own: Mapping[str, tf.Tensor],
        which: tf.Tensor | None = None,
    ) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Train K clients, at most ``most`` of them.

        Args:
            flat: the weights [P] of all, or ``most`` models as :class:`Apart` lays them out.
            slots: the optimiser's state at the start [S].
            x: examples of all clients, joined [N, ...], or several such arrays.
            y: their labels.
            weights: ``weights``, the examples' weights [N]; empty where they have none.
            order: rows of x in the order of training, for each epoch [E, N]; a client's stay
                within its segment.
            starts: where each client's segment begins, and N [K + 1].
            batches: batch size of each [K].
            steps: optimiser steps of each [K].
            seeds: seed generators' states of each [K, G, 2].
            shared: what the server shares: vectors [T] or numbers; of each model if of several.
            own: clients' states [K, T].
            which: of several models, the one that each client starts from [K].

        Returns:
            The weights [P] of ``most`` clients after training, those from K on being the last
            one's once more; sums of loss, of what is right and of what counts [K, 3]; the model's
            own metrics' variables [K, M]; the last client's optimiser state [S]; second models and
            numbers [K, T + N].
        """
        fresh = self._slot_parts(slots)
        same = (self.parts(flat), shared) if which is None else None
        models = None if which is None else listed(flat)
        count = tf.shape(steps)[0]

        def train(k: tf.Tensor, ends: Any, *arrays: Any) -> tuple[tf.Tensor, Any, Any, Any, Any]:
            sums, seen, seconds = arrays
            begin, told = same or self._received(models, shared, which, k)
            # Nothing is copied: a step puts its result into a place of its own (stepping.apart).
            assign(self.weights, begin)
            assign(self.slots, fresh)
            assign([v for v, _ in self.rest], [tf.constant(start) for _, start in self.rest])
            self._assign_seeds(seeds[k])
            mine = {name: rows[k] for name, rows in own.items()}
            changes = self._changes(begin, told, mine)
            self._begin_second(begin, mine)
            segment = order[:, starts[k] : starts[k + 1]]
            self.metrics.reset()
            rows = (x, y, weights)
            measured = self._loop(rows, segment, batches[k], steps[k], changes)
            self._finish(steps[k])
            changes.restore()
            end = tf.concat(
                [tf.reshape(tf.cast(v.value.read_value(), tf.float32), [-1]) for v in self.weights],
                0,
            )
            written = sums.write(k, tf.stack(measured)), seen.write(k, self.metrics.take())
            second = tf.zeros([0]) if self.directed is None else self.directed.end()
            return k + 1, ends.write(k, end), *written, seconds.write(k, second)

        sizes = (self.spec.size, 3, self.metrics.size, self.second_size)
        arrays = [rows_of(size, count) for size in sizes]
        _, ends, sums, seen, seconds = tf.while_loop(
            lambda k, *_: k < count,
            train,
            (tf.constant(0), *arrays),
            parallel_iterations=1,
        )
        after = [tf.cast(v.value.read_value(), tf.float32) for v in self.slots]
        left = tf.concat([tf.zeros([0]), *(tf.reshape(t, [-1]) for t in after)], 0)
        # Each by itself: to stack them is to copy them.
        each = [ends.read(tf.minimum(k, count - 1)) for k in range(self.most)]
        return each, sums.stack(), seen.stack(), left, seconds.stack()

    def _changes(
        self, begin: list[tf.Tensor], shared: Mapping[str, Any], own: Mapping[str, Any]
    ) -> Changes:
        """Return what changes a client's steps."""
        return Changes(
            self._hook(begin, shared, own),
            term_of(self.objective, self.weights, begin, shared, own, self.parts),
            [(self.weights[i], begin[i]) for i in self.frozen],
            begin,
            {name: value for name, value in shared.items() if value.shape.rank == 0},
        )

    @property
    def second_size(self) -> int:
        """How many numbers a second model and the client's numbers are."""
        if self.directed is None:
            return 0
        return self.directed.direction.size(self.spec.trainable_size)

    def _begin_second(self, begin: list[tf.Tensor], own: Mapping[str, tf.Tensor]) -> None:
        if self.directed is None:
            return
        if SECOND not in own:
            self.directed.begin(begin, None)
            return
        cut = self.spec.trainable_size
        parts = self.parts(own[SECOND][:cut], self.spec.trainable)
        self.directed.begin(parts, own[SECOND][cut:])

    def _received(
        self, models: tf.TensorArray, shared: Mapping[str, tf.Tensor], which: Any, k: tf.Tensor
    ) -> tuple[list[tf.Tensor], Mapping[str, tf.Tensor]]:
        """Return the weights of a client's model, of several, and what is shared with it."""
        one = which[k]
        mine = {name: rows[one] for name, rows in shared.items()}
        return self.apart.parts(models.read(one)), mine

    def _assign_seeds(self, seeds: tf.Tensor) -> None:
        """Set the states of the seed generators [G, 2]."""
        states = tf.unstack(seeds, num=len(self.seeds))
        cast = [tf.cast(s, v.dtype) for v, s in zip(self.seeds, states, strict=True)]
        assign(self.seeds, cast)

    def _loop(
        self, examples: Any, order: tf.Tensor, batch: Any, steps: Any, changes: Changes
    ) -> list[tf.Tensor]:
        n = tf.shape(order)[1]
        per_epoch = (n + batch - 1) // batch

        def step(i: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            epoch, first = i // per_epoch, (i % per_epoch) * batch
            rows = order[epoch, first : tf.minimum(first + batch, n)]
            x, y, weights = (gather(part, rows) for part in examples)
            loss, *counted = self.step(x, y, weights, changes, tf.equal(i, 0))
            changes.restore()
            found = (loss * tf.cast(tf.size(rows), tf.float32), *counted)
            return i + 1, *(a + b for a, b in zip(sums, found, strict=True))

        zero = tf.constant(0.0)
        _, *sums = tf.while_loop(
            lambda i, *_: i < steps, step, (tf.constant(0), zero, zero, zero), parallel_iterations=1
        )
        return sums

    def _finish(self, steps: tf.Tensor) -> None:
        """Let a client end with what its optimiser ends with: the average, where it keeps one."""
        optimizer = self.model.optimizer
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        if inner.use_ema:

            def average() -> tf.Tensor:
                inner.finalize_variable_values(self.model.trainable_variables)
                return tf.constant(True)

            tf.cond(steps > 0, average, lambda: tf.constant(False))

    def step(
        self, x: Any, y: tf.Tensor, weights: Mapping[str, tf.Tensor], changes: Changes, first: Any
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Take one optimiser step; return loss, what is right and what counts of the batch."""
        model, taken, given = self.model, self.inputs(x), weights.get("weights")
        hook, term = changes.hook, changes.term
        if stepping.is_own(model):
            return stepping.take_own(model, taken, y, given, hook, self.metrics)
        if self.directed is not None:
            gradients, output, loss = self.directed.take(taken, y, given, changes, first)
        else:
            gradients, output, loss = self._gradients(taken, y, given, term)
        if hook is not None and not stepping.scales_loss(model.optimizer):
            gradients, hook = hook(gradients), None
        with stepping.hooked(model, hook), stepping.apart(model.optimizer):
            model.optimizer.apply(gradients, model.trainable_variables)
        self.metrics.update(taken, y, output, given)
        right, count = self.measures.right(y, output, given)
        loss = tf.reduce_mean(tf.cast(loss, tf.float32))
        return loss, tf.reduce_sum(right), tf.reduce_sum(count)

    def _gradients(
        self, x: Any, y: tf.Tensor, weights: Any, term: Any
    ) -> tuple[list[Any], tf.Tensor, tf.Tensor]:
        """Return the gradients at the weights, and output and loss there."""
        model = self.model
        with tf.GradientTape() as tape:
            with watching(self.objective) as features:
                output = model(x, training=True)
            with one_kernel(losses.resolved(model, y, output)[0]):
                loss = losses.total(model, x, y, output, weights, training=True)
            whole = loss if term is None else tf.reduce_sum(loss) + term(x, y, output, features)
            goal = model.optimizer.scale_loss(whole)
        return tape.gradient(goal, [v.value for v in model.trainable_variables]), output, loss

    def measure(
        self, x: Any, y: tf.Tensor, weights: Mapping[str, tf.Tensor]
    ) -> tuple[tf.Tensor, ...]:
        """Return each example's loss, whether it is right, and how much it counts, [n] each."""
        given, output = weights.get("weights"), self.model(self.inputs(x), training=False)
        loss = losses.per_example(self.model, y, output, given)
        return loss, *self.measures.right(y, output, given)

    def measure_batch(
        self, x: Any, y: tf.Tensor, weights: Mapping[str, tf.Tensor], states: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """Measure a batch as Keras' ``evaluate`` does.

        Returns:
            Its loss, what is right, what counts; the metrics' variables [S] after it.
        """
        model, taken, given = self.model, self.inputs(x), weights.get("weights")
        self.metrics.reset()
        if type(model).test_step is not keras.Model.test_step:
            logs = model.test_step((taken, y) if given is None else (taken, y, given))
            loss, accuracy = stepping.reported(model, logs, "test_step")
            count = tf.cast(tf.shape(y)[0], tf.float32)
            right = accuracy * count
        else:
            output = model(taken, training=False)
            loss = losses.total(model, taken, y, output, given, training=False)
            self.metrics.update(taken, y, output, given)
            right, count = (tf.reduce_sum(v) for v in self.measures.right(y, output, given))
        loss = tf.reduce_mean(tf.cast(loss, tf.float32))
        return loss, right, count, states + self.metrics.take()

    def _hook(
        self, start: list[tf.Tensor], shared: Mapping[str, Any], own: Mapping[str, Any]
    ) -> Any:
        rule = self.hook
        if rule is None and not self.frozen:
            return None
        count = self.spec.trainable
        pieces = {
            k: self.parts(v, count) if v.shape.rank else [v] * count
            for k, v in shared.items()
            if k not in OF_CLASSES
        }
        kept = {k: self.parts(v, count) for k, v in own.items() if k not in (HELD, SECOND)}

        def hook(gradients: list[Any]) -> list[Any]:
            variables = self.model.trainable_variables
            return [
                tf.zeros(v.shape, v.dtype)
                if i in self.frozen
                else tf.convert_to_tensor(g)
                if rule is None
                else rule(
                    tf.convert_to_tensor(g),
                    tf.convert_to_tensor(v.value),
                    start[i],
                    {k: p[i] for k, p in pieces.items()},
                    {k: p[i] for k, p in kept.items()},
                )
                for i, (g, v) in enumerate(zip(gradients, variables, strict=True))
            ]

        return hook

    def _slot_parts(self, flat: tf.Tensor) -> list[tf.Tensor]:
        sizes = [int(np.prod(v.shape)) for v in self.slots]
        parts = tf.split(flat, sizes) if sizes else []
        return [
            tf.cast(tf.reshape(p, v.shape), v.dtype) for p, v in zip(parts, self.slots, strict=True)
        ]


def traced(function: Callable[..., Any], signature: Sequence[Any]) -> Any:
    """Return a function as one graph, which takes tensors of this signature.

    It is called without TensorFlow's search for a graph that fits, which takes longer (1.5 ms)
    than some clients train.
    """
    graph = tf.function(function, input_signature=signature, autograph=False)
    return graph.get_concrete_function()


def assign(variables: list[keras.Variable], values: list[tf.Tensor]) -> None:
    """Set variables, inside a graph."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def scaled(array: tf.Tensor, scale: float) -> tf.Tensor:
    """Return an input times its scale, in float32; as it is for a scale of 1."""
    return array if scale == 1.0 else tf.cast(array, tf.float32) * scale


def gather(array: Any, at: tf.Tensor) -> Any:
    """Return rows of an array, or of each of several."""
    return inputs.each(lambda part: tf.gather(part, at), array)


def rows_like(array: Any) -> Any:
    """Return the spec of any number of rows like those of ``array``, or of each of several."""

    def spec(part: Any) -> tf.TensorSpec:
        return tf.TensorSpec([None, *np.shape(part)[1:]], tf.as_dtype(part.dtype))

    return inputs.each(spec, array)


def join(arrays: list[Any]) -> Vector:
    """Join arrays into one float32 vector."""
    return np.concatenate([np.zeros(0), *(np.ravel(a) for a in arrays)]).astype(np.float32)
