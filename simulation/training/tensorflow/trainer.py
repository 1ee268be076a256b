"""Local training: the only code that trains, whatever the engine.

A :class:`Trainer` builds the model once per process and compiles one :mod:`~simulation.graph`
that runs the whole local training of several clients; this is the host's side of it: random
streams, what clients keep, metrics.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from simulation.config.experiment import Experiment
from simulation.datasets import inputs
from simulation.datasets.inputs import Inputs
from simulation.training.backend import ModelError, ModelInfo, Trained
from simulation.training.tensorflow import measures, models, rescaling
from simulation.training.tensorflow import steps as stepping
from simulation.training.tensorflow.evaluator import Evaluator
from simulation.training.tensorflow.graph import Graph, scaled
from simulation.training.tensorflow.keras_model import (
    at_rate,
    compile_model,
    other_states,
    plain_learning_rate,
    seed_states,
    sgd_of,
    statistics,
)
from simulation.training.tensorflow.measures import Measures
from strategies.core import ClientRule, Local, Spec, Update, Vector, stream
from strategies.sums import Difference

# Purposes of the random streams: the first key after the seed.
SHUFFLE, LAYER_SEEDS = 11, 12


MOST_TOGETHER = 16
"""Clients that one call of the graph trains, at most: a call costs as much as half a client of 6
images."""


DELTA_BYTES = 2**25
"""Memory for the deltas of one call."""


class Trainer:
    """Train and evaluate clients of one experiment with one Keras model.

    Args:
        experiment: the experiment.
        x: examples, only for their shape and dtype.
        y: labels, only for their shape and dtype.
        classes: number of classes, None for regression.
        scale: inputs are multiplied by it in the graph (1/255 for uint8 images); for several
            inputs one for each, in their structure.
        rule: the client rule; plain when None.
        weighted: whether examples have weights.

    Raises:
        ModelError: when the model cannot be built or does not fit the data.
    """

    def __init__(
        self,
        experiment: Experiment,
        x: Inputs,
        y: NDArray[Any],
        classes: int | None,
        scale: Any,
        rule: ClientRule | None = None,
        weighted: bool = False,
    ) -> None:
        self.seed = experiment.seed
        self.batch = experiment.training.batch_size
        self.rule = rule or ClientRule()
        one = inputs.rows(x, slice(1))
        like = self._scaled(one, scale)
        self._build = (experiment.model, inputs.shapes(x), classes)
        self._init = experiment.init
        self.model = models.build(*self._build, self.seed, like, self._init)
        self.scale = rescaling.effective(self.model, scale)
        self._example = like = self._scaled(one, self.scale)
        output = self._try_forward(like, one, y[:1], classes)
        default = measures.loss_for(self.model, experiment.training, y, output, classes)
        compile_model(self.model, experiment.training, default)
        stepping.check(self.model)
        weights = {"weights": np.ones(1, np.float32)} if weighted else {}
        self._like = (one, y[:1], weights)
        self.measures = Measures(
            self.model, like, y[:1], output, weights.get("weights"), classes, default is not None
        )
        trainable = self.model.trainable_variables
        tracked = [*trainable, *statistics(self.model)]
        self.spec = Spec(
            tuple(v.path for v in tracked), tuple(tuple(v.shape) for v in tracked), len(trainable)
        )
        self._initial: Vector | None = self.spec.ravel([v.numpy() for v in tracked])
        self._learning_rate = plain_learning_rate(self.model.optimizer)
        self.learning_rate, self.sgd = self._learning_rate, sgd_of(self.model.optimizer)
        rate = self.model.optimizer.learning_rate
        slots = [v for v in self.model.optimizer.variables if v is not rate]
        self._seeds = len(seed_states(self.model))
        self.graph = Graph(
            self.model, self.spec, tracked, slots, seed_states(self.model), self.rule.hook,
            self.scale, self.measures, other_states(self.model), self.together,
        )  # fmt: skip
        self.initial_slots = self.graph.initial_slots
        self._fresh_slots = tf.constant(self.initial_slots)
        self._fits: dict[Any, Any] = {}
        self.evaluator = Evaluator(self.graph, self._like)

    def of(self, experiment: Experiment, rule: ClientRule) -> Trainer:
        """Return a trainer of another run of the same kind, which shares model and graphs.

        Args:
            experiment: as this one's but for seed, batch size and what no trainer depends on.
            rule: a client rule with the same hook.
        """
        other = copy.copy(self)
        other.seed, other.batch, other.rule = experiment.seed, experiment.training.batch_size, rule
        if experiment.seed != self.seed:
            other._initial = None
        return other

    @property
    def initial(self) -> Vector:
        """The model's initial weights [P]: built where somebody asks, which one worker is."""
        if self._initial is None:
            fresh = models.build(*self._build, self.seed, self._example, self._init)
            weights = [*fresh.trainable_variables, *statistics(fresh)]
            self._initial = self.spec.ravel([v.numpy() for v in weights])
        return self._initial

    @property
    def info(self) -> ModelInfo:
        """Return the model's layout and initial weights."""
        return ModelInfo(
            self.spec, self.initial, self._learning_rate or 0.0, self.measures.described(self.scale)
        )

    @property
    def together(self) -> int:
        """How many clients one call of the graph should train, as far as their deltas fit."""
        return max(1, min(MOST_TOGETHER, DELTA_BYTES // (4 * max(1, self.spec.size))))

    def train(
        self,
        client: int,
        round: int,
        model: Vector | tf.Tensor,
        x: Inputs,
        y: NDArray[Any],
        *,
        epochs: int = 1,
        shared: Mapping[str, Any] | None = None,
        own: Mapping[str, Vector] | None = None,
        slots: Vector | None = None,
        weights: NDArray[np.float32] | None = None,
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
            weights: the examples' weights [n], where they have any.
        """
        states = None if own is None else [own]
        (trained,) = self.train_many(
            [client], [len(y)], round, model, x, y,
            epochs=epochs, shared=shared, own=states, slots=slots, weights=weights,
        )  # fmt: skip
        return trained

    def train_many(
        self,
        clients: Sequence[int],
        sizes: Sequence[int],
        round: int,
        model: Vector | tf.Tensor,
        x: Inputs,
        y: NDArray[Any],
        *,
        epochs: int = 1,
        shared: Mapping[str, Any] | None = None,
        own: Sequence[Mapping[str, Vector]] | None = None,
        slots: Vector | None = None,
        steps: Sequence[int | None] | None = None,
        late: bool = False,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        weights: NDArray[np.float32] | None = None,
    ) -> list[Trained]:
        """Train clients one after the other in one call of the graph, as :meth:`train` does one.

        Args:
            clients: their numbers.
            sizes: how many examples each has.
            round: the round, from 1.
            model: global weights [P].
            x: examples of all of them, joined.
            y: labels, joined.
            epochs: local epochs.
            shared: what the server shares.
            own: each client's state; zeros when None.
            slots: the optimiser's state to go on from (one client only).
            steps: optimiser steps of each, fewer than its epochs have; None: all.
            late: whether deltas may be computed when they are read (see
                :class:`~strategies.sums.Difference`).
            learning_rate: the optimiser's for this call; its own when None.
            batch_size: examples of a step; the experiment's when None.
            weights: the examples' weights, joined, where they have any.

        Raises:
            ValueError: for more clients than :attr:`together`, or a learning rate where the
                optimiser follows a schedule.
        """
        if len(clients) > self.together:
            raise ValueError(f"clients must be at most {self.together}, got {len(clients)}")
        epochs = 1 if self.rule.full_batch else epochs
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        batches = [n if self.rule.full_batch else batch_size or self.batch for n in sizes]
        whole = [epochs * -(-n // b) for n, b in zip(sizes, batches, strict=True)]
        limits = [w if s is None else min(w, s) for w, s in zip(whole, steps or whole, strict=True)]
        order = np.empty((epochs, len(y)), np.int32)
        for client, n, start, b in zip(clients, sizes, starts.tolist(), batches, strict=False):
            if n <= b:  # A batch has no order.
                order[:, start : start + n] = np.arange(start, start + n)
                continue
            shuffle = stream(self.seed, SHUFFLE, round, client)
            for epoch in range(epochs):
                order[epoch, start : start + n] = shuffle.permutation(n)
                order[epoch, start : start + n] += start
        head = self.spec.trainable_size
        zeros = {name: np.zeros(head, np.float32) for name in self.rule.own}
        kept: Sequence[Mapping[str, Vector]] = own or [zeros] * len(clients)
        stacked = {name: np.stack([k[name] for k in kept]) for name in self.rule.own}
        given = {k: np.asarray(v, np.float32) for k, v in (shared or {}).items()}
        shapes = tuple((name, np.shape(given[name])) for name in sorted(given))
        if shapes not in self._fits:
            self._fits[shapes] = self.graph.compile_fit(*self._like, given, stacked)
        arguments = (
            model,
            self._fresh_slots if slots is None else slots,
            x,
            y,
            {} if weights is None else {"weights": weights},
            order,
            starts,
            np.asarray(batches, np.int32),
            np.asarray(limits, np.int32),
            self._layer_seeds(round, clients),
            given,
            stacked,
        )
        given_as = tf.nest.map_structure(tf.constant, arguments)
        with at_rate(self.model.optimizer, learning_rate) as used:
            ends, sums, seen, after = self._fits[shapes](*given_as)
        # Not by numpy(), which copies: the weights are the largest thing here.
        before, *found = [np.asarray(memoryview(t)) for t in (given_as[0], *ends[: len(clients)])]
        vectors: list[Any] = [Difference(end, before) if late else end - before for end in found]
        measured, states = sums.numpy().astype(np.float64), seen.numpy()
        rate = self._learning_rate or 0.0 if used is None else used
        made = []
        for i, client in enumerate(clients):
            # Examples seen: the last batch of an epoch is a short one.
            n, batch = sizes[i], batches[i]
            per_epoch = -(-n // batch)
            whole_epochs, rest = divmod(limits[i], per_epoch)
            seen_rows = max(1, whole_epochs * n + min(n, rest * batch))
            loss, right, count = measured[i].tolist()
            metrics = {"loss": loss / seen_rows, "accuracy": right / count if count else np.nan}
            if self.rule.initial_loss:
                at = np.arange(starts[i], starts[i + 1])
                first = self.evaluator.evaluate(model, x, y, at, weights=weights)
                metrics["initial_loss"] = float(first.loss[0] / n)
            extras: Mapping[str, Vector] = {}
            state = kept[i]
            if self.rule.after is not None:
                local = Local(limits[i], rate, *(self.sgd or (0.0, False)))
                extras, state = self.rule.after(vectors[i][:head], given, state, local)
            update = Update(
                client, n, vectors[i], limits[i], extras, metrics, rate, head,
                *(self.sgd or (0.0, False)),
            )  # fmt: skip
            kept_slots = None if slots is None else after.numpy()
            made.append(Trained(update, state, kept_slots, count / seen_rows * n, states[i]))
        return made

    def save(self, model: Vector, path: str) -> None:
        """Write a model of weights [P] as a ``.keras`` file; it takes inputs as the dataset's."""
        self.evaluator.assign(model)
        accuracy = self.measures.accuracy
        metric = None if accuracy is None else accuracy.metric
        rescaling.to_save(self.model, self.scale, self._like[0], metric).save(path)

    @staticmethod
    def _scaled(x: Inputs, scale: Any) -> Any:
        return inputs.each(lambda part, by: scaled(tf.constant(part), by), x, scale)

    def _try_forward(self, like: Any, x: Inputs, y: NDArray[Any], classes: int | None) -> tf.Tensor:
        try:
            out = self.model(like, training=False)
        except Exception as error:
            raise ModelError(
                f"model {self.model.name!r} cannot take examples of shape {inputs.shapes(x)}: "
                f"{str(error).splitlines()[0]}"
            ) from error
        if not isinstance(out, tf.Tensor):
            raise ModelError(
                f"model {self.model.name!r} must have one output, got a {type(out).__name__}"
            )
        several = classes is not None and classes > 2 and y.dtype.kind in "iu"
        if several and 1 < out.shape[-1] < classes and y.shape[1:] != out.shape[1:]:
            raise ModelError(
                f"model output must have at least {classes} units (classes of the dataset), "
                f"got {out.shape[-1]}"
            )
        return out

    def _layer_seeds(self, round: int, clients: Sequence[int]) -> NDArray[np.uint32]:
        if not self._seeds:
            return np.zeros((len(clients), 0, 2), np.uint32)
        streams = (stream(self.seed, LAYER_SEEDS, round, client) for client in clients)
        return np.stack([s.integers(0, 2**32, (self._seeds, 2), np.uint32) for s in streams])
