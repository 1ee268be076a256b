"""The engine: a pool of Ray actors behind Flower's ``Grid`` interface.

The driver keeps two calls with every worker (one running, one waiting), hands out urgent calls
before evaluations, and puts a new actor in the place of a dead one; what the dead one had not
finished goes back to the head of the queue.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from simulation.cluster import Cluster, ResourceError
from simulation.datasets import Dataset
from simulation.engine import EngineGrid, Progress
from simulation.experiment import Resources
from simulation.faults import ClientError, WorkerError
from simulation.folding import Poisoned, ValueLost
from simulation.partition import AnyPartition
from simulation.sections import Faults
from simulation.work import Setup
from simulation.worker import Status, Worker

log = logging.getLogger("sunflower.grid")

DEPTH = 2
"""Calls with a worker at a time: the next one is there when one ends."""

PATIENCE = 10.0
"""A call counts as hung after this many times what the slowest one so far would have taken."""

LEAST = 60.0
"""Seconds that a call is given at least, when its time is learned from the run."""

GLANCE = 1.0
"""Seconds between looks at the cluster's nodes, and at hung calls."""

GONE = (RayActorError, OutOfMemoryError, WorkerCrashedError, NodeDiedError)
"""What Ray says of a worker that is no more."""


@dataclass(eq=False)
class _Ticket:
    name: str
    args: tuple[Any, ...]
    done: Callable[[], None] | None
    later: bool
    cost: float
    most: int
    refs: tuple[Any, Any, Any] | None = None
    status: Status | None = None
    attempts: int = 0
    failure: Exception | None = None


@dataclass(eq=False)
class _Seat:
    """A worker's place in the pool; its actor may be replaced."""

    actor: Any
    ready: Any
    started: bool = False
    calls: deque[_Ticket] = field(default_factory=deque)
    since: float = 0.0
    failures: int = 0


class RayGrid(EngineGrid):
    """Run calls on a pool of Ray actors.

    Args:
        resources: workers, CPUs and GPUs for each, the cluster's address.
        progress: called as clients finish.
        executor: ``module:class`` of what does the work in the actors.

    Raises:
        ResourceError: when no node has what one worker needs.
    """

    def __init__(
        self,
        resources: Resources,
        progress: Progress | None = None,
        executor: str = "simulation.work:Executor",
    ) -> None:
        super().__init__(progress)
        self._executor = executor
        self.cluster = Cluster(resources)
        self._resources = resources
        self._seats: list[_Seat] = []
        self._queue: deque[_Ticket] = deque()
        self._later: deque[_Ticket] = deque()
        self._inputs: tuple[Any, ...] = ()
        self._faults = Faults()
        self._slowest: dict[str, float] = {}
        self._looked = time.monotonic()
        self._pinned: dict[Any, Any] = {}
        self._seats = [self._new_seat() for _ in range(self.cluster.workers)]

    @property
    def workers(self) -> int:
        """Number of workers."""
        return len(self._seats)

    @property
    def memory(self) -> list[float]:
        """Memory of each node that holds workers, in bytes."""
        return self.cluster.memory

    def start(self, setup: Setup, data: Dataset, partition: AnyPartition) -> None:
        """Put the data into the object store and give it to the workers."""
        self.setup, self.data, self.partition = setup, data, partition
        self._faults = setup.experiment.faults
        self._inputs = (ray.put(setup), ray.put(data), ray.put(partition))
        for seat in self._seats:
            self._prepare(seat)
        _ = self.run

    def info(self) -> Any:
        """Return the model's layout and initial weights, from the first worker that is ready."""
        return self.result(self.submit("info"))

    def share(self, value: Any) -> Any:
        """Put a value into Ray's object store."""
        return ray.put(value)

    def fetch(self, handle: Any) -> Any:
        """Return the value of an object reference."""
        return ray.get(handle)

    def submit(
        self,
        call: str,
        *args: Any,
        first: bool = False,
        later: bool = False,
        done: Callable[[], None] | None = None,
        cost: float = 1.0,
        attempts: int | None = None,
    ) -> _Ticket:
        """Queue a call."""
        ticket = _Ticket(call, args, done, later, cost, attempts or self._faults.attempts)
        if first:
            self._queue.appendleft(ticket)
        else:
            (self._later if later else self._queue).append(ticket)
        self._hand_out()
        return ticket

    def refresh(self) -> None:
        """Give workers to nodes that have joined, or that have room again."""
        now = time.monotonic()
        if not self.cluster.grows or now - self._looked < GLANCE:
            return
        self._looked = now
        for _ in range(self.cluster.room() - len(self._seats)):
            log.info("the cluster has room for another worker")
            seat = self._new_seat()
            self._seats.append(seat)
            self._prepare(seat)

    def result(self, ticket: _Ticket, timeout: float | None = None) -> Any:
        """Wait for a call, handing out others meanwhile, and return its value."""
        value = self._value(ticket, 1, timeout)
        # Let Ray free the value; what clients keep stays.
        assert ticket.refs is not None
        ticket.refs = (None, None, ticket.refs[2])
        return value

    def _value(self, ticket: _Ticket, which: int, timeout: float | None = None) -> Any:
        """Return what a call returned, calling again if it went down with a node."""
        while True:
            self._finish(ticket, timeout)
            assert ticket.refs is not None
            try:
                return ray.get(ticket.refs[which])
            except ObjectLostError as error:
                if ticket.name == "merge":
                    raise ValueLost(str(error)) from None
                log.warning("a result was lost with its node; %s is done again", ticket.name)
                self._again(ticket)

    def values_of(self, tickets: Sequence[_Ticket]) -> list[Any]:
        """Wait for calls; return references to their values."""
        for ticket in tickets:
            self._finish(ticket)
        return [ticket.refs[1] for ticket in tickets if ticket.refs is not None]

    def _finish(self, ticket: _Ticket, timeout: float | None = None) -> None:
        end = None if timeout is None else time.monotonic() + timeout
        while ticket.status is None and ticket.failure is None:
            left = None if end is None else end - time.monotonic()
            self._wait(left)
            if ticket.status is None and left is not None and left <= 0:
                raise TimeoutError(f"{ticket.name}: no result within {timeout} s")
        if ticket.failure is not None:
            raise ticket.failure
        if ticket.status is not None and ticket.status.error is not None:
            kind, _, text = ticket.status.error.partition(": ")
            if kind == ClientError.__name__:
                raise ClientError(text)
            raise WorkerError(f"{ticket.status.error}\n{ticket.status.trace}")

    def kept(self, ticket: _Ticket) -> Any:
        """Return the reference to what a training call's clients keep.

        Where there are several nodes, the driver's gets a copy, which outlives the node that
        made it.
        """
        assert ticket.refs is not None
        if self.cluster.grows:
            value = self._value(ticket, 2)
            self._pinned[ticket.refs[2]] = value
        return ticket.refs[2]

    def keep(self, clients: Sequence[int], handle: Any) -> None:
        """Note what clients keep, and let go of copies that nobody needs any more."""
        super().keep(clients, handle)
        if self._pinned:
            used = {kept for kept, _ in self._kept.values()}
            self._pinned = {k: v for k, v in self._pinned.items() if k in used}

    def cluster_pid(self, seat: int) -> int:
        """Return the process id of the worker in a seat."""
        return int(ray.get(self._seats[seat].actor.where.remote())[1])

    def close(self) -> None:
        """Stop the workers, and Ray if this grid started it."""
        for seat in self._seats:
            ray.kill(seat.actor)
        self._seats, self._inputs, self._pinned = [], (), {}
        self._queue.clear()
        self._later.clear()
        self.cluster.close()

    def _new_seat(self) -> _Seat:
        resources = self._resources
        threads = max(1, int(resources.client_cpus))
        paths = [p or os.getcwd() for p in sys.path]
        actor = (
            ray.remote(Worker)
            .options(num_cpus=resources.client_cpus, num_gpus=resources.client_gpus)
            .remote(threads, resources.client_gpus, paths, self._executor)
        )
        return _Seat(actor, None)

    def _prepare(self, seat: _Seat) -> None:
        seat.ready = seat.actor.start.remote(*self._inputs)
        seat.started = False

    def _hand_out(self) -> None:
        # First one call for every worker, then the next one, so that none has two while one idles.
        for depth in range(DEPTH):
            for seat in self._seats:
                if not seat.started or len(seat.calls) != depth:
                    continue
                queue = self._queue or self._later
                if not queue:
                    return
                ticket = queue.popleft()
                if not seat.calls:
                    seat.since = time.monotonic()
                seat.calls.append(ticket)
                ticket.refs = tuple(
                    seat.actor.call.options(num_returns=3).remote(ticket.name, *ticket.args)
                )

    def _wait(self, timeout: float | None) -> None:
        """Wait until something happens on the cluster, and react to it."""
        watched: dict[Any, tuple[_Seat, _Ticket | None]] = {}
        for seat in self._seats:
            if not seat.started:
                watched[seat.ready] = (seat, None)
            for call in seat.calls:
                assert call.refs is not None
                watched[call.refs[0]] = (seat, call)
        refs = list(watched)
        wait = 1.0 if timeout is None else max(0.0, min(1.0, timeout))
        ready, _ = ray.wait(refs, num_returns=1, timeout=wait, fetch_local=False)
        if ready and len(refs) > 1:
            ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
        for ref in ready:
            seat, ticket = watched[ref]
            try:
                status = ray.get(ref)
            except GONE as error:
                if ticket is None or ticket in seat.calls:
                    self._replace(seat, "died", error)
                continue
            except (ObjectLostError, RayTaskError) as error:
                self._failed(seat, ticket, error)
                continue
            if ticket is None:
                self._started(seat, status)
            elif ticket in seat.calls:
                self._done(seat, ticket, status)
        self._look_for_hung()
        self._hand_out()

    def _done(self, seat: _Seat, ticket: _Ticket, status: Status) -> None:
        seat.calls.remove(ticket)
        seat.since = time.monotonic()
        ticket.status = status
        if status.error is None:
            pace = (status.ended - status.started) / ticket.cost
            self._slowest[ticket.name] = max(pace, self._slowest.get(ticket.name, 0.0))
            if ticket.done is not None:
                ticket.done()
                ticket.done = None

    def _failed(self, seat: _Seat, ticket: _Ticket | None, error: RayError) -> None:
        """React to a call that Ray could not carry out, though the worker lives."""
        cause = getattr(error, "cause", error)
        if ticket is None or ticket not in seat.calls:
            raise WorkerError(f"a worker could not start: {error}")
        seat.calls.remove(ticket)
        seat.since = time.monotonic()
        if isinstance(cause, ObjectLostError) and ticket.name == "merge":
            ticket.failure = ValueLost(str(cause))
        else:
            ticket.failure = WorkerError(f"{ticket.name}: {error}")

    def _again(self, ticket: _Ticket) -> None:
        ticket.status, ticket.refs, ticket.failure = None, None, None
        (self._later if ticket.later else self._queue).appendleft(ticket)
        self._hand_out()

    def _deadline(self, ticket: _Ticket) -> float | None:
        """Return how many seconds a call may take; None while nothing is known."""
        if self._faults.chunk_timeout is not None:
            return self._faults.chunk_timeout
        pace = self._slowest.get(ticket.name)
        return None if pace is None else max(LEAST, PATIENCE * pace * ticket.cost)

    def _look_for_hung(self) -> None:
        now = time.monotonic()
        for seat in self._seats:
            if not seat.calls:
                continue
            limit = self._deadline(seat.calls[0])
            if limit is not None and now - seat.since > limit:
                ray.kill(seat.actor)
                self._replace(seat, f"gave no answer for {limit:.3g} s", None)

    def _started(self, seat: _Seat, status: Status) -> None:
        if status.error is not None:
            kind, _, text = status.error.partition(": ")
            if kind in ("ModelError", "PluginError", "ConfigError"):
                raise ResourceError(text) if kind == "ResourceError" else ValueError(text)
            raise WorkerError(f"{status.error}\n{status.trace}")
        seat.started, seat.failures = True, 0

    def _replace(self, seat: _Seat, how: str, error: RayError | None) -> None:
        """Put a new worker into a seat; what the old one had not finished goes to others."""
        calls, seat.calls = list(seat.calls), deque()
        if isinstance(error, OutOfMemoryError) or "running low on memory" in str(error):
            how = "ran out of memory"
        if not seat.started:
            seat.failures += 1
            if seat.failures >= self._faults.attempts:
                raise WorkerError(f"{seat.failures} workers {how} before they were ready: {error}")
        log.warning("a worker %s; %d calls go to others", how, len(calls))
        if calls:
            first = calls[0]
            first.attempts += 1
            if first.attempts >= first.most:
                times = f"{first.attempts} times" if first.attempts > 1 else "once"
                final = first.most >= self._faults.attempts
                first.failure = Poisoned(f"its worker {how} ({times})", final)
                calls = calls[1:]
        for ticket in reversed(calls):
            ticket.refs = None
            (self._later if ticket.later else self._queue).appendleft(ticket)
        seat.actor = self._new_seat().actor
        self._prepare(seat)
