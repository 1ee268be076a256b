"""Who is at work at which moment, where clients are sent out one by one: an event simulation.

Clients in flight wait in a heap by (virtual time of arrival, dispatch number). All arrivals of one
moment come before anybody is sent out at it. The server steps when its buffer is full, or at every
interval in which somebody arrived. Free places are filled at once, by clients that are there, not
at work, and whose last update is in the model already: so nobody trains from the same model twice,
and a step has at most one update of a client. No result of training is needed, so the plan may run
ahead of the training.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from simulation.population.clock import MOST_CHANGES, NobodyThereError, World
from strategies import Cohort
from strategies.random_streams import stream

NEXT = 0x4E78
"""Purpose of the random stream of who is sent out next, by dispatch number."""

GUESSES = 64
"""Clients that are tried at random before those who can be asked are listed."""


class Flight(NamedTuple):
    """A client at work: when it arrives, its dispatch number, and the model that it got."""

    arrives: float
    number: int
    client: int
    version: int
    dispatched: float


class Moment(NamedTuple):
    """All that the plan goes on from: after a step, before free places are filled."""

    seconds: float
    version: int
    number: int
    ticks: int
    flights: tuple[Flight, ...]


@dataclass(frozen=True)
class Step:
    """A step of the server.

    Args:
        arrived: whose updates it takes, in the order of their arrival.
        stale: who arrived since the last step with a model that is too old.
        after: where the plan stands then.
    """

    arrived: tuple[Flight, ...]
    stale: tuple[Flight, ...]
    after: Moment


@dataclass(frozen=True)
class Rules:
    """When the server steps.

    Args:
        concurrency: clients at work at a time.
        buffer: updates of a step; None: what has come at an interval.
        interval: seconds between steps, of which those without arrivals are none; None: as the
            buffer fills.
        max_staleness: server steps that a model may be behind; None: any number.
    """

    concurrency: int
    buffer: int | None
    interval: float | None = None
    max_staleness: int | None = None


class FlightPlan:
    """The steps of the server, one after the other.

    Args:
        world: how long clients take, and when they are there.
        rules: when the server steps.
        cohort: who is sent out where nobody is at work: the sample of the round that begins then;
            and whether others are drawn uniformly or by size.
        start: where to go on from.
    """

    def __init__(
        self, world: World, rules: Rules, cohort: Cohort, start: Moment | None = None
    ) -> None:
        self.world, self.rules, self.cohort = world, rules, cohort
        self.population = len(world.fleet)
        everybody = world.durations(np.arange(self.population))
        self.seconds_of = everybody.total
        self.busy = np.zeros(self.population, bool)
        by_size = cohort.kind == "by-size"
        self.weights = world.sizes.astype(np.float64) if by_size else np.ones(self.population)
        self._sums = np.cumsum(self.weights) if by_size else None
        now = start or Moment(0.0, 0, 0, 0, ())
        self.seconds, self.version, self.number, self.ticks, flights = now
        self.flights = list(flights)
        heapq.heapify(self.flights)
        self.busy[[flight.client for flight in flights]] = True

    def next_step(self) -> Step:
        """Go on to the next step of the server."""
        arrived: list[Flight] = []
        stale: list[Flight] = []
        oldest, idle = self.rules.max_staleness, 0
        while True:
            while self.flights and self.flights[0].arrives <= self.seconds:
                flight = heapq.heappop(self.flights)
                if oldest is not None and self.version - flight.version > oldest:
                    stale.append(flight)
                    self.busy[flight.client] = False
                    continue
                arrived.append(flight)
                if len(arrived) == self.rules.buffer:
                    return self._stepped(arrived, stale)
            if arrived and self._is_tick():
                self.ticks += 1
                return self._stepped(arrived, stale)
            self._fill()
            idle = 0 if self.flights else idle + 1
            if idle > MOST_CHANGES:  # Who is ever there has arrived, and waits for the others.
                raise NobodyThereError(
                    "schedule.buffer must be at most the clients that are ever there, "
                    f"got {self.rules.buffer}"
                )
            self.seconds = self._next_moment(waiting=bool(arrived))
            self._pass_ticks()

    def _is_tick(self) -> bool:
        every = self.rules.interval
        return every is not None and self.seconds >= (self.ticks + 1) * every

    def _pass_ticks(self) -> None:
        """Count the intervals that ended before this moment: nobody had arrived in them."""
        every = self.rules.interval
        if every is None:
            return
        self.ticks = max(self.ticks, int(self.seconds / every) - 2)
        while (self.ticks + 1) * every < self.seconds:
            self.ticks += 1

    def _stepped(self, arrived: list[Flight], stale: list[Flight]) -> Step:
        self.version += 1
        self.busy[[flight.client for flight in arrived]] = False
        after = Moment(self.seconds, self.version, self.number, self.ticks, tuple(self.flights))
        return Step(tuple(arrived), tuple(stale), after)

    def _next_moment(self, waiting: bool) -> float:
        """Return when something may happen next; who waits for a step does so at an interval."""
        moments = [self.flights[0].arrives] if self.flights else []
        if self.rules.interval is not None and waiting:
            moments.append((self.ticks + 1) * self.rules.interval)
        if len(self.flights) < self.rules.concurrency:
            change = self.world.availability.next_change(self.seconds)
            if self.flights or np.isfinite(change):
                moments.append(change)
            if not self.flights:  # Nobody is there: an error where nobody ever comes.
                self.world.opening(self.seconds)
        return min(moments)

    def _fill(self) -> None:
        """Send clients out until as many are at work as may be, or nobody else can be asked."""
        free = self.rules.concurrency - len(self.flights)
        if free <= 0:
            return
        there = self.world.availability.at(self.seconds)
        if not self.flights and not self.busy.any():
            ids = None if there is None else np.flatnonzero(there)
            count = min(free, self.population if ids is None else len(ids))
            if count:
                of = self.population if ids is None else ids.tolist()
                sizes = self.world.sizes if ids is None else self.world.sizes[ids]
                cohort = replace(self.cohort, size=count, fraction=None)
                for client in cohort.sample(self.version + 1, of, sizes=sizes):
                    self._send(client)
            return
        for _ in range(free):
            found = self._next_client(there)
            if found is None:
                return
            self._send(found)

    def _next_client(self, there: np.ndarray | None) -> int | None:
        rng = stream(self.cohort.seed, NEXT, self.number)
        for client in self._guesses(rng):
            if not self.busy[client] and (there is None or there[client]):
                return int(client)
        free = np.flatnonzero(~self.busy if there is None else ~self.busy & there)
        if not len(free):
            return None
        sums = np.cumsum(self.weights[free])
        if self._sums is None or not sums[-1] > 0:
            return int(free[rng.integers(len(free))])
        return int(free[np.searchsorted(sums, rng.random() * sums[-1], side="right")])

    def _guesses(self, rng: np.random.Generator) -> list[int]:
        """Return clients drawn with replacement: the first that is free is drawn from the free."""
        if self._sums is None or not self._sums[-1] > 0:
            return rng.integers(0, self.population, GUESSES).tolist()
        at = rng.random(GUESSES) * self._sums[-1]
        return np.searchsorted(self._sums, at, side="right").tolist()

    def _send(self, client: int) -> None:
        arrives = self.seconds + float(self.seconds_of[client])
        flight = Flight(arrives, self.number, client, self.version, self.seconds)
        heapq.heappush(self.flights, flight)
        self.busy[client] = True
        self.number += 1
