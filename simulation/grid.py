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
from ray.exceptions import RayActorError

from simulation.cluster import Cluster, ResourceError
from simulation.datasets import Dataset
from simulation.engine import EngineGrid, Progress
from simulation.experiment import Resources
from simulation.partition import AnyPartition
from simulation.work import Setup
from simulation.worker import Status, Worker

log = logging.getLogger("sunflower.grid")

DEPTH = 2
"""Calls with a worker at a time: the next one is there when one ends."""

ATTEMPTS = 3
"""How often a call may take its worker down before the run fails."""


class WorkerError(RuntimeError):
    """A call failed in a worker; the text ends in the worker's own traceback."""


@dataclass(eq=False)
class _Ticket:
    name: str
    args: tuple[Any, ...]
    done: Callable[[], None] | None
    later: bool
    refs: tuple[Any, Any, Any] | None = None
    status: Status | None = None
    attempts: int = 0


@dataclass(eq=False)
class _Seat:
    """A worker's place in the pool; its actor may be replaced."""

    actor: Any
    ready: Any
    started: bool = False
    calls: deque[_Ticket] = field(default_factory=deque)


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
        self._seats = [self._new_seat() for _ in range(self.cluster.workers)]

    @property
    def workers(self) -> int:
        """Number of workers."""
        return len(self._seats)

    def start(self, setup: Setup, data: Dataset, partition: AnyPartition) -> None:
        """Put the data into the object store and give it to the workers."""
        self.setup, self.data, self.partition = setup, data, partition
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
    ) -> _Ticket:
        """Queue a call."""
        ticket = _Ticket(call, args, done, later)
        if first:
            self._queue.appendleft(ticket)
        else:
            (self._later if later else self._queue).append(ticket)
        self._hand_out()
        return ticket

    def result(self, ticket: _Ticket, timeout: float | None = None) -> Any:
        """Wait for a call, handing out others meanwhile, and return its value."""
        self._finish(ticket, timeout)
        assert ticket.refs is not None
        value = ray.get(ticket.refs[1])
        # Let Ray free the value; what clients keep stays.
        ticket.refs = (None, None, ticket.refs[2])
        return value

    def values_of(self, tickets: Sequence[_Ticket]) -> list[Any]:
        """Wait for calls; return references to their values."""
        for ticket in tickets:
            self._finish(ticket)
        return [ticket.refs[1] for ticket in tickets if ticket.refs is not None]

    def _finish(self, ticket: _Ticket, timeout: float | None = None) -> None:
        end = None if timeout is None else time.monotonic() + timeout
        while ticket.status is None:
            left = None if end is None else end - time.monotonic()
            self._wait(left)
            if ticket.status is None and left is not None and left <= 0:
                raise TimeoutError(f"{ticket.name}: no result within {timeout} s")
        if ticket.status.error is not None:
            raise WorkerError(f"{ticket.status.error}\n{ticket.status.trace}")

    def kept(self, ticket: _Ticket) -> Any:
        """Return the reference to what a training call's clients keep."""
        assert ticket.refs is not None
        return ticket.refs[2]

    def cluster_pid(self, seat: int) -> int:
        """Return the process id of the worker in a seat."""
        return int(ray.get(self._seats[seat].actor.where.remote())[1])

    def close(self) -> None:
        """Stop the workers, and Ray if this grid started it."""
        for seat in self._seats:
            ray.kill(seat.actor)
        self._seats, self._inputs = [], ()
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
            except RayActorError as error:
                if ticket is None or ticket in seat.calls:
                    self._replace(seat, error)
                continue
            if ticket is None:
                self._started(seat, status)
            elif ticket in seat.calls:
                seat.calls.remove(ticket)
                ticket.status = status
                if ticket.done is not None and status.error is None:
                    ticket.done()
        self._hand_out()

    def _started(self, seat: _Seat, status: Status) -> None:
        if status.error is not None:
            kind, _, text = status.error.partition(": ")
            if kind in ("ModelError", "PluginError", "ConfigError"):
                raise ResourceError(text) if kind == "ResourceError" else ValueError(text)
            raise WorkerError(f"{status.error}\n{status.trace}")
        seat.started = True

    def _replace(self, seat: _Seat, error: RayActorError) -> None:
        calls, seat.calls = list(seat.calls), deque()
        if calls:
            calls[0].attempts += 1
        if calls and calls[0].attempts >= ATTEMPTS:
            raise WorkerError(f"{calls[0].name} took down {ATTEMPTS} workers: {error}")
        log.warning("a worker died (%s); %d calls go to others", type(error).__name__, len(calls))
        for ticket in reversed(calls):
            ticket.refs = None
            (self._later if ticket.later else self._queue).appendleft(ticket)
        seat.actor = self._new_seat().actor
        self._prepare(seat)
