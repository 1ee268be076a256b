"""Local training with Keras on JAX: the host's side of it.

A :class:`JaxTrainer` builds the model once per process. A call trains the clients of a job side by
side (:mod:`.lanes`), as they are dealt to lanes (:mod:`.schedule`).
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from simulation.config.experiment import Experiment
from simulation.config.local_work import local_work
from simulation.datasets.dataset import Dataset
from simulation.datasets.inputs import Inputs
from simulation.training.jax import memory, refused
from simulation.training.jax.evaluator import Evaluator
from simulation.training.jax.initial_weights import without_tensorflow
from simulation.training.jax.lanes import Ended
from simulation.training.jax.measures import Metrics
from simulation.training.jax.needs import Needs
from simulation.training.jax.prepared import PreparedModel, flat
from simulation.training.jax.rows_apart import check_rows_apart
from simulation.training.jax.runner import Runner
from simulation.training.jax.schedule import power_of
from simulation.training.jax.stack import DeviceStack
from simulation.training.keras import rescaling
from simulation.training.keras.class_means import MeasuredMeans
from simulation.training.keras.keras_model import plain_learning_rate, sgd_of
from simulation.training.measured import Measured, ModelInfo, TrainedClient
from simulation.training.plan import Job, Plan, trained_client
from simulation.training.uploads import ByClass, measured_uploads
from strategies.client_rule import ClientRule
from strategies.direction import SECOND
from strategies.spec import Spec, Vector


class JaxTrainer:
    """Train and evaluate clients of one experiment with one Keras model.

    Args:
        experiment: the experiment.
        data: examples, for their shape and type.
        rule: the client rule.
        weighted: whether examples have weights.

    Raises:
        ModelError: when the model cannot be built, does not fit the data or is not for JAX.
    """

    def __init__(
        self, experiment: Experiment, data: Dataset, rule: ClientRule, weighted: bool
    ) -> None:
        self.model = PreparedModel(
            experiment, data.x_train, data.y_train, data.classes, data.scale, weighted
        )
        if refused.unknown(self.model.keras):
            check_rows_apart(self.model, data.x_train, data.y_train, weighted)
        tracked = [*self.model.trained, *self.model.statistics]
        self.spec = Spec(
            tuple(v.path for v in tracked),
            tuple(tuple(v.shape) for v in tracked),
            len(self.model.trained),
        )
        objective = self.model.objective(rule)
        self._by_class: ByClass | None = None
        if objective is not None and objective.objective.means:
            self.spec = replace(
                self.spec, of_classes=objective.of_classes(self.model.inputs(self.model.like))
            )
            means = MeasuredMeans(objective, self.spec, tracked, self.model.inputs, jax.jit)
            self._by_class = means.of
        self.learning_rate = plain_learning_rate(self.model.optimizer)
        self.sgd = sgd_of(self.model.optimizer)
        self.initial_slots = flat(self.model.slots)
        self.plan = Plan(
            experiment.seed, local_work(experiment.training).batch, rule, self.spec.trainable_size,
            len(self.model.seeds),
        )  # fmt: skip
        self.lanes = self._lanes(experiment, data, rule, weighted)
        self.runner = Runner(self.model, self.spec, rule, self.lanes)
        self.evaluator = Evaluator(self.model, self.runner.programs, weighted)
        self._phases: dict[int, JaxTrainer] = {}

    def _lanes(
        self, experiment: Experiment, data: Dataset, rule: ClientRule, weighted: bool
    ) -> int:
        """Return how many clients are trained side by side."""
        if experiment.mode != "federated":
            return 1  # A baseline has one client, whose optimiser's state comes back.
        if experiment.resources.lanes is not None:
            return experiment.resources.lanes
        batch = None if rule.full_batch or rule.gradient else self.plan.batch
        batch = batch or power_of(4, -(-len(data.y_train) // experiment.clients))
        needs = Needs(self.model, self.spec, rule, data, batch, weighted)
        return memory.lanes_that_fit(needs.of, jax.devices()[0])

    def of(self, experiment: Experiment, rule: ClientRule) -> JaxTrainer:
        """Return a trainer of another run of the same kind, which shares what was compiled."""
        other = copy.copy(self)
        if experiment.training.learning_rate is not None:
            other.learning_rate = float(np.float32(experiment.training.learning_rate))
        other.plan = replace(
            self.plan, seed=experiment.seed, batch=local_work(experiment.training).batch, rule=rule
        )
        return other

    def phase(self, place: int, rule: ClientRule) -> JaxTrainer:
        """Return a trainer of the same model for a phase, whose programs outlive the run."""
        if place not in self._phases:
            made = self._phases[place] = copy.copy(self)
            made.runner = Runner(self.model, self.spec, rule, self.lanes)
        found = copy.copy(self._phases[place])
        found.learning_rate = self.learning_rate
        found.plan = replace(self.plan, rule=rule, phase=place)
        return found

    @property
    def info(self) -> ModelInfo:
        """Return the model's layout and initial weights."""
        return ModelInfo(
            self.spec, self.model.initial(self.plan.seed), self.learning_rate or 0.0,
            self.model.measures.described(self.model.scale), self.lanes,
        )  # fmt: skip

    @property
    def metrics(self) -> Metrics:
        """The model's own metrics."""
        return self.model.metrics

    @property
    def optimizer(self) -> str:
        """The class of the model's optimiser."""
        return type(self.model.optimizer).__name__

    @property
    def most(self) -> int:
        """Clients of a call, at most."""
        return self.runner.most

    def group(self, sizes: Sequence[int], chunk: int) -> int:
        """Return how many clients one call trains: those of one chunk, as their bits may differ."""
        return min(self.most, len(sizes), len(sizes) if self.lanes == 1 else chunk)

    def place(self, model: Vector) -> Any:
        """Return a model [P] on the device."""
        return jax.device_put(np.asarray(model, np.float32))

    def train(self, model: Any, job: Job) -> list[TrainedClient]:
        """Train clients side by side.

        Args:
            model: global weights [P].
            job: the clients and what they train with.

        Raises:
            ValueError: for more clients than :attr:`most`, or a learning rate where the optimiser
                follows a schedule.
        """
        rate = self.rate_of(job)
        stack, ended, slots = self.runner.train(model, job, rate)
        return self.trained(model, job, (stack, ended), rate, slots)

    def rate_of(self, job: Job) -> float:
        """Return the learning rate of a job that can be trained; errors as :meth:`train`."""
        if len(job.clients) > self.most:
            raise ValueError(f"clients must be at most {self.most}, got {len(job.clients)}")
        if job.learning_rate is None:
            return self.learning_rate or 0.0
        if self.learning_rate is None:
            raise ValueError(
                "lr must be left out for an optimizer whose learning rate is a schedule, got "
                f"{job.learning_rate!r}"
            )
        return float(np.float32(job.learning_rate))

    def trained(
        self, model: Any, job: Job, found: tuple[DeviceStack, Ended], rate: float,
        slots: Sequence[Any] = (),
    ) -> list[TrainedClient]:  # fmt: skip
        """Return what a job's clients give, from what the lanes have found."""
        stack, ended = found
        idle, sums, states = job.steps == 0, ended.sums, ended.metrics
        sums[idle], states[idle] = 0, 0
        second = self._second(model, job, ended.second)
        # Where each client is trained for itself, it is folded for itself.
        left_there = job.lazy_delta and self.lanes > 1 and self._by_class is None
        deltas: Any = stack.rows() if left_there else stack.vectors()
        kept = None if job.slots is None else flat(slots)
        losses = self._initial_losses(model, job)

        def end(k: int) -> Vector:
            return np.asarray(model) + np.asarray(deltas[k])

        uploads = measured_uploads(self, self._by_class, model, job, end)
        return [
            trained_client(
                self.plan, job, k, deltas[k], sums[k].astype(np.float64).tolist(),
                states[k], kept, rate, self.sgd, losses[k], model, second[k],
                uploads[k],
            )
            for k in range(len(job.clients))
        ]  # fmt: skip

    def _second(self, model: Any, job: Job, found: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return second models and numbers [K, T + N]; of who took no step those of before."""
        way = self.plan.rule.direction
        if way is None or not way.second:
            return found
        received = np.asarray(model)[: self.plan.trainable]
        usual = np.concatenate([received, np.array(list(way.numbers.values()), np.float32)])
        for k in np.flatnonzero(job.steps == 0).tolist():
            found[k] = job.own[k].get(SECOND, usual)
        return found

    def _initial_losses(self, model: Any, job: Job) -> list[float | None]:
        """Return the received model's loss on each client's examples, where the rule asks."""
        if not self.plan.rule.initial_loss:
            return [None] * len(job.clients)
        of = job.examples
        rows = np.arange(len(of.y))
        first = self.evaluator.evaluate(model, of.x, of.y, rows, job.sizes, weights=of.weights)
        return [float(loss / n) for loss, n in zip(first.loss, job.sizes, strict=True)]

    def evaluate(
        self, model: Any, x: Inputs, y: NDArray[Any], rows: NDArray[Any],
        sizes: Sequence[int] | None = None, batch: int = 500,
        weights: NDArray[np.float32] | None = None,
    ) -> Measured:  # fmt: skip
        """Measure a model on rows of the data (see :meth:`Evaluator.evaluate`)."""
        return self.evaluator.evaluate(
            self.place(model), x, y, rows, sizes, batch, weights, lasting=True
        )

    def save(self, model: Vector) -> bytes:
        """Return a model of weights [P] as a ``.keras`` file; it takes inputs as the dataset's."""
        variables = [*self.model.trained, *self.model.statistics]
        parts = self.spec.unravel(np.asarray(model))
        for variable, part in zip(variables, parts, strict=True):
            variable.assign(part.astype(variable.dtype))
        accuracy = self.model.measures.accuracy
        metric = None if accuracy is None else accuracy.metric
        if self.learning_rate is not None:  # Runs of other learning rates share the model.
            self.model.optimizer.learning_rate = self.learning_rate
        whole = rescaling.to_save(self.model.keras, self.model.scale, self.model.like, metric)
        with tempfile.TemporaryDirectory() as folder, without_tensorflow():
            path = Path(folder) / "model.keras"
            whole.save(str(path))
            return path.read_bytes()
