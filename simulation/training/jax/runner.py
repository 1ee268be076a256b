"""Lanes at work: a job's clients go through the compiled programs, some steps at a time."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from simulation.datasets import inputs
from simulation.training.jax.lanes import Ended, Lanes, Round, Steps
from simulation.training.jax.placed import placed
from simulation.training.jax.prepared import PreparedModel
from simulation.training.jax.schedule import Table, deal, padded_batch, power_of, table, widths_of
from simulation.training.jax.stack import DeviceStack
from simulation.training.jax.step import Client
from simulation.training.joined import joined
from simulation.training.plan import Job
from strategies.client_rule import ClientRule
from strategies.objective import HELD
from strategies.spec import Spec

log = logging.getLogger("sunflower.jax")

STEPS_AT_ONCE = 16
"""Steps that the device is given at a time: a length that all programs have."""

AHEAD = 2
"""So many times these the device may have before it, beside those that it takes."""

QUEUE = 4
"""Clients of a call for each lane, at most."""

DELTA_BYTES = 2**28
"""Memory for what the clients of a call end with, if that is not less than one for each lane."""

OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"
"""In the text of JAX's error."""


TOGETHER = 1024
"""Clients of one program that trains several runs, at most."""


class RunJob(NamedTuple):
    """A job of one run among several: its model [P], the job, the learning rate."""

    model: Any
    job: Job
    rate: float


def most_clients(lanes: int, size: int) -> int:
    """Return how many clients of P = ``size`` weights a call takes, at most."""
    return max(lanes, min(QUEUE * lanes, DELTA_BYTES // (4 * max(1, size))))


def most_together(lanes: int, size: int) -> int:
    """Return how many clients of several runs a program takes, at most."""
    return max(most_clients(lanes, size), min(TOGETHER, DELTA_BYTES // (4 * max(1, size))))


class Runner:
    """Train clients in lanes whose arrays stay on the device from call to call.

    Args:
        model: the model.
        spec: layout of the flat vector.
        rule: the client rule.
        lanes: how many clients are trained side by side.
    """

    def __init__(self, model: PreparedModel, spec: Spec, rule: ClientRule, lanes: int) -> None:
        self.model, self.spec, self.rule, self.width = model, spec, rule, lanes
        self.most = most_clients(lanes, spec.size)
        self.room = most_together(lanes, spec.size)
        self._rows = self._runs = 0
        self.programs = Lanes(model, spec, rule)
        self.lock = threading.RLock()  # Several runs of a process share the lanes.
        self._slots = model.values(model.slots)
        self._frozen = jax.device_put(model.values(model.frozen))
        self._rest = model.values(model.rest)
        self._held: tuple[Client, Ended] | None = None
        self._lent: weakref.ref[DeviceStack] | None = None

    def train(self, model: Any, job: Job, rate: float) -> tuple[DeviceStack, Ended, list[Any]]:
        """Return the clients' deltas, what else they have ended with, and the last one's slots.

        The deltas stay on the device until the next call.

        Args:
            model: global weights [P].
            job: the clients.
            rate: the learning rate.
        """
        with self.lock:
            self._take_back()
            lanes, ended = self._as_wide_as_memory(job, self.most, self._round(model, job, rate))
            stack = DeviceStack(ended.weights, model, job.steps > 0, self.lock)
            self._lent = weakref.ref(stack)
            count = len(job.clients)
            rest = (np.array(a)[:count] for a in (ended.sums, ended.metrics, ended.second))
            slots = [] if job.slots is None else [np.array(s)[0] for s in lanes.slots]
            return stack, Ended(None, *rest), slots

    def train_together(self, asked: Sequence[RunJob]) -> list[tuple[DeviceStack, Ended]]:
        """Train jobs of several runs in one program; return what :meth:`train` does for each.

        All lanes step to the end: in a narrower program last bits may be others, and those of a run
        are not to depend on the runs beside it.

        Args:
            asked: the jobs, of equal :meth:`batch`, :attr:`room` clients in all.
        """
        whole, counts = joined([one.job for one in asked]), [len(one.job.clients) for one in asked]
        with self.lock:
            self._take_back()
            # What has once been needed stays: the number of runs that are left is no shape.
            self._rows = max(self._rows, self.most, min(self.room, power_of(2, sum(counts))))
            self._runs = max(self._runs, power_of(2, len(asked)))
            given = self._round_of_runs(asked, whole, counts)
            _, ended = self._as_wide_as_memory(whole, self._rows, given)
            rest = [np.array(a) for a in (ended.sums, ended.metrics, ended.second)]
            found, first = [], 0
            for (model, job, _), count in zip(asked, counts, strict=True):
                ends = _cut(ended.weights, first, power_of(2, count))
                stack = DeviceStack(ends, model, job.steps > 0, self.lock, self.most)
                own = slice(first, first + count)
                found.append((stack, Ended(None, *(a[own] for a in rest))))
                first += count
            return found

    def _take_back(self) -> None:
        """Let somebody who still holds what will be written over have a copy of it."""
        lent, self._lent = None if self._lent is None else self._lent(), None
        if lent is not None:
            lent.leave_device()

    def _as_wide_as_memory(self, job: Job, rows: int, given: Round) -> tuple[Client, Ended]:
        """Let the lanes take all steps of a job; with half of them where memory does not last."""
        while True:
            try:
                return self._run(job, rows, given)
            except RuntimeError as error:
                self._held, width = None, self.width
                if OUT_OF_MEMORY not in str(error) or width == 1:
                    raise
                self.width = -(-width // 2)
            log.warning(
                "%d clients side by side need more memory than there is: from here on it is %d "
                "clients side by side, and last bits may be others; --lanes %d says so from the "
                "start", width, self.width, self.width,
            )  # fmt: skip

    def _run(self, job: Job, rows: int, given: Round) -> tuple[Client, Ended]:
        """Let the lanes take all steps of a job, with room for what so many clients end with."""
        steps = job.steps if job.beside is None else job.beside.steps
        batch, full = self.batch(job)
        # Small clients soon end: narrower programs for them would not be worth compiling.
        narrows = full and given.run is None
        dealt = deal(steps, widths_of(self.width)[: None if narrows else 1])
        if self._held is None or self._held[1].sums.shape[0] != rows:
            self._held = jax.device_put(self.empty(self.width, rows))
        # A call gives its arrays away: where it fails, there is nothing to hold.
        (lanes, ended), self._held = self._held, None
        ahead: deque[Any] = deque()
        for phase in dealt.phases:
            for first in range(phase.first, phase.last, STEPS_AT_ONCE):
                last = min(first + STEPS_AT_ONCE, phase.last)
                found = table(job, dealt, phase, first, last, batch)
                some = self._steps(job, found, given.data is not None)
                lanes, ended, done = self.programs.run(given, lanes, ended, some, last - first)
                ahead.append(done)
                if len(ahead) > AHEAD:  # The next steps are read meanwhile; they take memory.
                    jax.block_until_ready(ahead.popleft())
        jax.block_until_ready(ended)
        self._held = lanes, ended
        return lanes, ended

    def batch(self, job: Job) -> tuple[int, bool]:
        """Return how many examples a step has room for, and whether that is a whole batch."""
        if job.full_batch:
            return power_of(4, job.largest), True
        whole = int(job.batches.max())
        found = padded_batch(whole, job.largest)
        return found, found == whole

    def _round(self, model: Any, job: Job, rate: float) -> Round:
        slots = self._slots if job.slots is None else self._parts_of(job.slots)
        shared = {name: job.shared[name] for name in sorted(job.shared)}
        return self._on_device(job, self.most, slots, (model, np.float32(rate), shared), None)

    def _round_of_runs(
        self, asked: Sequence[RunJob], whole: Job, counts: Sequence[int]
    ) -> Round:  # fmt: skip
        """Return what the clients of several runs train with, each from its own run's model."""
        spare = [asked[0]] * (self._runs - len(asked))
        every = [*asked, *spare]
        shared = {
            name: np.stack([one.job.shared[name] for one in every])
            for name in sorted(asked[0].job.shared)
        }
        run = np.zeros(self._rows, np.int32)
        run[: sum(counts)] = np.repeat(np.arange(len(asked)), counts)
        rates = np.array([one.rate for one in every], np.float32)
        of_runs = jnp.stack([one.model for one in every]), rates, shared
        return self._on_device(whole, self._rows, self._slots, of_runs, run)

    def _on_device(
        self, job: Job, rows: int, slots: list[Any], of_runs: tuple[Any, Any, Any], run: Any
    ) -> Round:
        """Return what so many clients train with, of whom the job's are the first."""
        model, rate, shared = of_runs
        seeds = np.zeros((rows, *job.seeds.shape[1:]), np.uint32)
        seeds[: len(job.clients)] = job.seeds
        own = {}
        for name in self.rule.own:
            size = self.rule.size(name, self.spec.trainable_size)
            own[name] = np.zeros((rows, size), np.float32)
            for k, state in enumerate(job.own):
                own[name][k] = state[name]
        objective = self.programs.changes.objective
        if objective is not None and objective.objective.held:
            own[HELD] = np.zeros((rows, objective.classes), np.float32)
            own[HELD][: len(job.clients)] = job.held(objective.classes)
        data = None if job.examples.at is None else placed().of(job.examples.source)
        given = Round(model, slots, self._frozen, self._rest, rate, shared, own, seeds, None, run)
        on_device: Round = jax.device_put(given)
        return on_device._replace(data=data)

    def _parts_of(self, slots: NDArray[np.float32]) -> list[Any]:
        parts, at = [], 0
        for like in self._slots:
            parts.append(slots[at : at + like.size].reshape(like.shape).astype(like.dtype))
            at += like.size
        return parts

    def empty(self, lanes: int, clients: int) -> tuple[Client, Ended]:
        """Return the arrays of so many lanes, and of what so many clients end with."""

        def many(variables: Sequence[Any]) -> list[NDArray[Any]]:
            return [np.zeros((lanes, *v.shape), v.dtype) for v in variables]

        model, zeros = self.model, np.zeros
        client = Client(
            many(model.trained), many(model.statistics), many(self._slots), many(model.rest),
            zeros((lanes, len(model.seeds), 2), np.uint32), many(model.metrics.variables),
            zeros((lanes, 3), np.float32), self._empty_second(many),
        )  # fmt: skip
        way = self.rule.direction
        second = 0 if way is None else way.size(self.spec.trainable_size)
        sizes = (self.spec.size, 3, model.metrics.size, second)
        return client, Ended(*(zeros((clients, size), np.float32) for size in sizes))

    def _empty_second(self, many: Any) -> list[NDArray[Any]]:
        way = self.rule.direction
        if way is None or not way.second:
            return []
        return [*many(self.model.trained), *many([np.float32(0)] * len(way.numbers))]

    def _steps(self, job: Job, found: Table, there: bool) -> Steps:
        """Return the steps of a table, filled up to :data:`STEPS_AT_ONCE`, with their examples.

        Args:
            job: the clients.
            found: a table of their steps.
            there: whether the device has the inputs, so that their rows are enough.
        """
        missing = STEPS_AT_ONCE - len(found.count)

        def whole(array: NDArray[Any]) -> NDArray[Any]:
            return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))

        rows, examples = whole(found.rows), job.examples
        nobody = np.full((missing, found.end.shape[1]), -1, np.int32)
        x: Any
        if there and examples.at is not None:
            x = examples.at[rows].astype(np.int32)
        else:
            x = inputs.rows(examples.x, rows)
        return Steps(
            x=x,
            y=examples.y[rows],
            weights=None if examples.weights is None else examples.weights[rows],
            count=whole(found.count),
            begin=whole(found.begin),
            end=np.concatenate([found.end, nobody]),
            who=whole(found.who),
        )


@partial(jax.jit, static_argnames="count")
def _cut(ends: Any, first: Any, count: int) -> Any:
    """Return rows ``first`` to ``first + count`` [count, P]; past the end, whatever there is."""
    return ends[jnp.minimum(first + jnp.arange(count), ends.shape[0] - 1)]
