"""Workers that are gone, hang or cannot be heard: what becomes of their calls and their place."""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from functools import partial
from typing import Any

import ray
from ray.exceptions import (
    ActorUnavailableError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    WorkerCrashedError,
)

from simulation.engines.calls import Poisoned, Status
from simulation.engines.policy import POLICY
from simulation.engines.ray.actor import Shared
from simulation.engines.ray.inspection import Inspection
from simulation.engines.ray.overdue import Overdue
from simulation.engines.ray.pieces import bring
from simulation.engines.ray.private import LOW_MEMORY
from simulation.engines.ray.slots import PoolRun, Ticket, WorkerSlot
from simulation.engines.ray.watch import Watch
from simulation.worker.faults import WorkerError

log = logging.getLogger("sunflower.grid")

GONE = (RayActorError, OutOfMemoryError, WorkerCrashedError, NodeDiedError)
"""What Ray says of a worker that is no more."""

Event = tuple[WorkerSlot, Ticket | None, Any]
"""A worker's place, the call that it has answered (None: a nudge), and what became of it."""


class Losses(ABC):
    """The part of a pool that deals with workers that are no more, or do not answer.

    Every method wants the pool's lock.
    """

    slots: list[WorkerSlot]
    _events: queue.SimpleQueue[Event | None]
    _queue: deque[Ticket]
    _later: deque[Ticket]
    _pool_runs: list[PoolRun]
    _watch: Watch | None = None  # what answers on the network, where there is one
    _overdue: Overdue | None = None
    _inspection: Inspection | None = None

    @abstractmethod
    def _begin(self, slot: WorkerSlot) -> None:
        """Start a worker."""

    @abstractmethod
    def _open(self, slot: WorkerSlot, pool_run: PoolRun) -> None:
        """Let a worker open an executor for a run."""

    @abstractmethod
    def _ended(self, slot: WorkerSlot, ticket: Ticket, status: Status) -> None:
        """Take note of a call that has ended."""

    def _hear_nudge(self, slot: WorkerSlot, actor: Any, done: Any) -> None:
        self._events.put((slot, None, (actor, done)))

    def _nudged(self, slot: WorkerSlot, actor: Any, done: Any) -> None:
        if actor is not slot.actor:
            return
        error = done.exception()
        if error is None:
            slot.node = done.result()[0]
            slot.late = bool(slot.line)  # What it has done before is over by now.
        elif isinstance(error, GONE):
            self._lose(slot, error)

    def _lose(self, slot: WorkerSlot, error: RayError) -> None:
        """React to the end of a worker, or of every connection to it."""
        away = self._overdue is not None and self._overdue.blameless(slot)
        if isinstance(error, ActorUnavailableError):
            if away:
                self._ask_again(slot)
                return
            self._kill(slot.actor)
        self._replace(slot, "was out of reach" if away else "died", error)

    def _ask_again(self, slot: WorkerSlot) -> None:
        """Take back what a worker was given, whose answers were lost on the way; it is there."""
        self._catch_up(slot)
        line, slot.line, slot.sent = list(slot.line), deque(), {}
        slot.late, slot.nudged = True, -math.inf  # It has to answer first.
        self._note_death(line, "was out of reach")
        self._give_back([ticket for ticket in line if not ticket.opens])
        for ticket in line:
            if ticket.opens and ticket.owner in self._pool_runs:
                self._open(slot, ticket.owner)

    def _bring(self, slot: WorkerSlot, ticket: Ticket) -> None:
        """Send a worker what it waited for in vain, and give the call back."""
        call, node = ticket.call, "a node" if self._watch is None else self._watch.name(slot.node)
        if call is None or ticket.over:
            return
        text = "the model does not come to %s; it is sent with the next call"
        ticket.owner.news.append(partial(log.warning, text, node))
        calls = [part.call for part in ticket.parts if part.call is not None] or [call]
        with suppress(RayError):
            for one in (inner for whole in calls for inner in whole.within):
                for field in fields(one):
                    if isinstance(value := getattr(one, field.name), Shared):
                        bring(slot.actor, value.ref)
        self._give_back([ticket])

    def _kill(self, actor: Any) -> None:
        """End an actor. On a cluster by a thread: its head may not answer."""
        if self._watch is None:
            ray.kill(actor)
        else:
            threading.Thread(target=_ended_actor, args=(actor,), daemon=True).start()

    @staticmethod
    def _note_death(line: Sequence[Ticket], how: str) -> None:
        """Let the runs that a worker was working for log that it is no more."""
        for owner in dict.fromkeys(ticket.owner for ticket in line):
            mine = [ticket for ticket in line if ticket.owner is owner]
            calls = sum(not (ticket.opens or ticket.over) for ticket in mine)
            text = "a worker %s; %d calls go to others"
            owner.news.append(partial(log.warning, text, how, calls))

    def _catch_up(self, slot: WorkerSlot) -> None:
        """Take note of calls that ended before their worker did, though we hear of them later."""
        for ticket in list(slot.line):
            refs = slot.sent.get(ticket, ticket.refs)
            ref = refs[0] if refs else None
            if ref is None or not ray.wait([ref], timeout=0)[0]:
                return
            try:
                status = ray.get(ref)
            except RayError:
                return
            self._ended(slot, ticket, status)

    def deadline(self, ticket: Ticket) -> float | None:
        """Return how many seconds a call may take; None while nothing is known."""
        owner = ticket.owner
        if ticket.opens:
            return None
        if owner.faults.chunk_timeout is not None:
            return owner.faults.chunk_timeout * max(1, len(ticket.parts))
        pace = owner.slowest.get(ticket.name)
        return (
            None if pace is None else max(POLICY.hung_least, POLICY.hung_after * pace * ticket.cost)
        )

    def _look_for_hung(self) -> None:
        now = time.monotonic()
        for slot in self.slots:
            if not slot.line or slot.actor is None:
                continue
            if slot.line[0].opens:
                self._look_for_slow_start(slot, now)
                continue
            limit = self.deadline(slot.line[0])
            waited = now - slot.since
            if self._overdue is not None:  # Who cannot answer does not hang.
                waited = self._overdue.waited(slot, now)
            if limit is not None and waited > limit:
                self._kill(slot.actor)
                self._replace(slot, f"gave no answer for {limit:.3g} s", None)

    def _look_for_slow_start(self, slot: WorkerSlot, now: float) -> None:
        """Start another actor where one does not get ready, its node being gone perhaps."""
        limit = POLICY.ready_least * 2**slot.slow_starts
        if self._overdue is None or now - slot.since <= limit:
            return
        if not slot.node and self._overdue.lacking(slot.gpus):
            return  # It has not begun: it waits for others to go.
        slot.slow_starts += 1
        for owner in dict.fromkeys(ticket.owner for ticket in slot.line):
            text = "a worker was not ready after %.0f s; another is started in its place"
            owner.news.append(partial(log.warning, text, limit))
        self._kill(slot.actor)
        slot.renew(None)

    def _revive(self) -> None:
        """Start workers where there are none, unless the head does not answer: Ray would wait."""
        if all(slot.actor is not None for slot in self.slots):
            return
        if self._watch is not None and not self._watch.head_answers():
            return
        for slot in self.slots:
            if slot.actor is None:
                self._begin(slot)
                for pool_run in self._pool_runs:
                    if pool_run.failure is None:
                        self._open(slot, pool_run)

    def _replace(self, slot: WorkerSlot, how: str, error: RayError | None) -> None:
        """Put a new worker into a slot; what the old one had not finished goes to others."""
        self._catch_up(slot)
        line, away = list(slot.line), self._overdue is not None and self._overdue.blameless(slot)
        slot.renew(None)
        if isinstance(error, OutOfMemoryError) or LOW_MEMORY in str(error):
            how = "ran out of memory"
        if line and line[0].opens and not away:
            slot.failures += 1
            owner = line[0].owner
            if slot.failures >= owner.faults.attempts:
                text = f"{slot.failures} workers {how} before they were ready: {error}"
                owner.failure = WorkerError(text)
                slot.failures = 0
        calls = [ticket for ticket in line if not (ticket.opens or ticket.over)]
        calls = [ticket for ticket in calls if not self._elsewhere(ticket)]
        self._note_death(line, how)
        if calls and calls[0] is line[0] and not away:
            first = calls[0]
            first.attempts += 1
            if first.attempts >= first.most:
                times = f"{first.attempts} times" if first.attempts > 1 else "once"
                final = first.most >= first.owner.faults.attempts
                first.failure = Poisoned(f"its worker {how} ({times})", final)
                calls = calls[1:]
        self._give_back(calls)
        self._revive()

    def _give_back(self, calls: Sequence[Ticket]) -> None:
        """Let calls be the next that are handed out, unless others have them too."""
        for ticket in reversed(calls):
            known = ticket.runs <= set(self._pool_runs)
            if known and not ticket.over and not self._elsewhere(ticket):
                (self._later if ticket.waits else self._queue).appendleft(ticket)

    def _elsewhere(self, ticket: Ticket) -> bool:
        """Tell whether a call waits, or is under way, in another place too."""
        waiting = ticket in self._queue or ticket in self._later
        return waiting or any(ticket in slot.line for slot in self.slots)


def _ended_actor(actor: Any) -> None:
    with suppress(Exception):  # It is gone already, or Ray is.
        ray.kill(actor)
