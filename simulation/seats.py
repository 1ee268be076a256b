"""What a pool is made of: runs that are tenants, calls, and the workers' places."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from simulation.sections import Faults

if TYPE_CHECKING:
    from simulation.worker import Status

OPEN = "open"
"""The name of the call that makes a tenant's executor."""


@dataclass(eq=False)
class Tenant:
    """A run in the pool.

    Args:
        inputs: what its executors are made of: references to setup, data and partition.
        faults: its policy.
        number: tells it from others.
        slowest: the slowest pace of a call so far, by name.
        busy: seconds that workers have worked for it.
        failure: why it cannot go on.
        hear: called with the worker's place, a call that is over, and how it went.
    """

    inputs: tuple[Any, ...]
    faults: Faults = field(default_factory=Faults)
    number: int = field(default_factory=itertools.count().__next__)
    slowest: dict[str, float] = field(default_factory=dict)
    busy: float = 0.0
    failure: Exception | None = None
    hear: Callable[[int, Ticket, Status], None] | None = None


@dataclass(eq=False)
class Ticket:
    """A call, from the queue to its end; ``title`` is what Ray's dashboard calls it."""

    owner: Tenant
    name: str
    args: tuple[Any, ...] = ()
    done: Callable[[], None] | None = None
    later: bool = False
    cost: float = 1.0
    most: int = 1
    refs: tuple[Any, ...] | None = None
    status: Status | None = None
    attempts: int = 0
    revived: int = 0
    failure: Exception | None = None
    title: str = ""

    @property
    def over(self) -> bool:
        """Whether there is nothing to wait for any more."""
        return self.status is not None or self.failure is not None


@dataclass(eq=False)
class Seat:
    """A worker's place in the pool; its actor may be replaced.

    Args:
        actor: the Ray actor.
        line: what it was given to do, in order: the first of it is under way.
        opened: the tenants that it has executors for.
        since: when the first of the line began.
        failures: actors in a row that were gone before they had opened an executor.
    """

    actor: Any
    line: deque[Ticket] = field(default_factory=deque)
    opened: set[Tenant] = field(default_factory=set)
    since: float = 0.0
    failures: int = 0

    @property
    def calls(self) -> int:
        """How many calls of runs it has."""
        return sum(ticket.name != OPEN for ticket in self.line)
