"""Workers that begin, and the executors that they open for the runs of a pool."""

from __future__ import annotations

import logging
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

import ray

from simulation.config.sections import Resources
from simulation.engines.calls import BAD_INPUT, Status
from simulation.engines.ray.actor import Unfit, Worker
from simulation.engines.ray.cluster import Cluster, ResourceError
from simulation.engines.ray.inspection import Inspection
from simulation.engines.ray.overdue import Overdue
from simulation.engines.ray.slots import PoolRun, Ticket, WorkerSlot
from simulation.worker.faults import WorkerError

log = logging.getLogger("sunflower.grid")


class Starts(ABC):
    """The part of a pool that starts workers, and lets them open executors.

    Every method wants the pool's lock.
    """

    slots: list[WorkerSlot]
    cluster: Cluster
    _executor: str
    _resources: Resources
    _pool_runs: list[PoolRun]
    _overdue: Overdue | None = None
    _inspection: Inspection | None = None

    @abstractmethod
    def _give(self, slot: WorkerSlot, ticket: Ticket, refs: tuple[Any, ...]) -> None:
        """Put a call that was sent into a worker's line."""

    def _begin(self, slot: WorkerSlot) -> None:
        """Start a worker, which imports its library at once."""
        slot.renew(self._new_actor(slot.gpus))
        if self._overdue is not None:  # It tells where it is as soon as it is there.
            self._overdue.nudge(slot, time.monotonic())
        slot.actor.prepare.remote()

    def _new_actor(self, gpus: float) -> Any:
        resources = self._resources
        threads = max(1, int(resources.client_cpus))
        paths = [p or os.getcwd() for p in sys.path]
        return (
            ray.remote(Worker)
            .options(**self.cluster.share(gpus))
            .remote(threads, gpus, paths, self._executor, resources.library)
        )

    def _open(self, slot: WorkerSlot, pool_run: PoolRun) -> None:
        ticket = Ticket(pool_run)
        wanted = {} if self._inspection is None else self._inspection.wanted
        ref = slot.actor.open.remote(pool_run.number, *pool_run.inputs, wanted)
        self._give(slot, ticket, (ref,))

    def _tell_processors(self, runs: Sequence[PoolRun]) -> None:
        """Warn of hosts that may give other last bits."""
        remark = None if self._inspection is None else self._inspection.remark()
        if remark is not None:
            for run in runs:
                run.news.append(partial(log.warning, remark))

    def _opened(self, slot: WorkerSlot, pool_run: PoolRun, status: Status) -> None:
        slot.failures = slot.slow_starts = 0
        if status.error is None:
            if pool_run in self._pool_runs:
                slot.opened.add(pool_run)
            return
        kind, _, text = status.error.partition(": ")
        if kind == Unfit.__name__:
            self._leave_out(slot, pool_run, text)
        elif kind in BAD_INPUT:
            pool_run.failure = ValueError(text)
        else:
            pool_run.failure = WorkerError(f"{status.error}\n{status.trace}")

    def _leave_out(self, slot: WorkerSlot, pool_run: PoolRun, why: str) -> None:
        """Give no work to a worker; it keeps its place, in which Ray would start the same again."""
        slot.unfit = True
        if all(other.unfit for other in self.slots):
            pool_run.failure = ResourceError(why)
        else:
            pool_run.news.append(partial(log.warning, "%s: it gets no work", why))
