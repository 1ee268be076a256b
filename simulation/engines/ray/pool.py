"""The pool of Ray actors, which one run has for itself or several runs share.

A run is a :class:`PoolRun`: every worker opens an executor for it, next to those of others.
Calls wait in one queue and go to the workers in turn, so that a worker without work of one run
does that of another. Any number of threads may wait for their calls: one of them listens for all.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import ray
from ray.exceptions import ObjectLostError, RayError, RayTaskError

from simulation.config.sections import Resources
from simulation.engines.calls import AgentLost, ClusterLost, Status, ValueLost
from simulation.engines.policy import POLICY
from simulation.engines.ray.cluster import Cluster
from simulation.engines.ray.homes import next_for
from simulation.engines.ray.inspection import Inspection
from simulation.engines.ray.losses import GONE, Event, Losses
from simulation.engines.ray.overdue import Overdue
from simulation.engines.ray.pieces import ValueLate
from simulation.engines.ray.slots import PoolRun, Ticket, WorkerSlot, has_enough
from simulation.engines.ray.starts import Starts
from simulation.engines.ray.watch import Watch
from simulation.worker.faults import Stopped, WorkerError

log = logging.getLogger("sunflower.grid")

EXECUTOR = "simulation.worker.executor:Executor"
"""What does the work in the actors, unless another class is named."""


class Pool(Starts, Losses):
    """Workers for one run or several.

    Args:
        resources: workers, CPUs and GPUs for each, the cluster's address.
        executor: ``module:class`` of what does the work in the actors.
        ship: files and folders with modules that the nodes of a cluster must have.

    Raises:
        ResourceError: when no node has what one worker needs.
    """

    def __init__(
        self,
        resources: Resources,
        executor: str = EXECUTOR,
        ship: Sequence[str] = (),
    ) -> None:
        self._executor, self._resources = executor, resources
        self._turn = threading.Condition(threading.RLock())
        self._listener: int | None = None  # the thread that listens for all
        self._stopping = False
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._queue: deque[Ticket] = deque()
        self._later: deque[Ticket] = deque()
        self._pool_runs: list[PoolRun] = []
        self._shared: dict[int, tuple[Any, Any]] = {}
        self._looked = time.monotonic()
        self.cluster = Cluster(resources, ship)
        self._agent = self.cluster.agent()
        if self.cluster.grows:
            self._watch = Watch(self.cluster.head)
            self._watch.know(self.cluster.nodes)
            self._overdue = Overdue(
                self._watch, self._queue, self._hear_nudge, self.cluster.lacking
            )
            self._inspection = Inspection(resources.library, resources.client_cpus)
            self._inspection.ask(self.cluster.nodes)
        self.slots = [WorkerSlot(None, gpus) for gpus in self.cluster.workers]
        for slot in self.slots:
            self._begin(slot)

    @property
    def runs(self) -> int:
        """How many runs share the pool."""
        return len(self._pool_runs)

    def share(self, value: Any) -> Any:
        """Put a value that several runs read into Ray's object store, once."""
        with self._turn:
            if id(value) not in self._shared:
                self._shared[id(value)] = (value, ray.put(value))
            return self._shared[id(value)][1]

    def enter(self, pool_run: PoolRun) -> None:
        """Let every worker open an executor for a run.

        Raises:
            ResourceError: where hosts of the cluster have unlike versions.
        """
        if self._inspection is not None:
            self._inspection.check()
        with self._turn:
            self._tell_processors([pool_run])
            self._pool_runs.append(pool_run)
            for slot in self.slots:
                if slot.actor is not None:
                    self._open(slot, pool_run)

    def leave(self, pool_run: PoolRun) -> None:
        """Forget a run; what workers still do for it is of no use to anybody."""
        with self._turn:
            if pool_run not in self._pool_runs:
                return
            self._pool_runs.remove(pool_run)
            for waiting in (self._queue, self._later):
                for ticket in [t for t in waiting if t.owner is pool_run]:
                    waiting.remove(ticket)
            for slot in self.slots:
                slot.opened.discard(pool_run)
                if slot.actor is not None:
                    slot.actor.leave.remote(pool_run.number)

    def submit(self, ticket: Ticket, first: bool = False) -> None:
        """Queue a call, before all others of its kind if it is to be the ``first``."""
        with self._turn:
            waiting = self._later if ticket.waits else self._queue
            (waiting.appendleft if first else waiting.append)(ticket)
            self._hand_out()

    def again(self, ticket: Ticket) -> None:
        """Queue a call whose value was lost once more."""
        ticket.status, ticket.refs, ticket.values, ticket.failure = None, None, None, None
        self.submit(ticket, first=True)

    def wait(self, ticket: Ticket, timeout: float | None = None) -> None:
        """Wait for a call, handing out others meanwhile.

        Raises:
            Stopped: the pool was told to stop.
            ClusterLost: the cluster's head is out of reach for good.
            AgentLost: Ray's agent on this machine has died.
            TimeoutError: when ``timeout`` seconds have passed.
            Exception: what its run failed of.
        """
        end = None if timeout is None else time.monotonic() + timeout
        owner, me = ticket.owner, threading.get_ident()
        try:
            while True:
                owner.deliver()  # Not under the lock: what hears it may take its time.
                with self._turn:
                    if owner.news:
                        continue
                    if ticket.over:
                        return
                    if self._stopping:
                        raise Stopped
                    if owner.failure is not None:
                        raise owner.failure
                    if self._watch is not None and (lost := self._watch.head_lost):
                        raise ClusterLost(lost)
                    if self._agent.gone:
                        raise AgentLost("Ray's agent on this machine (raylet) has died")
                    if end is not None and time.monotonic() >= end:
                        raise TimeoutError(f"{ticket.name}: no result within {timeout} s")
                    left = (
                        POLICY.glance if end is None else min(POLICY.glance, end - time.monotonic())
                    )
                    if self._listener is not None:
                        self._turn.wait(max(0.0, left))
                        continue
                    self._listener = me
                self._listen(me, max(0.0, left))
        finally:
            with self._turn:
                if self._listener == me:  # A signal came before it listened.
                    self._listener = None
                    self._turn.notify_all()

    def name_of(self, ticket: Ticket) -> str:
        """Return what to call the node that has done a call."""
        known = self._watch is not None and ticket.status is not None
        return self._watch.name(ticket.status.node) if known else "a node"  # type: ignore[union-attr]

    def stop(self) -> None:
        """End every run that waits for a call, or will, by :class:`Stopped`."""
        with self._turn:
            self._stopping = True
            self._turn.notify_all()
        self._events.put(None)

    def refresh(self) -> None:
        """Give workers to nodes that have joined, or that have room again."""
        with self._turn:
            now = time.monotonic()
            if not self.cluster.grows or now - self._looked < POLICY.glance:
                return
            self._looked = now
            nodes = self.cluster.look(POLICY.glance)
            if nodes is None or self._watch is None:
                return
            self._watch.know(nodes)
            if self._inspection is not None:
                self._inspection.ask(nodes)
                self._tell_processors(self._pool_runs)
            missing = Counter(self.cluster.room())
            missing.subtract(slot.gpus for slot in self.slots)
            for gpus in missing.elements():
                log.info("the cluster has room for another worker")
                self.slots.append(WorkerSlot(None, gpus))
                self._begin(self.slots[-1])
                for pool_run in self._pool_runs:
                    self._open(self.slots[-1], pool_run)

    def close(self) -> None:
        """Stop the workers, and Ray if it was started here."""
        with self._turn:
            gone = self._watch is not None and not self._watch.head_answers()
            if self._watch is not None:
                self._watch.close()
            for slot in self.slots:
                if slot.actor is not None and not gone:
                    ray.kill(slot.actor)
            self.slots, self._pool_runs, self._shared = [], [], {}
            self._queue.clear()
            self._later.clear()
            self.cluster.close(gone)

    def _give(self, slot: WorkerSlot, ticket: Ticket, refs: tuple[Any, ...]) -> None:
        if not slot.line:
            slot.since = time.monotonic()
        slot.line.append(ticket)
        slot.sent[ticket] = refs
        ref = refs[0]
        # Called by one of Ray's own threads, which must not wait for anything.
        ref.future().add_done_callback(lambda done: self._events.put((slot, ticket, (ref, done))))

    def _hand_out(self) -> None:
        # First one call for every worker, then the next one, so that none has two while one idles.
        for depth in range(POLICY.depth):
            for slot in self.slots:
                if not (self._queue or self._later):
                    return
                if slot.calls != depth or slot.taken:
                    continue
                if self._overdue is not None and not self._overdue.reachable(slot):
                    continue
                for waiting in (self._queue, self._later):
                    place = next_for(slot, waiting, self.slots)
                    if place is None:
                        continue
                    ticket, yields = waiting[place], waiting is self._later
                    if yields or not (depth and has_enough(slot, self.slots, waiting, ticket)):
                        del waiting[place]
                        self._give(slot, ticket, self._sent(slot, ticket))
                    break

    @staticmethod
    def _sent(slot: WorkerSlot, ticket: Ticket) -> tuple[Any, ...]:
        """Send a call to a worker; return Ray's references to what it will answer."""
        if ticket.parts:
            several = 2 if ticket.packed else 1 + 2 * len(ticket.parts)
            joint = slot.actor.call_together.options(num_returns=several, name=ticket.title)
            return tuple(joint.remote(ticket.call))
        call = slot.actor.call.options(num_returns=3, name=ticket.title)
        return tuple(call.remote(ticket.owner.number, ticket.call, *ticket.inputs))

    def _listen(self, me: int, timeout: float) -> None:
        """Wait until something happens on the cluster, and react to it for all runs.

        Args:
            me: the thread that listens, for all that wait.
            timeout: how long, in seconds.
        """
        events: list[Any] = []
        try:
            with suppress(queue.Empty):
                events.append(self._events.get(timeout=timeout))
        finally:  # Whatever comes between, a signal even: others listen, and what was heard counts.
            with self._turn:
                if self._listener == me:
                    self._listener = None
                self._turn.notify_all()
                while events:
                    if (event := events.pop()) is not None:
                        self._react(*event)
                    with suppress(queue.Empty):
                        events.append(self._events.get_nowait())
                self._look_for_hung()
                self._revive()
                if self._overdue is not None:
                    self._overdue.look(self.slots, self._pool_runs)
                self._hand_out()

    def _react(self, slot: WorkerSlot, ticket: Ticket | None, answer: tuple[Any, Any]) -> None:
        ref, future = answer
        if ticket is None:
            self._nudged(slot, ref, future)
            return
        if ticket not in slot.sent or slot.sent[ticket][0] is not ref:
            return  # Of an actor that has been replaced.
        error = future.exception()
        if error is None:
            self._ended(slot, ticket, future.result())
        elif isinstance(error, GONE):
            self._lose(slot, error)
        elif ticket.over:
            self._advance(slot, ticket)
        elif isinstance(error, ObjectLostError | RayTaskError):
            self._failed(slot, ticket, error)
        else:
            ticket.owner.failure = WorkerError(f"{ticket.name}: {error}")
            self._advance(slot, ticket)

    def _ended(self, slot: WorkerSlot, ticket: Ticket, status: Status) -> None:
        refs = slot.sent.get(ticket, ticket.refs)
        self._advance(slot, ticket)
        slot.node = status.node or slot.node
        slot.late = slot.late and bool(slot.line)
        if ticket.opens:
            self._opened(slot, ticket.owner, status)
        elif status.kind == ValueLate.__name__:
            self._bring(slot, ticket)
        elif not ticket.over:
            ticket.refs, ticket.done_by = refs, slot.actor
            self._done(slot, ticket, status)

    @staticmethod
    def _advance(slot: WorkerSlot, ticket: Ticket) -> None:
        slot.line.remove(ticket)
        slot.sent.pop(ticket, None)
        slot.since = time.monotonic()

    def _done(self, slot: WorkerSlot, ticket: Ticket, status: Status) -> None:
        seconds, owner = status.ended - status.started, ticket.owner
        ticket.status = status
        owner.busy += seconds
        if owner.hear is not None:
            owner.news.append(partial(owner.hear, self.slots.index(slot), ticket, status))
        if status.error is None:
            first = (owner, ticket.name) not in slot.done
            owner.note(slot, ticket, seconds)
            if ticket.call is not None and ticket.call.tells_speed:
                owner.learn(slot, seconds, ticket.cost, first)
            done, ticket.done = ticket.done, None
            if done is not None:
                owner.news.append(done)
        for place, (part, own) in enumerate(zip(ticket.parts, status.each, strict=False)):
            refs = ticket.refs or ()
            if not ticket.packed:
                part.refs = (refs[0], refs[1 + 2 * place], refs[2 + 2 * place])
            part.done_by = ticket.done_by
            self._done(slot, part, own)

    def _failed(self, slot: WorkerSlot, ticket: Ticket, error: RayError) -> None:
        """React to a call that Ray could not carry out, though the worker lives."""
        cause = getattr(error, "cause", error)
        self._advance(slot, ticket)
        if ticket.opens:
            ticket.owner.failure = WorkerError(f"a worker could not start: {error}")
        elif isinstance(cause, ObjectLostError) and ticket.inputs:
            ticket.failure = ValueLost(str(cause))
        else:
            ticket.failure = WorkerError(f"{ticket.name}: {error}")
