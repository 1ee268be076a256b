"""Ray's side of the engine: one run's calls, handed to a pool of actors.

:class:`~simulation.engines.ray.pool.Pool` hands calls out one ahead, so that a worker never waits
for the driver, puts a new worker into the place of one that died, and gives workers to nodes that
join. A run has a pool of its own, or shares one with other runs.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import ray
from ray.exceptions import ObjectLostError

from simulation.config.scheduling import server_round
from simulation.config.sections import Resources
from simulation.datasets.dataset import Dataset
from simulation.engines.calls import Call, Status, ValueLost
from simulation.engines.client_ledger import ClientLedger
from simulation.engines.engine import Engine, Progress
from simulation.engines.policy import POLICY
from simulation.engines.ray.actor import Shared
from simulation.engines.ray.object_states import ObjectStoreLedger, from_files
from simulation.engines.ray.pool import EXECUTOR, Pool
from simulation.engines.ray.results import Results
from simulation.engines.ray.slots import PoolRun, Ticket
from simulation.population.partition import AnyPartition
from simulation.worker.meeting import Member
from simulation.worker.setup import Setup

log = logging.getLogger("sunflower.grid")


class RayEngine(Engine):
    """Run calls on a pool of Ray actors.

    Args:
        resources: workers, CPUs and GPUs for each, the cluster's address.
        progress: called as clients finish.
        executor: ``module:class`` of what does the work in the actors.
        pool: the pool to share with other runs; one of its own when None.
        ship: files and folders with modules that the nodes of a cluster must have.
        member: the run's place among others that train together with it; None: it is alone.

    Raises:
        ResourceError: when no node has what one worker needs.
    """

    def __init__(
        self,
        resources: Resources,
        progress: Progress | None = None,
        executor: str = EXECUTOR,
        pool: Pool | None = None,
        ship: Sequence[str] = (),
        member: Member | None = None,
    ) -> None:
        super().__init__(progress)
        self._member, self._meeting = member, set[Ticket]()
        self.pool = pool or Pool(resources, executor, ship)
        self._owner = pool is None
        self._pool_run = PoolRun(())
        self._results = Results(self.pool, self._pool_run, self._finish)
        self._last: tuple[Any, Any] = (None, None)

    @property
    def workers(self) -> int:
        """Number of workers."""
        return len(self.pool.slots)

    @property
    def effective_workers(self) -> int:
        """Number of workers as slow as the slowest in this run's part of the pool."""
        return max(1, self._pool_run.effective_workers(self.pool.slots) // max(1, self.pool.runs))

    def min_cost(self, total: float) -> float:
        """Return the cost of a portion that need not be smaller.

        A hand-over costs some 20 ms of a core, whatever it hands over, and 3 ms of the driver's,
        of which there is one: the more workers, the larger their portions.
        """
        if self._member is not None:  # Which call meets which must not be decided by time.
            return math.inf
        if self.pool.runs > 1:  # Other runs use the workers that are left.
            return self._pool_run.cost_of(POLICY.shared_seconds)
        far, way = self.far, self._pool_run.way
        each = POLICY.units_far if far else POLICY.units_each
        cost = self._pool_run.cost_of(way if far else self._piece)
        return min(cost, total / (self.effective_workers * each))

    @property
    def _piece(self) -> float:
        """Seconds of training that are worth a hand-over."""
        return max(POLICY.unit_seconds, POLICY.driver_seconds * self.workers)

    @property
    def far(self) -> bool:
        """Whether results are so long on the way that they keep a link busy."""
        return self._pool_run.way > self._piece

    @property
    def homes(self) -> dict[str, float]:
        """Hosts of a cluster, and how fast each is; empty for one, or where runs share them."""
        if self._member is not None or self.pool.runs > 1 or not self.pool.cluster.grows:
            return {}
        speeds = self._pool_run.speeds(self.pool.slots)
        found: dict[str, float] = {}
        for slot, speed in speeds.items():
            found[slot.node] = found.get(slot.node, 0.0) + speed
        return found if len(found) > 1 else {}

    def place_of(self, ticket: Ticket) -> str:
        """Return the node that has done a call."""
        return "" if ticket.status is None else ticket.status.node

    @property
    def here(self) -> str:
        """The driver's own node."""
        return self.pool.cluster.here

    def seconds(self, total: float) -> float:
        """Return how long a round of some cost will take; 0 while that is not known."""
        pace = self._pool_run.cost_of(1.0) * max(1, self.workers)
        return total / pace if pace else 0.0

    @property
    def memory(self) -> list[float]:
        """Memory of each node that holds workers, in bytes."""
        return self.pool.cluster.memory

    @property
    def busy(self) -> float:
        """Seconds that workers have worked for this run."""
        return self._pool_run.busy

    def start(self, setup: Setup, data: Dataset, partition: AnyPartition) -> None:
        """Put the data into the object store and give it to the workers."""
        if self._member is not None:
            setup = replace(setup, grouped=True)
        self.ledger = ClientLedger(setup.shelf, self.kept)
        if self.pool.cluster.grows and setup.shelf is not None:
            # Other machines may not see the folder of this one, nor those that join later.
            self.ledger = ObjectStoreLedger(setup.shelf, self.kept)
            setup = replace(setup, shelf=None)
        self.setup, self.data, self.partition = setup, data, partition
        inputs = (ray.put(setup), self.pool.share(data), ray.put(partition))
        self._pool_run = PoolRun(inputs, setup.experiment.faults, hear=self._hear)
        self._results = Results(self.pool, self._pool_run, self._finish)
        self.pool.enter(self._pool_run)

    def share(self, value: Any) -> Any:
        """Put a value into Ray's object store; once, if it is what was shared last.

        What is shared must not change: a model is measured, and trained from, by the same handle.
        A few numbers are no use there: they travel with the call.
        """
        if isinstance(value, dict) and not any(np.size(v) > 1 for v in value.values()):
            return value
        # What goes out with those of other runs in one call goes with it where it is small.
        if self._member is not None and getattr(value, "nbytes", math.inf) <= POLICY.piece_bytes:
            return value
        if value is not self._last[0]:
            self._last = (value, Shared(ray.put(value)))
        return self._last[1]

    def submit(
        self, call: Call, done: Callable[[], None] | None = None, attempts: int | None = None
    ) -> Ticket:
        """Queue a call."""
        owner = self._pool_run
        title = f"round {self.round}: {call.name}"
        ticket = Ticket(owner, call, done, attempts or owner.faults.attempts, title)
        if self._member is not None and call.meets and attempts is None:
            self._meeting.add(ticket)
        else:
            self.pool.submit(ticket, call.first)
        return ticket

    def expect(self, tickets: Sequence[Ticket], size: int) -> None:
        """Let values come from the nodes where they are made before they are asked for."""
        self._results.expect(tickets, size)

    def begin_round(self, round: int) -> None:
        """Give workers to nodes that have joined, or that have room again."""
        super().begin_round(round)
        self.pool.refresh()

    def result(self, ticket: Ticket, timeout: float | None = None) -> Any:
        """Wait for a call, handing out others meanwhile, and return its value."""
        value = self._value(ticket, 1, timeout)
        # Let Ray free the value; what clients keep stays.
        if ticket.values is not None:
            ticket.values = (None, ticket.values[1])
        if ticket.refs is not None:
            ticket.refs = (None, None, ticket.refs[2])
        return value

    def _value(self, ticket: Ticket, which: int, timeout: float | None = None) -> Any:
        """Return what a call returned, calling again if it went down with a node."""
        while True:
            self._finish(ticket, timeout)
            try:
                return self._results.fetch(ticket, which)
            except ObjectLostError as error:
                if ticket.inputs:
                    raise ValueLost(str(error)) from None
                log.warning("a result was lost with its node; %s is done again", ticket.name)
                self.pool.again(ticket)

    def values_of(self, tickets: Sequence[Ticket]) -> list[Any]:
        """Wait for calls; return references to their values."""
        for ticket in tickets:
            self._finish(ticket)
        assert all(ticket.refs is not None for ticket in tickets)  # Packed ones have no reference.
        return [ticket.refs[1] for ticket in tickets if ticket.refs is not None]

    def _finish(self, ticket: Ticket, timeout: float | None = None) -> None:
        if ticket in self._meeting and self._member is not None:
            self._meeting.remove(ticket)
            self._member.ask(ticket)
        self.pool.wait(ticket, timeout)
        while self._lost_states(ticket):
            assert ticket.call is not None
            ticket.call, ticket.revived = from_files(ticket.call), ticket.revived + 1
            self.pool.again(ticket)
            self.pool.wait(ticket, timeout)
        if ticket.failure is not None:
            raise ticket.failure
        error = None if ticket.status is None else ticket.status.exception
        if error is not None:
            raise error

    def _lost_states(self, ticket: Ticket) -> bool:
        """Tell whether a call must go again, with states from the driver's files."""
        lost = ticket.status is not None and ticket.status.kind == "StateError"
        most = ticket.owner.faults.attempts
        if not isinstance(self.ledger, ObjectStoreLedger) or not lost or ticket.revived >= most:
            return False
        log.warning("clients' states were lost with their node; %s is done again", ticket.name)
        return True

    def kept(self, ticket: Ticket) -> Any:
        """Return what a training call says of its clients' states."""
        return self._value(ticket, 2)

    def _hear(self, worker: int, ticket: Ticket, status: Status) -> None:
        call = ticket.call
        if call is None or call.kind is None or status.error is not None:
            return
        self._results.set_out(ticket)
        times, round = (status.started, status.ended), call.of_round
        if round is not None:
            round = server_round(self.setup.experiment, round)
        self.timeline.add(worker, status.node, call.kind, times, round, call.clients, call.examples)

    def close(self) -> None:
        """Leave the pool, or stop it where it is this run's own."""
        self._last = (None, None)
        if isinstance(self.ledger, ObjectStoreLedger):
            self.ledger.release()
        if self._owner:
            self.pool.close()
        else:
            self.pool.leave(self._pool_run)
