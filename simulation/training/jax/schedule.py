"""Who trains when: clients dealt to lanes, and the lanes narrowed as they run dry.

A lane trains its clients one after the other, and all lanes step together. Everything here depends
on the clients' numbers of steps alone, so that it is the same wherever it is computed.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulation.training.plan import Job

NARROWER = 4
"""A program of fewer lanes has this part of them."""

MOST_WIDTHS = 3
"""Widths that are compiled, at most."""

SMALLER_BATCH = 4
"""Batches of clients with few examples are padded to this part of a batch."""

NOBODY = -1


def widths_of(lanes: int) -> tuple[int, ...]:
    """Return the numbers of lanes that programs are compiled for, falling from ``lanes``."""
    found = [lanes]
    while found[-1] > 1 and len(found) < MOST_WIDTHS:
        found.append(-(-found[-1] // NARROWER))
    return tuple(found)


def padded_batch(batch: int, largest: int) -> int:
    """Return how many examples a step has room for.

    Args:
        batch: examples of a full step.
        largest: examples of the largest step there is.
    """
    small = -(-batch // SMALLER_BATCH)
    return small if largest <= small else batch


def power_of(base: int, least: int) -> int:
    """Return the smallest power of ``base`` that is at least ``least``."""
    found = 1
    while found < least:
        found *= base
    return found


@dataclass(frozen=True)
class Phase:
    """Steps that are taken in one width.

    Args:
        width: how many lanes step.
        first: the first step.
        last: the step after the last one.
    """

    width: int
    first: int
    last: int


@dataclass(frozen=True)
class Deal:
    """Clients dealt to lanes.

    Args:
        who: place of the client that a lane trains at a step [T, K]; ``NOBODY`` in a dry lane.
        step: which of its steps it is [T, K].
        phases: in which width the steps are taken.
    """

    who: NDArray[np.int32]
    step: NDArray[np.int32]
    phases: tuple[Phase, ...]

    @property
    def filled(self) -> float:
        """The part of the steps of all lanes in which somebody trains."""
        room = sum(p.width * (p.last - p.first) for p in self.phases)
        return float((self.who != NOBODY).sum() / room) if room else 1.0


def deal(steps: Sequence[int] | NDArray[np.int32], widths: Sequence[int]) -> Deal:
    """Deal clients to lanes: the longest first, each to the lane that is free first.

    Args:
        steps: of each client [C]; who has none is in no lane.
        widths: numbers of lanes that there are programs for, falling.
    """
    counts = np.asarray(steps, np.int64)
    clients = [int(c) for c in np.argsort(-counts, kind="stable") if counts[c] > 0]
    fitting = [w for w in widths if w >= len(clients)]
    lanes = min(fitting) if fitting else widths[0]
    free = [(0, lane) for lane in range(lanes)]
    begins = []
    for client in clients:
        load, lane = heapq.heappop(free)
        begins.append((client, lane, load))
        heapq.heappush(free, (load + int(counts[client]), lane))
    loads = np.zeros(lanes, np.int64)
    for load, lane in free:
        loads[lane] = load
    longest_first = np.argsort(-loads, kind="stable")
    column = np.empty(lanes, np.int64)
    column[longest_first] = np.arange(lanes)
    loads = loads[longest_first]
    who = np.full((int(loads[0]), lanes), NOBODY, np.int32)
    step = np.zeros_like(who)
    for client, lane, start in begins:
        stop = start + int(counts[client])
        who[start:stop, column[lane]] = client
        step[start:stop, column[lane]] = np.arange(stop - start)
    return Deal(who, step, _phases(loads, [w for w in widths if w <= lanes]))


def _phases(loads: NDArray[np.int64], widths: Sequence[int]) -> tuple[Phase, ...]:
    """Return the phases of lanes of falling loads: narrower as soon as so few are left."""
    phases, first = [], 0
    for place, width in enumerate(widths):
        narrower = widths[place + 1] if place + 1 < len(widths) else None
        last = int(loads[0] if narrower is None else loads[narrower])
        if last > first:
            phases.append(Phase(width, first, last))
            first = last
    return tuple(phases)


@dataclass(frozen=True)
class Table:
    """What the lanes do in some steps.

    Args:
        rows: of the job's examples [T, K, B]; padding repeats a row.
        count: how many of them count [T, K].
        begin: whether a client begins [T, K].
        end: the place of the client that ends [T, K]; ``NOBODY`` for none.
        who: the place of the client that trains [T, K].
    """

    rows: NDArray[np.int32]
    count: NDArray[np.int32]
    begin: NDArray[np.bool_]
    end: NDArray[np.int32]
    who: NDArray[np.int32]


def table(job: Job, deal: Deal, phase: Phase, first: int, last: int, batch: int) -> Table:
    """Return what the lanes of a phase do from step ``first`` to before ``last``.

    Args:
        job: the clients.
        deal: of them, and of those whose place is only held (see :class:`~..plan.Beside`).
        phase: gives the width.
        first: a step.
        last: the step after the last one.
        batch: room for examples of a step.
    """
    who = deal.who[first:last, : phase.width]
    step = deal.step[first:last, : phase.width].astype(np.int64)
    places = np.arange(len(job.clients))
    if job.beside is not None:
        places = np.full(len(job.beside.steps), NOBODY)
        places[job.beside.places] = np.arange(len(job.clients))
    own = np.where(who == NOBODY, NOBODY, places[who])
    there = own != NOBODY
    at = np.where(there, own, 0)
    size, full = np.asarray(job.sizes, np.int64)[at], job.batches.astype(np.int64)[at]
    per_epoch = -(-size // full)
    within = (step % per_epoch) * full
    count = np.where(there, np.minimum(full, size - within), 0)
    column = np.minimum(np.arange(batch), np.maximum(count, 1)[..., None] - 1)
    epoch = np.where(there, step // per_epoch, 0)
    rows = job.order[
        epoch[..., None], (job.starts[at] + np.where(there, within, 0))[..., None] + column
    ]
    ends = there & (step == job.steps[at] - 1)
    return Table(
        rows=rows.astype(np.int32),
        count=count.astype(np.int32),
        begin=there & (step == 0),
        end=np.where(ends, own, NOBODY).astype(np.int32),
        who=at.astype(np.int32),
    )
