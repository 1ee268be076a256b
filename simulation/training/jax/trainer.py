"""Local training with Keras on JAX: the host's side of it.

A :class:`JaxTrainer` builds the model once per process. A call trains the clients of a job side by
side (:mod:`.lanes`), as they are dealt to lanes (:mod:`.schedule`).
"""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from simulation.config.experiment import Experiment
from simulation.datasets import inputs
from simulation.datasets.dataset import Dataset
from simulation.datasets.inputs import Inputs
from simulation.training.jax import memory
from simulation.training.jax.evaluator import Evaluator
from simulation.training.jax.initial_weights import without_tensorflow
from simulation.training.jax.lanes import Ended, Lanes, Round, Steps
from simulation.training.jax.measures import Metrics
from simulation.training.jax.prepared import PreparedModel, flat
from simulation.training.jax.schedule import deal, padded_batch, power_of, table, widths_of
from simulation.training.jax.step import Client
from simulation.training.keras import rescaling
from simulation.training.keras.keras_model import plain_learning_rate, sgd_of
from simulation.training.measured import Measured, ModelInfo, TrainedClient
from simulation.training.plan import Job, Plan, trained_client
from strategies.client_rule import ClientRule
from strategies.spec import Spec, Vector

log = logging.getLogger("sunflower.jax")

STEPS_AT_ONCE = 16
"""Steps that the device is given at a time: a length that all programs have."""

QUEUE = 4
"""Clients of a call for each lane, at most."""

OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"
"""In the text of JAX's error."""

DELTA_BYTES = 2**28
"""Memory for what the clients of a call end with, if that is not less than one for each lane."""


class Buffers:
    """What stays on the device from call to call, and is written anew in each."""

    def __init__(self, width: int) -> None:
        self.width = width  # how many lanes there is memory for
        self.lanes: Client | None = None
        self.ended: Ended | None = None

    def forget(self) -> None:
        """Let go of arrays that a call may have given away."""
        self.lanes = self.ended = None


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
        tracked = [*self.model.trained, *self.model.statistics]
        self.spec = Spec(
            tuple(v.path for v in tracked),
            tuple(tuple(v.shape) for v in tracked),
            len(self.model.trained),
        )
        self.learning_rate = plain_learning_rate(self.model.optimizer)
        self.sgd = sgd_of(self.model.optimizer)
        self.initial_slots = flat(self.model.slots)
        self.plan = Plan(
            experiment.seed, experiment.training.batch_size, rule, self.spec.trainable_size,
            len(self.model.seeds),
        )  # fmt: skip
        self.programs = Lanes(self.model, self.spec, rule.hook)
        self.evaluator = Evaluator(self.model, self.programs, weighted)
        self._slots = self.model.values(self.model.slots)
        self._frozen = jax.device_put(self.model.values(self.model.frozen))
        self._rest = self.model.values(self.model.rest)
        self.lanes = self._lanes(experiment, data)
        self._buffers = Buffers(self.lanes)

    def _lanes(self, experiment: Experiment, data: Dataset) -> int:
        """Return how many clients are trained side by side."""
        if experiment.mode != "federated":
            return 1  # A baseline has one client, whose optimiser's state comes back.
        if experiment.resources.lanes is not None:
            return experiment.resources.lanes
        return memory.lanes_that_fit(lambda lanes: self._needs(lanes, data), jax.devices()[0])

    def of(self, experiment: Experiment, rule: ClientRule) -> JaxTrainer:
        """Return a trainer of another run of the same kind, which shares what was compiled."""
        other = copy.copy(self)
        other.plan = replace(
            self.plan, seed=experiment.seed, batch=experiment.training.batch_size, rule=rule
        )
        return other

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
        fitting = DELTA_BYTES // (4 * max(1, self.spec.size))
        return max(self.lanes, min(QUEUE * self.lanes, fitting))

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
        if len(job.clients) > self.most:
            raise ValueError(f"clients must be at most {self.most}, got {len(job.clients)}")
        rate = self.learning_rate or 0.0
        if job.learning_rate is not None:
            if self.learning_rate is None:
                raise ValueError(
                    "lr must be left out for an optimizer whose learning rate is a schedule, got "
                    f"{job.learning_rate!r}"
                )
            rate = float(np.float32(job.learning_rate))
        ended = self._run_as_wide_as_memory(model, job, rate)
        count = len(job.clients)
        # Copies: what is on the device now is written over in the next call.
        weights, sums, states = (np.array(np.asarray(part)[:count]) for part in ended)
        deltas = weights - np.asarray(model)
        idle = job.steps == 0
        deltas[idle], sums[idle], states[idle] = 0, 0, 0
        slots = None
        if job.slots is not None:
            assert self._buffers.lanes is not None
            slots = flat([np.asarray(s)[0] for s in self._buffers.lanes.slots])
        losses = self._initial_losses(model, job)
        return [
            trained_client(
                self.plan, job, k, deltas[k], sums[k].astype(np.float64).tolist(),
                states[k], slots, rate, self.sgd, losses[k],
            )
            for k in range(count)
        ]  # fmt: skip

    def _run_as_wide_as_memory(self, model: Any, job: Job, rate: float) -> Ended:
        """Let the lanes take all steps of a job; with half of them where memory does not last."""
        while True:
            try:
                return self._run(model, job, rate)
            except RuntimeError as error:
                self._buffers.forget()
                width = self._buffers.width
                if OUT_OF_MEMORY not in str(error) or width == 1:
                    raise
                self._buffers.width = -(-width // 2)
            log.warning(
                "%d clients side by side need more memory than there is: from here on it is %d "
                "clients side by side, and last bits may be others; --lanes %d says so from the "
                "start", width, self._buffers.width, self._buffers.width,
            )  # fmt: skip

    def _run(self, model: Any, job: Job, rate: float) -> Ended:
        """Let the lanes take all steps of a job."""
        steps = job.steps if job.beside is None else job.beside.steps
        dealt = deal(steps, widths_of(self._buffers.width))
        batch = self._batch(job)
        given = self._round(model, job, rate)
        lanes, ended = self._buffers_for()
        self._buffers.forget()
        for phase in dealt.phases:
            for first in range(phase.first, phase.last, STEPS_AT_ONCE):
                last = min(first + STEPS_AT_ONCE, phase.last)
                some = self._steps(job, table(job, dealt, phase, first, last, batch))
                lanes, ended = self.programs.run(given, lanes, ended, some, last - first)
        jax.block_until_ready(ended)
        self._buffers.lanes, self._buffers.ended = lanes, ended
        return ended

    def _batch(self, job: Job) -> int:
        """Return how many examples a step has room for."""
        largest = job.largest
        if self.plan.rule.full_batch:
            return power_of(4, largest)
        return padded_batch(int(job.batches.max()), largest)

    def _round(self, model: Any, job: Job, rate: float) -> Round:
        count = len(job.clients)
        seeds = np.zeros((self.most, *job.seeds.shape[1:]), np.uint32)
        seeds[:count] = job.seeds
        own = {}
        for name in self.plan.rule.own:
            own[name] = np.zeros((self.most, self.spec.trainable_size), np.float32)
            for k, state in enumerate(job.own):
                own[name][k] = state[name]
        slots: list[Any] = self._slots
        if job.slots is not None:
            slots, at = [], 0
            for like in self._slots:
                part = job.slots[at : at + like.size]
                slots.append(part.reshape(like.shape).astype(like.dtype))
                at += like.size
        shared = {name: job.shared[name] for name in sorted(job.shared)}
        return jax.device_put(
            Round(
                model, slots, self._frozen, self._rest, np.float32(rate), shared, own, seeds, None
            )
        )

    def _buffers_for(self) -> tuple[Client, Ended]:
        """Return the buffers of the lanes and of what has ended, made where there are none."""
        held = self._buffers
        if held.lanes is None or held.ended is None:
            held.lanes, held.ended = jax.device_put(self._empty(held.width))
        assert held.lanes is not None
        assert held.ended is not None
        return held.lanes, held.ended

    def _empty(self, lanes: int) -> tuple[Client, Ended]:
        def many(variables: Sequence[Any]) -> list[NDArray[Any]]:
            return [np.zeros((lanes, *v.shape), v.dtype) for v in variables]

        model, zeros = self.model, np.zeros
        client = Client(
            many(model.trained), many(model.statistics), many(self._slots), many(model.rest),
            zeros((lanes, len(model.seeds), 2), np.uint32), many(model.metrics.variables),
            zeros((lanes, 3), np.float32),
        )  # fmt: skip
        sizes = (self.spec.size, 3, model.metrics.size)
        return client, Ended(*(zeros((self.most, size), np.float32) for size in sizes))

    def _steps(self, job: Job, found: Any) -> Steps:
        """Return the steps of a table, filled up to :data:`STEPS_AT_ONCE`, with their examples."""
        missing = STEPS_AT_ONCE - len(found.count)

        def whole(array: NDArray[Any]) -> NDArray[Any]:
            return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))

        rows, examples = whole(found.rows), job.examples
        end = np.concatenate([found.end, np.full((missing, found.end.shape[1]), -1, np.int32)])
        weights = None if examples.weights is None else examples.weights[rows]
        return Steps(
            x=inputs.rows(examples.x, rows),
            y=examples.y[rows],
            weights=weights,
            count=whole(found.count),
            begin=whole(found.begin),
            end=end,
            who=whole(found.who),
        )

    def _needs(self, lanes: int, data: Dataset) -> int:
        """Return how many bytes the widest program takes on the device."""
        batch = self.plan.batch
        client, ended = self._empty(lanes)
        shape = (STEPS_AT_ONCE, lanes)
        like = np.zeros((*shape, batch), np.int32)
        weights = np.zeros((*shape, batch), np.float32) if self.evaluator.weighted else None
        flags = np.zeros(shape, np.int32)
        steps = Steps(
            inputs.rows(data.x_train, like), data.y_train[like], weights, flags,
            flags.astype(bool), flags, flags,
        )  # fmt: skip
        rule = self.plan.rule
        own = {n: np.zeros((lanes, self.spec.trainable_size), np.float32) for n in rule.own}
        given = Round(
            np.zeros(self.spec.size, np.float32), self._slots, self._frozen, self._rest,
            np.float32(0), {}, own, np.zeros((lanes, len(self.model.seeds), 2), np.uint32), None,
        )  # fmt: skip
        return memory.needs(self.programs.run.lower(given, client, ended, steps, 1).compile())

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
        return self.evaluator.evaluate(self.place(model), x, y, rows, sizes, batch, weights)

    def save(self, model: Vector) -> bytes:
        """Return a model of weights [P] as a ``.keras`` file; it takes inputs as the dataset's."""
        variables = [*self.model.trained, *self.model.statistics]
        parts = self.spec.unravel(np.asarray(model))
        for variable, part in zip(variables, parts, strict=True):
            variable.assign(part.astype(variable.dtype))
        accuracy = self.model.measures.accuracy
        metric = None if accuracy is None else accuracy.metric
        whole = rescaling.to_save(self.model.keras, self.model.scale, self.model.like, metric)
        with tempfile.TemporaryDirectory() as folder, without_tensorflow():
            path = Path(folder) / "model.keras"
            whole.save(str(path))
            return path.read_bytes()
