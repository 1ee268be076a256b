"""Local training: the only code that trains, whatever the engine.

A :class:`Trainer` builds the model once per process and compiles one graph that runs a client's
whole local training: set the weights, reset the optimiser, all epochs and batches (the last short
one too), the client rule's gradient hook, and out comes one flat delta.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from simulation import models
from simulation.experiment import Experiment
from simulation.losses import correctness, per_example
from simulation.models import ModelError
from simulation.work import ModelInfo
from strategies.core import ClientRule, Local, Spec, Update, Vector, stream

# Purposes of the random streams: the first key after the seed.
SHUFFLE, LAYER_SEEDS = 11, 12


@dataclass(frozen=True)
class Trained:
    """An update, and what the client keeps: its rule's state and its optimiser's slots."""

    update: Update
    own: Mapping[str, Vector]
    slots: Vector | None


class Trainer:
    """Train and evaluate clients of one experiment with one Keras model.

    Args:
        experiment: the experiment.
        x: examples, only for their shape and dtype.
        y: labels, only for their shape and dtype.
        classes: number of classes, None for regression.
        scale: inputs are multiplied by it in the graph (1/255 for uint8 images).
        rule: the client rule; plain when None.

    Raises:
        ModelError: when the model cannot be built or does not fit the data.
    """

    def __init__(
        self,
        experiment: Experiment,
        x: NDArray[Any],
        y: NDArray[Any],
        classes: int | None,
        scale: float,
        rule: ClientRule | None = None,
    ) -> None:
        self.seed = experiment.seed
        self.batch = experiment.training.batch_size
        self.rule = rule or ClientRule()
        self.scale = scale
        self.model = models.build(experiment.model, tuple(x.shape[1:]), classes, self.seed)
        self._compile(experiment)
        self._try_forward(x[:1], y[:1], classes)
        trainable = self.model.trainable_variables
        self.weights = [*trainable, *_statistics(self.model)]
        self.spec = Spec(
            tuple(v.path for v in self.weights),
            tuple(tuple(v.shape) for v in self.weights),
            len(trainable),
        )
        self.initial = self.spec.ravel([v.numpy() for v in self.weights])
        self._learning_rate = _plain_learning_rate(self.model.optimizer)
        self._slots = [
            v for v in self.model.optimizer.variables if v is not self._learning_rate_variable()
        ]
        self.initial_slots = _join([v.numpy() for v in self._slots])
        self._fresh_slots = tf.constant(self.initial_slots)
        self._seeds = _seed_states(self.model)
        self._example = tf.TensorSpec([None, *x.shape[1:]], tf.as_dtype(x.dtype))
        self._label = tf.TensorSpec([None, *y.shape[1:]], tf.as_dtype(y.dtype))
        self._fit: Any = None
        self._measure = tf.function(
            self._measure_graph,
            input_signature=[self._example, self._label],
            autograph=False,
        )
        self._assign = tf.function(
            lambda flat: self._set_weights(flat),
            input_signature=[tf.TensorSpec([self.spec.size], tf.float32)],
            autograph=False,
        )

    @property
    def info(self) -> ModelInfo:
        """Return the model's layout and initial weights."""
        return ModelInfo(self.spec, self.initial, self._learning_rate or 0.0)

    def train(
        self,
        client: int,
        round: int,
        model: Vector | tf.Tensor,
        x: NDArray[Any],
        y: NDArray[Any],
        *,
        epochs: int = 1,
        shared: Mapping[str, Any] | None = None,
        own: Mapping[str, Vector] | None = None,
        slots: Vector | None = None,
    ) -> Trained:
        """Train one client from the global model and return its update.

        Args:
            client: its number, which with the seed and the round decides its random streams.
            round: the round, from 1.
            model: global weights [P].
            x: its training examples [n, ...].
            y: their labels [n, ...].
            epochs: local epochs.
            shared: what the server shares: vectors [T] or numbers, by name.
            own: the client's state from its last round; zeros when None.
            slots: the optimiser's state to go on from; a fresh one when None.
        """
        n, head = len(x), self.spec.trainable_size
        batch = n if self.rule.full_batch else self.batch
        epochs = 1 if self.rule.full_batch else epochs
        metrics = {}
        if self.rule.initial_loss:
            loss, _ = self.evaluate(model, x, y, np.arange(n))
            metrics["initial_loss"] = float(loss.mean(dtype=np.float64))
        shuffle = stream(self.seed, SHUFFLE, round, client)
        order = np.stack([shuffle.permutation(n) for _ in range(epochs)]).astype(np.int32)
        kept = own or {name: np.zeros(head, np.float32) for name in self.rule.own}
        given = {k: np.asarray(v, np.float32) for k, v in (shared or {}).items()}
        if self._fit is None:
            self._fit = self._compile_fit(given, kept)
        delta, loss, correct, after = self._fit(
            model,
            self._fresh_slots if slots is None else slots,
            x,
            y,
            order,
            batch,
            self._layer_seeds(round, client),
            given,
            dict(kept),
        )
        vector = delta.numpy()
        steps = epochs * -(-n // batch)
        rate = self._learning_rate or 0.0
        extras: Mapping[str, Vector] = {}
        if self.rule.after is not None:
            extras, kept = self.rule.after(vector[:head], given, kept, Local(steps, rate))
        metrics |= {"loss": float(loss) / (n * epochs), "accuracy": float(correct) / (n * epochs)}
        update = Update(client, n, vector, steps, extras, metrics, rate, head)
        return Trained(update, kept, None if slots is None else after.numpy())

    def evaluate(
        self, model: Vector, x: NDArray[Any], y: NDArray[Any], rows: NDArray[Any], batch: int = 500
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return each example's loss and whether it is classified right (NaN: no such notion).

        Args:
            model: weights [P].
            x: all examples.
            y: all labels.
            rows: which of them, [n]; they are read batch by batch, never copied whole.
            batch: examples at a time.
        """
        self._assign(model)
        losses, hits = [], []
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            loss, hit = self._measure(x[part], y[part])
            losses.append(loss.numpy())
            hits.append(hit.numpy())
        empty = np.zeros(0, np.float32)
        return np.concatenate([empty, *losses]), np.concatenate([empty, *hits])

    def save(self, model: Vector, path: str) -> None:
        """Write a model of weights [P] as a ``.keras`` file."""
        self._assign(model)
        self.model.save(path)

    def _compile(self, experiment: Experiment) -> None:
        training, model = experiment.training, self.model
        given = model.optimizer if model.compiled else None
        if training.optimizer is not None or given is None:
            optimizer = make_optimizer(
                training.optimizer or "sgd", training.learning_rate or 0.05, training.momentum
            )
        else:
            # A fresh one of the same settings: the user's may carry steps already taken.
            optimizer = type(given).from_config(given.get_config())
            if training.learning_rate is not None:
                optimizer.learning_rate = training.learning_rate
        loss = training.loss or (model.loss if model.compiled else None) or default_loss(model)
        model.compile(optimizer=optimizer, loss=loss)
        optimizer.build(model.trainable_variables)

    def _try_forward(self, x: NDArray[Any], y: NDArray[Any], classes: int | None) -> None:
        try:
            out = self.model(self._inputs(tf.constant(x)), training=False)
        except Exception as error:
            raise ModelError(
                f"model {self.model.name!r} cannot take examples of shape {tuple(x.shape[1:])}: "
                f"{str(error).splitlines()[0]}"
            ) from error
        if classes is not None and classes > 2 and out.shape[-1] < classes and y.ndim == 1:
            raise ModelError(
                f"model output must have at least {classes} units (classes of the dataset), "
                f"got {out.shape[-1]}"
            )

    def _learning_rate_variable(self) -> Any:
        rate = getattr(self.model.optimizer, "_learning_rate", None)
        return rate if isinstance(rate, keras.Variable) else None

    def _layer_seeds(self, round: int, client: int) -> NDArray[np.uint32]:
        if not self._seeds:
            return np.zeros((0, 2), np.uint32)
        draw = stream(self.seed, LAYER_SEEDS, round, client)
        return draw.integers(0, 2**32, (len(self._seeds), 2), np.uint32)

    def _inputs(self, x: tf.Tensor) -> tf.Tensor:
        if self.scale == 1.0:
            return x
        return tf.cast(x, tf.float32) * self.scale

    def _parts(self, flat: tf.Tensor, count: int | None = None) -> list[tf.Tensor]:
        sizes, shapes = self.spec.sizes[:count], self.spec.shapes[:count]
        cut = tf.split(flat, list(sizes)) if sizes else []
        return [tf.reshape(p, s) for p, s in zip(cut, shapes, strict=True)]

    def _set_weights(self, flat: tf.Tensor) -> list[tf.Tensor]:
        parts = self._parts(flat)
        for variable, part in zip(self.weights, parts, strict=True):
            variable.assign(part)
        return parts

    def _compile_fit(self, shared: Mapping[str, Any], own: Mapping[str, Any]) -> Any:
        vectors = {k: tf.TensorSpec(v.shape, tf.float32) for k, v in shared.items()}
        kept = {k: tf.TensorSpec(v.shape, tf.float32) for k, v in own.items()}
        return tf.function(
            self._fit_graph,
            input_signature=[
                tf.TensorSpec([self.spec.size], tf.float32),
                tf.TensorSpec(self.initial_slots.shape, tf.float32),
                self._example,
                self._label,
                tf.TensorSpec([None, None], tf.int32),
                tf.TensorSpec([], tf.int32),
                tf.TensorSpec([len(self._seeds), 2], tf.uint32),
                vectors,
                kept,
            ],
            autograph=False,
        )

    def _fit_graph(
        self,
        flat: tf.Tensor,
        slots: tf.Tensor,
        x: tf.Tensor,
        y: tf.Tensor,
        order: tf.Tensor,
        batch: tf.Tensor,
        seeds: tf.Tensor,
        shared: Mapping[str, tf.Tensor],
        own: Mapping[str, tf.Tensor],
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        start = self._set_weights(flat)
        self._set_slots(slots)
        for variable, state in zip(
            self._seeds, tf.unstack(seeds, num=len(self._seeds)), strict=True
        ):
            variable.assign(tf.cast(state, variable.dtype))
        hook = self._hook(start, shared, own)
        epochs, n = tf.shape(order)[0], tf.shape(order)[1]
        per_epoch = (n + batch - 1) // batch

        def step(i: tf.Tensor, loss: tf.Tensor, hits: tf.Tensor) -> tuple[tf.Tensor, ...]:
            epoch, first = i // per_epoch, (i % per_epoch) * batch
            rows = order[epoch, first : tf.minimum(first + batch, n)]
            value, correct = self._step_graph(tf.gather(x, rows), tf.gather(y, rows), hook)
            size = tf.cast(tf.size(rows), tf.float32)
            return i + 1, loss + value * size, hits + tf.reduce_sum(correct)

        zero = tf.constant(0.0)
        _, loss, hits = tf.while_loop(
            lambda i, *_: i < epochs * per_epoch,
            step,
            (tf.constant(0), zero, zero),
            parallel_iterations=1,
        )
        end = tf.concat([tf.reshape(v.value.read_value(), [-1]) for v in self.weights], 0)
        return end - flat, loss, hits, _join_graph([v.value.read_value() for v in self._slots])

    def _step_graph(self, x: tf.Tensor, y: tf.Tensor, hook: Any) -> tuple[tf.Tensor, tf.Tensor]:
        model = self.model
        inputs = self._inputs(x)
        with tf.GradientTape() as tape:
            output = model(inputs, training=True)
            loss = model.compute_loss(x=inputs, y=y, y_pred=output, training=True)
            goal = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(goal, [v.value for v in model.trainable_variables])
        if hook is not None:
            gradients = hook(gradients)
        model.optimizer.apply(gradients, model.trainable_variables)
        return tf.cast(loss, tf.float32), correctness(model.loss, y, output)

    def _hook(
        self, start: list[tf.Tensor], shared: Mapping[str, Any], own: Mapping[str, Any]
    ) -> Any:
        rule = self.rule.hook
        if rule is None:
            return None
        count = self.spec.trainable
        pieces = {
            k: self._parts(v, count) if v.shape.rank else [v] * count for k, v in shared.items()
        }
        kept = {k: self._parts(v, count) for k, v in own.items()}

        def hook(gradients: list[Any]) -> list[Any]:
            return [
                rule(
                    tf.convert_to_tensor(g),
                    tf.convert_to_tensor(v.value),
                    start[i],
                    {k: p[i] for k, p in pieces.items()},
                    {k: p[i] for k, p in kept.items()},
                )
                for i, (g, v) in enumerate(
                    zip(gradients, self.model.trainable_variables, strict=True)
                )
            ]

        return hook

    def _set_slots(self, flat: tf.Tensor) -> None:
        sizes = [int(np.prod(v.shape)) for v in self._slots]
        for variable, part in zip(self._slots, tf.split(flat, sizes), strict=True):
            variable.assign(tf.cast(tf.reshape(part, variable.shape), variable.dtype))

    def _measure_graph(self, x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        output = self.model(self._inputs(x), training=False)
        return per_example(self.model.loss, y, output), correctness(self.model.loss, y, output)


def make_optimizer(name: str, learning_rate: float, momentum: float = 0.0) -> keras.Optimizer:
    """Return a Keras optimiser by name; ``momentum`` goes to those that know it."""
    config: dict[str, Any] = {"learning_rate": learning_rate}
    if momentum:
        config["momentum"] = momentum
    try:
        return keras.optimizers.get({"class_name": name, "config": config})
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"training.optimizer must be a Keras optimizer that takes {', '.join(config)}, "
            f"got {name!r}"
        ) from error


def default_loss(model: keras.Model) -> keras.losses.Loss:
    """Return sparse cross-entropy, on logits or on probabilities as the last layer says."""
    activation = getattr(model.layers[-1], "activation", None) if model.layers else None
    logits = activation is not keras.activations.softmax and not isinstance(
        model.layers[-1], keras.layers.Softmax
    )
    return keras.losses.SparseCategoricalCrossentropy(from_logits=logits)


def _plain_learning_rate(optimizer: keras.Optimizer) -> float | None:
    rate = optimizer.learning_rate
    return float(rate.numpy()) if isinstance(rate, keras.Variable) else None


def _statistics(model: keras.Model) -> list[keras.Variable]:
    """Return the float weights that training changes without gradients: moving statistics.

    Weights of frozen layers stay as built on every worker and do not travel.
    """
    frozen = {
        id(v) for layer in model._flatten_layers() if not layer.trainable for v in layer.weights
    }
    return [
        v
        for v in model.non_trainable_weights
        if id(v) not in frozen and str(v.dtype).startswith(("float", "bfloat"))
    ]


def _seed_states(model: keras.Model) -> list[keras.Variable]:
    """Return the states of the model's seed generators (dropout and its like)."""
    weights = {id(v) for v in model.weights}
    return [v for v in model.variables if id(v) not in weights and tuple(v.shape) == (2,)]


def _join(arrays: list[Any]) -> Vector:
    return np.concatenate([np.zeros(0), *(np.ravel(a) for a in arrays)]).astype(np.float32)


def _join_graph(tensors: list[tf.Tensor]) -> tf.Tensor:
    return tf.concat([tf.reshape(tf.cast(t, tf.float32), [-1]) for t in tensors], 0)
