"""Lanes at work: a job's clients go through the compiled programs, some steps at a time."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from simulation.datasets import inputs
from simulation.training.jax.lanes import Ended, Lanes, Round, Steps
from simulation.training.jax.placed import placed
from simulation.training.jax.prepared import PreparedModel
from simulation.training.jax.schedule import Table, deal, padded_batch, power_of, table, widths_of
from simulation.training.jax.stack import DeviceStack
from simulation.training.jax.step import Client
from simulation.training.plan import Job
from strategies.client_rule import ClientRule
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


def most_clients(lanes: int, size: int) -> int:
    """Return how many clients of P = ``size`` weights a call takes, at most."""
    return max(lanes, min(QUEUE * lanes, DELTA_BYTES // (4 * max(1, size))))


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
        self.programs = Lanes(model, spec, rule.hook)
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
            lent, self._lent = None if self._lent is None else self._lent(), None
            if lent is not None:  # Somebody still holds what will be written over.
                lent.leave_device()
            lanes, ended = self._as_wide_as_memory(model, job, rate)
            stack = DeviceStack(ended.weights, model, job.steps > 0, self.lock)
            self._lent = weakref.ref(stack)
            count = len(job.clients)
            sums, metrics = (np.array(a)[:count] for a in (ended.sums, ended.metrics))
            slots = [] if job.slots is None else [np.array(s)[0] for s in lanes.slots]
            return stack, Ended(None, sums, metrics), slots

    def _as_wide_as_memory(self, model: Any, job: Job, rate: float) -> tuple[Client, Ended]:
        """Let the lanes take all steps of a job; with half of them where memory does not last."""
        while True:
            try:
                return self._run(model, job, rate)
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

    def _run(self, model: Any, job: Job, rate: float) -> tuple[Client, Ended]:
        """Let the lanes take all steps of a job."""
        steps = job.steps if job.beside is None else job.beside.steps
        batch, full = self._batch(job)
        # Small clients soon end: narrower programs for them would not be worth compiling.
        dealt = deal(steps, widths_of(self.width)[: None if full else 1])
        given = self._round(model, job, rate)
        if self._held is None:
            self._held = jax.device_put(self.empty(self.width, self.most))
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

    def _batch(self, job: Job) -> tuple[int, bool]:
        """Return how many examples a step has room for, and whether that is a whole batch."""
        if self.rule.full_batch:
            return power_of(4, job.largest), True
        whole = int(job.batches.max())
        found = padded_batch(whole, job.largest)
        return found, found == whole

    def _round(self, model: Any, job: Job, rate: float) -> Round:
        count = len(job.clients)
        seeds = np.zeros((self.most, *job.seeds.shape[1:]), np.uint32)
        seeds[:count] = job.seeds
        own = {}
        for name in self.rule.own:
            own[name] = np.zeros((self.most, self.spec.trainable_size), np.float32)
            for k, state in enumerate(job.own):
                own[name][k] = state[name]
        slots = self._slots if job.slots is None else self._parts_of(job.slots)
        shared = {name: job.shared[name] for name in sorted(job.shared)}
        data = None if job.examples.at is None else placed().of(job.examples.source)
        given = Round(
            model, slots, self._frozen, self._rest, np.float32(rate), shared, own, seeds, None
        )
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
            zeros((lanes, 3), np.float32),
        )  # fmt: skip
        sizes = (self.spec.size, 3, model.metrics.size)
        return client, Ended(*(zeros((clients, size), np.float32) for size in sizes))

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
