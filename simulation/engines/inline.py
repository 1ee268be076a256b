"""The engine without Ray: everything in this process, one call after the other.

For tests and debugging: breakpoints work, and the bits are those of the Ray engine.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from typing_extensions import override

from simulation.datasets.dataset import Dataset
from simulation.engines.calls import Call
from simulation.engines.client_ledger import ClientLedger
from simulation.engines.engine import Engine, Progress
from simulation.engines.policy import POLICY
from simulation.population.partition import AnyPartition
from simulation.records.client_states import StateError, as_driver_error
from simulation.worker.executor import Executor
from simulation.worker.meeting import Member
from simulation.worker.setup import Setup
from simulation.worker.together import Done, Together

_ONE_AT_A_TIME = threading.RLock()
"""A process has one model of each kind, whose weights a call sets: runs in threads take turns."""


class Pace:
    """How fast calls of training are, as the last ones were."""

    def __init__(self) -> None:
        self._cost = self._seconds = 0.0

    @contextmanager
    def of(self, call: Call) -> Iterator[None]:
        """Watch a call."""
        began = time.perf_counter()
        yield
        if call.tells_speed:
            self._cost = POLICY.pace_memory * self._cost + call.cost
            self._seconds = POLICY.pace_memory * self._seconds + time.perf_counter() - began

    def cost_in(self, seconds: float) -> float:
        """Return the cost of what takes so long; 0 while nothing is known."""
        return seconds * self._cost / self._seconds if self._seconds else 0.0


Asked = tuple[Executor, Call]
"""A run's executor and what it is to do."""


def carry_out(asked: Mapping[Any, Asked]) -> dict[Any, Done]:
    """Carry out calls of several runs together; return how each went, by the run's name."""
    calls = [partial(call.run, executor, *call.inputs) for executor, call in asked.values()]
    with _ONE_AT_A_TIME:
        done = Together([executor for executor, _ in asked.values()]).carry_out(calls)
    return dict(zip(asked, done, strict=True))


class InlineTicket:
    """A call that is carried out when its result is asked for."""

    def __init__(
        self,
        call: Call,
        executor: Any,
        done: Callable[[], None] | None,
        pace: Pace,
        member: Member | None = None,
    ) -> None:
        self._call: Call | None = call
        self._executor, self._done = executor, done
        self._pace, self._member = pace, member
        self._value: Any = None
        self._kept: Any = None

    def value(self) -> Any:
        """Return what the call returned (of training: without states)."""
        if self._call is not None:
            try:
                if self._member is not None and self._call.meets:
                    found = self._member.ask((self._executor, self._call)).result()
                else:
                    with _ONE_AT_A_TIME, self._pace.of(self._call):
                        found = self._call.run(self._executor, *self._call.inputs)
            except StateError as error:
                raise as_driver_error(str(error)) from error
            self._value, self._kept = found if self._call.keeps_states else (found, None)
            self._call = None
            if self._done is not None:
                self._done()
        return self._value

    def kept(self) -> Any:
        """Return what the call told of its clients' states."""
        self.value()
        return self._kept


class InlineEngine(Engine):
    """Run every call in this process.

    Args:
        progress: called as clients finish.
        executor: the class of what does the work.
        member: the run's place among others that train together with it; None: it is alone.
    """

    def __init__(
        self,
        progress: Progress | None = None,
        executor: Any = Executor,
        member: Member | None = None,
    ) -> None:
        super().__init__(progress)
        self._class, self._pace, self._member = executor, Pace(), member

    @override
    def start(self, setup: Setup, data: Dataset, partition: AnyPartition) -> None:
        """Build the executor (imports the backend's library here)."""
        resources = setup.experiment.resources
        gpus = resources.gpus if resources.library == "jax" else 0.0
        if self._member is not None:
            setup = replace(setup, grouped=True)
        self._class.prepare(setup.threads, gpus, resources.library)
        self.setup, self.data, self.partition = setup, data, partition
        self.ledger = ClientLedger(setup.shelf, InlineTicket.kept)
        with _ONE_AT_A_TIME:
            self._executor = self._class(setup, data, partition)

    @override
    def share(self, value: Any) -> Any:
        return value

    @override
    def submit(
        self, call: Call, done: Callable[[], None] | None = None, attempts: int | None = None
    ) -> InlineTicket:
        return InlineTicket(call, self._executor, done, self._pace, self._member)

    @override
    def min_cost(self, total: float) -> float:
        """Return the cost of a call that takes long enough for what is around it to be little.

        Args:
            total: cost of the round.
        """
        if self._member is not None:  # Which call meets which must not be decided by time.
            return math.inf
        return self._pace.cost_in(POLICY.alone_seconds)

    @override
    def result(self, ticket: InlineTicket, timeout: float | None = None) -> Any:
        return ticket.value()

    @override
    def values_of(self, tickets: Sequence[InlineTicket]) -> list[Any]:
        return [self.result(ticket) for ticket in tickets]

    @override
    def close(self) -> None:
        pass
