"""Workers take their own host's calls first, and others' where much of them waits."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest

from simulation.engines.calls import Call, EvaluateTest, Home, Merge
from simulation.engines.ray.homes import next_for
from simulation.engines.ray.pool import Pool
from simulation.engines.ray.slots import PoolRun, Ticket, WorkerSlot
from tests.simulation.engines.ray.test_slots import TRAIN

RUN = PoolRun(())


def worker(node: str, late: bool = False) -> WorkerSlot:
    return WorkerSlot(object(), opened={RUN}, node=node, late=late)


def calls(*homes: str, cost: float = 1.0, spare: float = 2.0) -> deque[Ticket]:
    given = [Home(name, spare) if name else None for name in homes]
    return deque(Ticket(RUN, replace(TRAIN, cost=cost, home=home)) for home in given)


@pytest.mark.parametrize(
    ("homes", "place"),
    [("ab", 1), ("ba", 0), (["a", "", "b"], 1), ("aab", 2), ("c", 0), ("ac", 1), ("aa", None)],
)
def test_who_gets_what(homes: str, place: int | None) -> None:
    """Its own host's or nobody's; that of a host without workers; else it is not its business."""
    slots = [worker("a"), worker("b")]
    assert next_for(slots[1], calls(*homes), slots) == place


def test_a_host_whose_workers_are_late_is_helped() -> None:
    slots = [worker("a", late=True), worker("b")]
    assert next_for(slots[1], calls("a"), slots) == 0


@pytest.mark.parametrize(("waiting", "place"), [(2, None), (3, 2)])
def test_help_comes_where_more_than_the_spare_waits(waiting: int, place: int | None) -> None:
    slots = [worker("a"), worker("b")]
    assert next_for(slots[1], calls(*"a" * waiting), slots) == place
    slots[1].line.append(Ticket(RUN, TRAIN))  # Who has something to do helps nobody.
    assert next_for(slots[1], calls(*"a" * waiting), slots) is None


def test_a_helper_takes_no_more_than_half() -> None:
    slots = [worker("a"), worker("b")]
    waiting = calls("a", cost=7.0) + calls("a", cost=2.0) + calls("a", cost=3.0)
    assert next_for(slots[1], waiting, slots) == 2


def test_nobody_else_merges_what_a_host_has() -> None:
    slots = [worker("a"), worker("b")]
    merge = Ticket(RUN, Merge(shape=(0, 1), home=Home("a")))
    assert next_for(slots[1], deque([merge] * 5), slots) is None
    assert next_for(slots[0], deque([merge]), slots) == 0


@pytest.mark.parametrize(
    ("call", "each"), [(TRAIN, 1), (EvaluateTest(start=0, stop=9, model=0), 2)]
)
def test_a_second_call_waits_of_training_alone(
    call: Call, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a round ends, training is kept for who is idle first; evaluations go one ahead."""
    pool = object.__new__(Pool)
    pool._overdue, pool.slots = None, [worker("a"), worker("a")]  # type: ignore[assignment]
    pool._queue, pool._later = deque(), deque()
    tickets = [Ticket(RUN, call, most=3) for _ in range(4)]
    (pool._later if call.low_priority else pool._queue).extend(tickets)
    monkeypatch.setattr(Pool, "_sent", staticmethod(lambda slot, ticket: ()))
    monkeypatch.setattr(Pool, "_give", lambda self, slot, ticket, refs: slot.line.append(ticket))
    pool._hand_out()
    assert [len(slot.line) for slot in pool.slots] == [each, each]
