"""Which of the calls that wait a worker gets next: those of its own host first.

Calls of one host are neighbours in the merge tree: what the host does of them is merged there, and
one sum travels. Who takes another host's call saves time and costs a sum more.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

from simulation.engines.ray.slots import Ticket, WorkerSlot


def next_for(slot: WorkerSlot, waiting: deque[Ticket], slots: Sequence[WorkerSlot]) -> int | None:
    """Return the place of the call that a worker gets; None where none is for it.

    Args:
        slot: the worker's place.
        waiting: calls that wait, the next one first; those that are over are dropped at its front.
        slots: all places.
    """
    while waiting and waiting[0].over:  # Somebody who was late has answered after all.
        waiting.popleft()
    elsewhere: list[int] = []
    for place, ticket in enumerate(waiting):
        if ticket.over or not ticket.runs <= slot.opened:
            continue
        if ticket.home is None or ticket.home.node == slot.node:
            return place
        elsewhere.append(place)
    if not elsewhere:
        return None
    there = _workers(slots)
    for place in elsewhere:
        home = waiting[place].home
        if home is not None and not there[home.node]:
            return place
    return None if slot.calls else _to_help(waiting, elsewhere)


def _workers(slots: Sequence[WorkerSlot]) -> defaultdict[str, int]:
    """Return how many workers of use each node has."""
    found: defaultdict[str, int] = defaultdict(int)
    for slot in slots:
        found[slot.node] += bool(slot.opened and not slot.late)
    return found


def _to_help(waiting: deque[Ticket], places: Sequence[int]) -> int | None:
    """Return the largest call that is at most half of what a host has waiting beyond its spare.

    Of equal ones it is the last: the host itself takes the first, and merges what it has done of
    the first children of a node.
    """
    costs: defaultdict[str, float] = defaultdict(float)
    for place in places:
        costs[_node(waiting[place])] += waiting[place].cost
    best: int | None = None
    for place in places:
        ticket = waiting[place]
        left = costs[_node(ticket)]
        if ticket.home is None or left <= ticket.home.spare or ticket.cost > left / 2:
            continue
        if best is None or ticket.cost >= waiting[best].cost:
            best = place
    return best


def _node(ticket: Ticket) -> str:
    return "" if ticket.home is None else ticket.home.node
