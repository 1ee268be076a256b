"""What a pool is made of: runs, calls, and the workers' places."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from simulation.config.sections import Faults
from simulation.engines.calls import Call, Home, Joint
from simulation.engines.policy import POLICY

if TYPE_CHECKING:
    from simulation.engines.calls import Status


@dataclass(eq=False)
class PoolRun:
    """A run in the pool.

    Args:
        inputs: what its executors are made of: references to setup, data and partition.
        faults: its policy.
        number: tells it from others.
        slowest: the slowest pace of a call so far, by name.
        busy: seconds that workers have worked for it.
        failure: why it cannot go on.
        hear: called with the worker's place, a call that is over, and how it went.
        news: what is to be told of this run, by a thread of its own.
        worked: seconds and cost of the training that each worker did lately.
        begun: workers whose first training alone is known: they compiled meanwhile.
        took: seconds and cost of the last calls, by name; without a worker's first.
        slowest_fetch: seconds that the driver waited for the slowest result from its node.
        fetches: seconds that the last results took to come from their nodes.
    """

    inputs: tuple[Any, ...]
    faults: Faults = field(default_factory=Faults)
    number: int = field(default_factory=itertools.count().__next__)
    slowest: dict[str, float] = field(default_factory=dict)
    busy: float = 0.0
    failure: Exception | None = None
    hear: Callable[[int, Ticket, Status], None] | None = None
    worked: dict[WorkerSlot, tuple[float, float]] = field(default_factory=dict)
    begun: set[WorkerSlot] = field(default_factory=set)
    took: dict[str, deque[tuple[float, float]]] = field(default_factory=dict)
    slowest_fetch: float = 0.0
    fetches: deque[float] = field(default_factory=lambda: deque(maxlen=POLICY.fetches_kept))
    news: deque[Callable[[], Any]] = field(default_factory=deque)
    _telling: threading.RLock = field(default_factory=threading.RLock)

    def deliver(self) -> None:
        """Tell the news, in order, on the thread that asks: it must be one of this run's.

        Raises:
            Exception: what a listener raises; it is this run's to end of it.
        """
        with self._telling:
            while self.news:
                try:
                    self.news.popleft()()
                except Exception as error:
                    self.failure = error
                    raise

    def learn(self, slot: WorkerSlot, seconds: float, cost: float, first: bool = False) -> None:
        """Note how fast a worker trains; what is long past counts less and less.

        Args:
            slot: the worker's place.
            seconds: that a call took.
            cost: of the call.
            first: whether its process had done none before, and so compiled.
        """
        known = slot in self.worked and slot not in self.begun
        if first and known:
            return
        before = self.worked[slot] if known else (0.0, 0.0)
        self.worked[slot] = (
            POLICY.pace_memory * before[0] + seconds,
            POLICY.pace_memory * before[1] + cost,
        )
        (self.begun.add if first else self.begun.discard)(slot)

    def note(self, slot: WorkerSlot, ticket: Ticket, seconds: float) -> None:
        """Note how long a call took."""
        pace = seconds / ticket.cost
        self.slowest[ticket.name] = max(pace, self.slowest.get(ticket.name, 0.0))
        if (self, ticket.name) in slot.done:
            lately = self.took.setdefault(ticket.name, deque(maxlen=POLICY.calls_kept))
            lately.append((seconds, ticket.cost))
        slot.done.add((self, ticket.name))

    def late_limit(self, slot: WorkerSlot, ticket: Ticket) -> float:
        """Return after how many seconds a call is late."""
        lately = self.took.get(ticket.name)
        if not lately or (self, ticket.name) not in slot.done:
            return POLICY.late_unknown
        # What a small one costs beyond its size would count many times for a large one.
        like = [one for one in lately if 2 * one[1] >= ticket.cost] or [max(lately, key=_cost)]
        longest = max(seconds * max(1.0, ticket.cost / cost) for seconds, cost in like)
        return max(POLICY.late_least, POLICY.late_after * longest)

    @property
    def way(self) -> float:
        """Seconds of training that are worth the way of their result; 0 while none has come."""
        return POLICY.far_after * median(tuple(self.fetches)) if self.fetches else 0.0

    def cost_of(self, seconds: float) -> float:
        """Return the cost of so many seconds of training; 0 while that is not known."""
        spent = sum(time for time, _ in self.worked.values())
        return seconds * sum(cost for _, cost in self.worked.values()) / spent if spent else 0.0

    def speeds(self, slots: Sequence[WorkerSlot]) -> dict[WorkerSlot, float]:
        """Return how fast the workers are that have opened the run: all 1 if they are alike."""
        ready = [slot for slot in slots if self in slot.opened and not slot.late]
        speeds = self._speeds(ready)
        if len(speeds) < len(ready) or not _unlike(speeds):
            speeds = [1.0] * len(ready)
        return dict(zip(ready, speeds, strict=True))

    def effective_workers(self, slots: Sequence[WorkerSlot]) -> int:
        """Return how many workers as slow as the slowest would make up the pool.

        This is their number where all are about equally fast, or not all are known yet.
        """
        speeds = self._speeds(slots)
        if len(speeds) < len(slots) or not _unlike(speeds):
            return len(slots)
        return min(round(sum(speeds) / min(speeds)), POLICY.most_units * len(slots))

    def _speeds(self, slots: Sequence[WorkerSlot]) -> list[float]:
        """Return the cost a second of those workers of which it is known."""
        known = [self.worked[s] for s in slots if s in self.worked and s not in self.begun]
        return [cost / seconds for seconds, cost in known if seconds > 0]


def _unlike(speeds: Sequence[float]) -> bool:
    return bool(speeds) and max(speeds) >= POLICY.unequal * min(speeds) > 0


@dataclass(eq=False)
class Ticket:
    """A call, from the queue to its end.

    Args:
        owner: the run that it is for.
        call: what to do; None: make the run's executor.
        done: called when it has succeeded.
        most: how many workers it may take down.
        title: what Ray's dashboard calls it.
        refs: Ray's references to status, value and what is told of states.
        status: how it went.
        attempts: how many workers it has taken down.
        revived: how often it went again as the clients' states were lost.
        failure: why it cannot be done.
        done_by: the actor that has done it.
        parts: the calls of several runs that are carried out together as this one.
        values: value and what is told of states, where they came in one with those of other runs.
    """

    owner: PoolRun
    call: Call | None = None
    done: Callable[[], None] | None = None
    most: int = 1
    title: str = ""
    refs: tuple[Any, ...] | None = None
    status: Status | None = None
    attempts: int = 0
    revived: int = 0
    failure: Exception | None = None
    done_by: Any = None
    parts: tuple[Ticket, ...] = ()
    values: tuple[Any, Any] | None = None

    @property
    def packed(self) -> bool:
        """Whether the values of its parts come as one."""
        return isinstance(self.call, Joint) and self.call.packed

    @property
    def runs(self) -> set[PoolRun]:
        """The runs for which a worker must have executors to carry it out."""
        return {part.owner for part in self.parts} or {self.owner}

    @property
    def opens(self) -> bool:
        """Whether it makes a run's executor."""
        return self.call is None

    @property
    def name(self) -> str:
        """What logs call it; calls of one name are compared by their cost."""
        return "open" if self.call is None else self.call.name

    @property
    def cost(self) -> float:
        """Its size, compared with other calls of its name."""
        return 1.0 if self.call is None else self.call.cost

    @property
    def inputs(self) -> tuple[Any, ...]:
        """References to the values that it is carried out with."""
        return () if self.call is None else self.call.inputs

    @property
    def home(self) -> Home | None:
        """Where it should be carried out."""
        return None if self.call is None else self.call.home

    @property
    def waits(self) -> bool:
        """Whether it yields to all other work."""
        return self.call is not None and self.call.low_priority

    @property
    def over(self) -> bool:
        """Whether there is nothing to wait for any more."""
        return self.status is not None or self.failure is not None

    @property
    def alone(self) -> bool:
        """Whether no other call may wait behind this one.

        It is blamed for good if its worker dies once more. A worker that dies at the start of the
        next call may take the answer to this one with it, which is then blamed for nothing.
        """
        return not self.opens and self.attempts + 1 >= self.most


@dataclass(eq=False)
class WorkerSlot:
    """A worker's place in the pool; its actor may be replaced.

    Args:
        actor: the Ray actor.
        gpus: what it holds of them.
        line: what it was given to do, in order: the first of it is under way.
        opened: the pool_runs that it has executors for.
        since: when the first of the line began.
        failures: actors in a row that were gone before they had opened an executor.
        node: id of the node that it is on; "" while that is not known.
        sent: Ray's references for each call of the line.
        late: whether it is passed over, as it is out of reach or late with a call.
        nudged: when it was sent a call that does nothing.
        slow_starts: actors in a row that were not ready in time.
        done: calls that it has done before: the run and the name.
        unfit: whether its host has other versions, or lacks a library.
    """

    actor: Any
    gpus: float = 0.0
    line: deque[Ticket] = field(default_factory=deque)
    opened: set[PoolRun] = field(default_factory=set)
    since: float = 0.0
    failures: int = 0
    node: str = ""
    sent: dict[Ticket, tuple[Any, ...]] = field(default_factory=dict)
    late: bool = False
    nudged: float = 0.0
    slow_starts: int = 0
    done: set[tuple[PoolRun, str]] = field(default_factory=set)
    unfit: bool = False

    @property
    def calls(self) -> int:
        """How many calls of runs it has."""
        return sum(not ticket.opens for ticket in self.line)

    @property
    def taken(self) -> bool:
        """Whether nothing more may be put into its line, however short."""
        return self.late or any(ticket.alone for ticket in self.line)

    def renew(self, actor: Any) -> None:
        """Take another actor, which has done nothing yet."""
        self.actor, self.line, self.opened = actor, deque(), set()
        self.node, self.late, self.sent, self.done = "", False, {}, set()
        self.unfit = False


def _cost(call: tuple[float, float]) -> float:
    return call[1]


def has_enough(
    slot: WorkerSlot, slots: Sequence[WorkerSlot], queue: Sequence[Ticket], next_one: Ticket
) -> bool:
    """Tell whether a worker that has a call should not get the next one too, as a round ends.

    Args:
        slot: the worker's place.
        slots: all places.
        queue: calls that wait.
        next_one: that of them which it would get.
    """
    if len(queue) > POLICY.depth * len(slots):
        return False
    beside = [other for other in slots if next_one.home is None or other.node == slot.node]
    waiting = itertools.chain(queue, *(other.line for other in beside))
    alike = (next_one.name, next_one.home)
    left = sum(ticket.cost for ticket in waiting if (ticket.name, ticket.home) == alike)
    mine = sum(ticket.cost for ticket in slot.line if ticket.name == next_one.name)
    return mine + next_one.cost > POLICY.line_share * left / len(beside)
