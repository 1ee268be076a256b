"""Results that come to the driver from the nodes where they were made.

On a cluster they set out before the driver asks for them, several at a time, so that a link with a
long way is full; one that does not come is made on another node too.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import ray
from ray.exceptions import GetTimeoutError

from simulation.engines.calls import ValueLost
from simulation.engines.policy import POLICY
from simulation.engines.ray.pieces import Pieces
from simulation.engines.ray.pool import Pool
from simulation.engines.ray.slots import PoolRun, Ticket
from simulation.engines.ray.zipped import Zipped

log = logging.getLogger("sunflower.grid")


class Results:
    """What one run's calls have returned, fetched from the nodes.

    Args:
        pool: whose workers have done them.
        run: whose calls they are.
        finish: waits for a call, so many seconds at most, and raises what it has failed of.
    """

    def __init__(self, pool: Pool, run: PoolRun, finish: Callable[[Ticket, float], None]) -> None:
        self._pool, self._run, self._finish = pool, run, finish
        self._expected: dict[Ticket, None] = {}
        self._coming: dict[Ticket, Future[Any]] = {}
        self._room = 1

    def expect(self, tickets: Sequence[Ticket], size: int) -> None:
        """Hear which values the driver will ask for, beside those that it was told of.

        Args:
            tickets: calls, done or not.
            size: bytes of the value of each, about.
        """
        # Small ones come with the answer, and what is on this machine is here already.
        if not self._pool.cluster.grows or size <= POLICY.piece_bytes:
            return
        self._room = max(1, POLICY.driver_bytes // size)
        self._expected |= dict.fromkeys(tickets)
        self._fill()

    def set_out(self, ticket: Ticket) -> None:
        """Let a value come that is there, if it is expected and not too many are on the way."""
        if ticket not in self._expected or len(self._coming) >= self._room:
            return
        if ticket.refs is None or ticket.status is None or ticket.status.error is not None:
            return
        del self._expected[ticket]
        self._coming[ticket] = ticket.refs[1].future()
        self._coming[ticket].add_done_callback(partial(_note, self._run, time.monotonic()))

    def fetch(self, ticket: Ticket, which: int) -> Any:
        """Return what a call that is done returned.

        Args:
            ticket: the call.
            which: 1: the value; 2: what it says of its clients' states.

        Raises:
            ValueLost: where it does not come, and what it was made of may be gone too.
            ObjectLostError: where its node has gone down.
        """
        value = self._fetched(ticket, which)
        return value.open() if isinstance(value, Zipped) else value

    def _fetched(self, ticket: Ticket, which: int) -> Any:
        if ticket.values is not None:
            return ticket.values[which - 1]
        assert ticket.refs is not None
        if not self._pool.cluster.grows:
            return ray.get(ticket.refs[which])
        coming = None
        if which == 1:
            self._expected.pop(ticket, None)
            coming = self._coming.pop(ticket, None)
            self._fill()
        limit = max(POLICY.fetch_least, POLICY.fetch_after * self._run.slowest_fetch)
        began = time.monotonic()
        try:
            if coming is not None:
                value = coming.result(timeout=limit)
            else:
                value = ray.get(ticket.refs[which], timeout=limit)
        except (GetTimeoutError, TimeoutError):
            value = self._fetch_anyhow(ticket, which, limit)
        self._run.slowest_fetch = max(self._run.slowest_fetch, time.monotonic() - began)
        return value

    def _fill(self) -> None:
        """Let those set out that are there, in their order, while there is room."""
        for ticket in tuple(self._expected):
            self.set_out(ticket)

    def _fetch_anyhow(self, ticket: Ticket, which: int, limit: float) -> Any:
        """Wait for a result that is late, and for the same one from another worker."""
        assert ticket.refs is not None
        coming: list[tuple[Ticket, Any]] = [(ticket, ticket.refs[which].future())]
        last = ticket
        while True:
            node, title = self._pool.name_of(last), ticket.title or ticket.name
            text = f"the result of {title} has not come from {node} for {limit:.0f} s"
            if ticket.inputs:
                raise ValueLost(text)
            assert last.refs is not None
            coming.append((last, Pieces(last.done_by, last.refs[which])))
            log.warning("%s; it is made again too", text)
            last = Ticket(ticket.owner, ticket.call, None, ticket.most, ticket.title)
            self._pool.submit(last, first=True)
            limit, end = 2 * limit, math.inf
            while time.monotonic() < end:
                for made, future in coming:
                    if future.done():
                        ticket.refs, ticket.status = made.refs, made.status
                        ticket.done_by = made.done_by
                        return future.result()
                try:
                    self._finish(last, POLICY.glance / 10)
                except TimeoutError:
                    continue
                if end == math.inf:
                    assert last.refs is not None
                    coming.append((last, last.refs[which].future()))
                    end = time.monotonic() + limit
                time.sleep(POLICY.glance / 100)


def _note(run: PoolRun, began: float, _: Future[Any]) -> None:
    run.fetches.append(time.monotonic() - began)
