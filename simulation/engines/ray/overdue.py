"""Calls that take too long on a cluster: they go to other workers too, and the first answer counts.

Nothing that a network loses is waited for without limit. How long a call may take is learned from
those before it; a node whose port does not answer is passed over at once. What a call gives depends
on the call alone, so the bits are the same whoever answers first.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from ray.exceptions import RayError

from simulation.engines.calls import ValueLost
from simulation.engines.policy import POLICY
from simulation.engines.ray.slots import PoolRun, Ticket, WorkerSlot
from simulation.engines.ray.watch import Watch

log = logging.getLogger("sunflower.grid")


class Overdue:
    """Look for calls that are late, under the lock of the pool that calls it.

    Args:
        watch: who answers on the network.
        queue: where copies of calls go: they are the next to be handed out.
        heard: called with a worker's place, its actor, and a nudge's future that is done.
        lacking: tells what one more worker with so many GPUs waits for; None where there is room.
    """

    def __init__(
        self,
        watch: Watch,
        queue: deque[Ticket],
        heard: Callable[[WorkerSlot, Any, Any], None],
        lacking: Callable[[float], str | None],
    ) -> None:
        self.watch, self._queue, self._heard, self._lacking = watch, queue, heard, lacking
        self._lacks: dict[float, tuple[float, str | None]] = {}  # by GPUs: when, and what
        self._without = 0
        self._silent: set[str] = set()
        self._looked = -math.inf
        self._idle_since, self._say_after = time.monotonic(), POLICY.waiting_said
        self._said_busy = False

    def reachable(self, slot: WorkerSlot) -> bool:
        """Tell whether a worker may get calls: it answers, as far as is known."""
        return not slot.late and self.watch.silence(slot.node) < POLICY.silent_after

    def blameless(self, slot: WorkerSlot) -> bool:
        """Tell whether the network is at fault where a worker is gone."""
        return self.watch.was_silent(slot.node, POLICY.hung_least)

    def waited(self, slot: WorkerSlot, now: float) -> float:
        """Return how long the first call of a line has taken, with its node there to answer."""
        return min(now - slot.since, now - self.watch.last_silence(slot.node))

    def look(self, slots: Sequence[WorkerSlot], runs: Sequence[PoolRun]) -> None:
        """Pass over workers that are out of reach or late, and find out who is back."""
        now = time.monotonic()
        if now - self._looked < POLICY.glance / 2:
            return
        self._looked = now
        self._note_nodes(slots, runs)
        for slot in slots:
            if slot.actor is None:
                continue
            if not slot.late:
                why = self._why_late(slot, now)
                if why:
                    self._pass_over(slot, why, now)
            elif now - slot.nudged > POLICY.nudge:
                self.nudge(slot, now)
        self._say_who_waits(slots, runs, now)

    def _why_late(self, slot: WorkerSlot, now: float) -> str | None:
        silence = self.watch.silence(slot.node)
        if silence >= POLICY.silent_after:
            return f"{self.watch.name(slot.node)} has not answered for {silence:.0f} s"
        if not slot.line or slot.line[0].opens:
            return None
        first = slot.line[0]
        limit = first.owner.late_limit(slot, first)
        if now - slot.since <= limit:
            return None
        place = self.watch.name(slot.node)
        return (
            f"a worker on {place} gave no answer to {first.title or first.name} for {limit:.0f} s"
        )

    def _pass_over(self, slot: WorkerSlot, why: str, now: float) -> None:
        """Let others do too what a worker was given."""
        slot.late, slot.nudged = True, now
        for owner in dict.fromkeys(t.owner for t in slot.line if not t.opens and not t.over):
            mine = [t for t in slot.line if t.owner is owner and not t.opens and not t.over]
            text = "%s; %d calls go to others too"
            owner.news.append(partial(log.warning, text, why, len(mine)))
        for ticket in reversed(slot.line):
            if ticket.opens or ticket.over or ticket in self._queue:
                continue
            if ticket.inputs:  # They may lie on the node that is out of reach.
                ticket.failure = ValueLost(why)
            else:
                self._queue.appendleft(ticket)

    def nudge(self, slot: WorkerSlot, now: float) -> None:
        """Send a call that does nothing: if the connection is none, Ray finds out now."""
        slot.nudged = now
        with suppress(RayError):
            actor = slot.actor
            future = actor.where.remote().future()
            future.add_done_callback(lambda done: self._heard(slot, actor, done))

    def _note_nodes(self, slots: Sequence[WorkerSlot], runs: Sequence[PoolRun]) -> None:
        """Say which nodes answer again."""
        nodes = {slot.node for slot in slots if slot.node}
        silent = {n for n in nodes if self.watch.silence(n) >= POLICY.silent_after}
        for node in (self._silent & nodes) - silent:
            for run in runs:
                text = "%s answers again"
                run.news.append(partial(log.warning, text, self.watch.name(node)))
        self._silent = silent

    def _say_who_waits(
        self, slots: Sequence[WorkerSlot], runs: Sequence[PoolRun], now: float
    ) -> None:
        """Say what is waited for, after longer and longer times, where no worker is of use."""
        if not slots or any(slot.opened and self.reachable(slot) for slot in slots):
            self._idle_since, self._say_after = now, POLICY.waiting_said
            self._said_busy = False
            self._say_who_has_no_room(slots, runs, now)
            return
        waited = now - self._idle_since
        if waited < min(self._say_after, POLICY.busy_said):
            return
        waiting = [slot.gpus for slot in slots if not (slot.opened or slot.node)]
        lacking = self.lacking(min(waiting)) if waiting else None
        if waited < self._say_after and (lacking is None or self._said_busy):
            return
        if waited >= self._say_after:
            self._say_after *= 2
        self._said_busy = True
        opening = sum(not slot.opened for slot in slots)
        what = f"{len(slots) - opening} workers that are out of reach or late"
        if opening:
            what = f"{opening} workers that get ready" + (
                f", {what}" if opening < len(slots) else ""
            )
        if lacking is not None:
            what = f"{what}; for one, {lacking}"
        for run in runs:
            run.news.append(partial(log.warning, "waiting since %.0f s for %s", waited, what))

    def _say_who_has_no_room(
        self, slots: Sequence[WorkerSlot], runs: Sequence[PoolRun], now: float
    ) -> None:
        """Say how many workers wait for others to go, while the run goes on without them."""
        waiting = [s for s in slots if s.actor is not None and not (s.opened or s.node)]
        waiting = [slot for slot in waiting if slot.line and now - slot.since > POLICY.busy_said]
        if len(waiting) <= self._without:
            self._without = len(waiting)
            return
        if (lacking := self.lacking(min(slot.gpus for slot in waiting))) is None:
            return
        self._without = len(waiting)
        text = "%d of %d workers wait, and the run goes on without them; for one, %s"
        for run in runs:
            run.news.append(partial(log.warning, text, len(waiting), len(slots), lacking))

    def lacking(self, gpus: float) -> str | None:
        """Return what one more worker with so many GPUs waits for; None where there is room."""
        now = time.monotonic()
        asked, found = self._lacks.get(gpus, (-math.inf, None))
        if now - asked > POLICY.glance:
            found = self._lacking(gpus)
            self._lacks[gpus] = (now, found)
        return found
