"""Local training with Keras on TensorFlow: the host's side of it.

A :class:`TensorFlowTrainer` builds the model once per process and compiles one graph
(:mod:`.graph`) that runs the whole local training of several clients.
"""

from __future__ import annotations

import copy
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from simulation.config.experiment import Experiment
from simulation.config.local_work import local_work
from simulation.datasets import inputs
from simulation.datasets.inputs import Inputs
from simulation.training.backend import ModelError
from simulation.training.joined import joined
from simulation.training.keras import default_loss, models, rescaling
from simulation.training.keras.directions import frozen_places
from simulation.training.keras.keras_model import (
    at_rate,
    compile_model,
    other_states,
    plain_learning_rate,
    seed_states,
    sgd_of,
    statistics,
)
from simulation.training.keras.measuring import check_units
from simulation.training.keras.objectives import ModelObjective
from simulation.training.measured import Measured, ModelInfo, TrainedClient
from simulation.training.plan import Job, Plan, trained_client
from simulation.training.tensorflow import steps as stepping
from simulation.training.tensorflow.class_means import class_means
from simulation.training.tensorflow.evaluator import Evaluator
from simulation.training.tensorflow.graph import Graph, scaled
from simulation.training.tensorflow.keras_metrics import KerasMetrics
from simulation.training.tensorflow.measures import Measures
from simulation.training.uploads import ByClass, measured_uploads
from strategies.client_rule import ClientRule
from strategies.objective import HELD
from strategies.spec import Spec, Vector
from strategies.stacked import Difference

MOST_TOGETHER = 16
"""Clients that one call of the graph trains, at most: a call costs as much as half a client of 6
images."""

ROWS_TOGETHER = 4096
"""Examples of the clients that one call of the graph trains, at most (unless one has more)."""

DELTA_BYTES = 2**25
"""Memory for the deltas of one call."""


class _Fitted(NamedTuple):
    """What a call of the graph gives.

    Args:
        before: the weights at the start [P]; None of several models.
        ends: those of each client at the end [P].
        measured: sums of loss, of what is right and of what counts, of each.
        states: variables of the model's own metrics [K, S].
        slots: the optimiser's state at the end, where it is kept.
        rate: the learning rate that was used.
        seconds: each one's second model and numbers [K, T + N].
    """

    before: NDArray[np.float32] | None
    ends: list[NDArray[np.float32]]
    measured: list[list[float]]
    states: NDArray[np.float32]
    slots: Vector | None
    rate: float
    seconds: NDArray[np.float32]


def _version(model: Vector, job: Job) -> Any:
    """Return what tells a model, and what is shared with it, from others: the same in memory."""
    told = ((n, v.item() if v.ndim == 0 else id(v)) for n, v in sorted(job.shared.items()))
    return model.__array_interface__["data"][0], *told


class TensorFlowTrainer:
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
        rule = rule or ClientRule()
        one = inputs.rows(x, slice(1))
        like = self._scaled(one, scale)
        self._build = (experiment.model, inputs.shapes(x), classes)
        self._init = experiment.init
        self.model = models.build(*self._build, experiment.seed, like, self._init)
        self.scale = rescaling.effective(self.model, scale)
        self._example = like = self._scaled(one, self.scale)
        output = self._try_forward(like, one, y[:1], classes)
        default = default_loss.loss_for(self.model, experiment.training, y, output, classes)
        compile_model(self.model, experiment.training, default)
        stepping.check(self.model)
        weights = {"weights": np.ones(1, np.float32)} if weighted else {}
        self._like = (one, y[:1], weights)
        self.measures = Measures(
            self.model, like, y[:1], output, weights.get("weights"), classes, default is not None,
            experiment.evaluation.metrics, y,
        )  # fmt: skip
        trainable = self.model.trainable_variables
        tracked = [*trainable, *statistics(self.model)]
        self.spec = Spec(
            tuple(v.path for v in tracked), tuple(tuple(v.shape) for v in tracked), len(trainable)
        )
        self._initial: Vector | None = self.spec.ravel([v.numpy() for v in tracked])
        self.learning_rate = plain_learning_rate(self.model.optimizer)
        self.sgd = sgd_of(self.model.optimizer)
        rate = self.model.optimizer.learning_rate
        slots = [v for v in self.model.optimizer.variables if v is not rate]
        self.plan = Plan(
            experiment.seed, local_work(experiment.training).batch, rule, self.spec.trainable_size,
            len(seed_states(self.model)),
        )  # fmt: skip
        self._tracked, self._slots = tracked, slots
        objective = self._objective(rule, output, weighted)
        self._by_class: ByClass | None = None
        if objective is not None and objective.objective.means:
            self.spec = replace(self.spec, of_classes=objective.of_classes(like))
            self._by_class = class_means(objective, self.spec, tracked, self.scale).of
        self.graph = self._graph(rule, objective)
        self.initial_slots = self.graph.initial_slots
        self._fresh_slots = tf.constant(self.initial_slots)
        self._fits: dict[Any, Any] = {}
        self._phases: dict[int, TensorFlowTrainer] = {}
        self._several: OrderedDict[int, tuple[Vector, tf.Tensor]] = OrderedDict()
        self.evaluator = Evaluator(self.graph, self._like)

    def _graph(self, rule: ClientRule, objective: ModelObjective | None = None) -> Graph:
        return Graph(
            self.model, self.spec, self._tracked, self._slots, seed_states(self.model), rule.hook,
            self.scale, self.measures, other_states(self.model), self.together, objective,
            frozen_places(self.spec, rule.frozen), rule.direction,
        )  # fmt: skip

    def phase(self, place: int, rule: ClientRule) -> TensorFlowTrainer:
        """Return a trainer of the same model for a phase, whose graphs outlive the run."""
        if place not in self._phases:
            made = self._phases[place] = copy.copy(self)
            made.graph, made._fits = self._graph(rule), {}
        found = copy.copy(self._phases[place])
        found.plan = replace(self.plan, rule=rule, phase=place)
        return found

    def _objective(self, rule: ClientRule, output: Any, weighted: bool) -> ModelObjective | None:
        if rule.objective is None:
            return None
        of, loss = self.measures.accuracy, self.measures.loss
        return ModelObjective(self.model, rule.objective, of, loss, output, weighted)

    def of(self, experiment: Experiment, rule: ClientRule) -> TensorFlowTrainer:
        """Return a trainer of another run of the same kind, which shares model and graphs.

        Args:
            experiment: as this one's but for seed, batch size and what no trainer depends on.
            rule: a client rule with the same hook and objective.
        """
        other = copy.copy(self)
        other.plan = replace(
            self.plan, seed=experiment.seed, batch=local_work(experiment.training).batch, rule=rule
        )
        if experiment.seed != self.plan.seed:
            other._initial = None
        return other

    @property
    def initial(self) -> Vector:
        """The model's initial weights [P]: built where somebody asks, which one worker is."""
        if self._initial is None:
            fresh = models.build(*self._build, self.plan.seed, self._example, self._init)
            weights = [*fresh.trainable_variables, *statistics(fresh)]
            self._initial = self.spec.ravel([v.numpy() for v in weights])
        return self._initial

    @property
    def info(self) -> ModelInfo:
        """Return the model's layout and initial weights."""
        return ModelInfo(
            self.spec, self.initial, self.learning_rate or 0.0, self.measures.described(self.scale)
        )

    @property
    def metrics(self) -> KerasMetrics:
        """The model's own metrics."""
        return self.measures.metrics

    lanes = 1
    """Clients are trained one after the other."""

    @property
    def optimizer(self) -> str:
        """The class of the model's optimiser."""
        return type(self.model.optimizer).__name__

    @property
    def together(self) -> int:
        """How many clients one call of the graph should train, as far as their deltas fit."""
        return max(1, min(MOST_TOGETHER, DELTA_BYTES // (4 * max(1, self.spec.size))))

    @property
    def most(self) -> int:
        """How many clients one call takes, at most."""
        return self.together

    def group(self, sizes: Sequence[int], chunk: int) -> int:
        """Return how many clients one call trains: as far as deltas fit, not too many examples."""
        most, rows = min(self.together, len(sizes)), np.cumsum(sizes[: self.together])
        return max(1, min(most, int(np.searchsorted(rows, ROWS_TOGETHER, side="right"))))

    def place(self, model: Vector) -> tf.Tensor:
        """Return a model [P] as a tensor, which many calls read."""
        return tf.constant(model)

    def train(self, model: Vector | tf.Tensor, job: Job) -> list[TrainedClient]:
        """Train clients one after the other in one call of the graph.

        Args:
            model: global weights [P].
            job: the clients and what they train with.

        Raises:
            ValueError: for more clients than :attr:`together`, or a learning rate where the
                optimiser follows a schedule.
        """
        fitted = self._fitted(model, job)
        assert fitted.before is not None
        return self._trained(job, fitted, range(len(job.clients)), model, fitted.before)

    def train_each(self, asked: Sequence[tuple[Vector, Job]]) -> list[list[TrainedClient]]:
        """Train jobs of like kind, each from a model of its own, in one call of the graph.

        Args:
            asked: models [P] and jobs, without slots to go on from.
        """
        versions: dict[Any, int] = {}
        which = [versions.setdefault(_version(*one), len(versions)) for one in asked]
        first = [which.index(place) for place in range(len(versions))]
        jobs = [job for _, job in asked]
        shared = {
            name: np.stack([jobs[place].shared[name] for place in first]) for name in jobs[0].shared
        }
        models = [self._apart(asked[place][0]) for place in first]
        models += models[-1:] * (self.graph.most - len(models))
        counts = [len(job.clients) for job in jobs]
        whole = replace(joined(jobs), shared=shared)
        fitted = self._fitted(models, whole, np.repeat(which, counts).astype(np.int32))
        ends = np.cumsum(counts).tolist()
        return [
            self._trained(job, fitted, range(end - count, end), model, np.asarray(model))
            for (model, job), count, end in zip(asked, counts, ends, strict=True)
        ]

    def _apart(self, model: Vector) -> tf.Tensor:
        """Return a model [P] as the graph takes one of several; the last ones are at hand."""
        if model.flags.writeable:
            return tf.constant(self.graph.apart.of(model))
        key = model.__array_interface__["data"][0]
        if key not in self._several:  # What is kept keeps its memory, and with it its key.
            self._several[key] = model, tf.constant(self.graph.apart.of(model))
            if len(self._several) > self.together:
                self._several.popitem(last=False)
        self._several.move_to_end(key)
        return self._several[key][1]

    def _fitted(
        self,
        model: Vector | tf.Tensor | list[tf.Tensor],
        job: Job,
        which: NDArray[np.int32] | None = None,
    ) -> _Fitted:
        """Train in one call of the graph, from one model [P], or from several of :class:`Apart`."""
        count, examples = len(job.clients), job.examples
        if count > self.together:
            raise ValueError(f"clients must be at most {self.together}, got {count}")
        stacked = {name: np.stack([own[name] for own in job.own]) for name in self.plan.rule.own}
        objective = self.graph.objective
        if objective is not None and objective.objective.held:
            stacked[HELD] = job.held(objective.classes)
        several = which is not None
        like = {name: value[0] if several else value for name, value in job.shared.items()}
        shapes = several, tuple((name, np.shape(like[name])) for name in sorted(like))
        if shapes not in self._fits:
            self._fits[shapes] = self.graph.compile_fit(*self._like, like, stacked, several)
        arguments = (
            self._fresh_slots if job.slots is None else job.slots,
            examples.x,
            examples.y,
            {} if examples.weights is None else {"weights": examples.weights},
            job.order,
            job.starts,
            job.batches,
            job.steps,
            job.seeds,
            job.shared,
            stacked,
            *([which] if several else []),
        )
        start: Any = (
            model if several else tf.constant(model)
        )  # Of several, each is a tensor already.
        given = tf.nest.map_structure(tf.constant, arguments)
        with at_rate(self.model.optimizer, job.learning_rate) as used:
            ends, sums, seen, after, seconds = self._fits[shapes](start, *given)
        # Not by numpy(), which copies: the weights are the largest thing here.
        before = None if several else np.asarray(memoryview(start))
        found = [np.asarray(memoryview(end)) for end in ends[:count]]
        rate = self.learning_rate or 0.0 if used is None else used
        slots = None if job.slots is None else after.numpy()
        measured = sums.numpy().astype(np.float64).tolist()
        return _Fitted(before, found, measured, seen.numpy(), slots, rate, seconds.numpy())

    def _trained(
        self, job: Job, fitted: _Fitted, at: range, model: Vector | tf.Tensor, before: Vector
    ) -> list[TrainedClient]:
        """Return what the clients of a job gave, whose places in the call are ``at``."""
        lazy, ends = job.lazy_delta, [fitted.ends[k] for k in at]
        uploads = measured_uploads(self, self._by_class, model, job, ends.__getitem__)
        deltas: list[Any] = [Difference(end, before) if lazy else end - before for end in ends]
        return [
            trained_client(
                self.plan, job, k, deltas[k], fitted.measured[place], fitted.states[place],
                fitted.slots, fitted.rate, self.sgd, self._initial_loss(model, job, k), before,
                fitted.seconds[place], uploads[k],
            )
            for k, place in enumerate(at)
        ]  # fmt: skip

    def _initial_loss(self, model: Vector | tf.Tensor, job: Job, place: int) -> float | None:
        """Return the received model's loss on a client's examples, where the rule asks for it."""
        if not self.plan.rule.initial_loss:
            return None
        at = np.arange(job.starts[place], job.starts[place + 1])
        of = job.examples
        first = self.evaluator.evaluate(model, of.x, of.y, at, weights=of.weights)
        return float(first.loss[0] / job.sizes[place])

    def evaluate(
        self, model: Vector, x: Inputs, y: NDArray[Any], rows: NDArray[Any],
        sizes: Sequence[int] | None = None, batch: int = 500,
        weights: NDArray[np.float32] | None = None,
    ) -> Measured:  # fmt: skip
        """Measure a model on rows of the data (see :meth:`Evaluator.evaluate`)."""
        return self.evaluator.evaluate(model, x, y, rows, sizes, batch, weights)

    def save(self, model: Vector) -> bytes:
        """Return a model of weights [P] as a ``.keras`` file; it takes inputs as the dataset's."""
        self.evaluator.assign(model)
        accuracy = self.measures.accuracy
        metric = None if accuracy is None else accuracy.metric
        whole = rescaling.to_save(self.model, self.scale, self._like[0], metric)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"
            whole.save(str(path))
            return path.read_bytes()

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
        check_units(out.shape, y, classes)
        return out
