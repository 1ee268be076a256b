"""A worker's line of calls."""

from dataclasses import replace

import pytest

from simulation.engines.calls import Merge, Train
from simulation.engines.policy import POLICY
from simulation.engines.ray.slots import PoolRun, Ticket, WorkerSlot, has_enough
from tests.simulation.tools import training

TRAIN = training([0], None)


@pytest.mark.parametrize(
    ("call", "attempts", "most", "taken"),
    [(TRAIN, 0, 3, False), (TRAIN, 2, 3, True), (TRAIN, 0, 1, True), (None, 0, 1, False)],
)
def test_no_call_waits_behind_one_that_the_next_death_of_its_worker_would_damn(
    call: Train | None, attempts: int, most: int, taken: bool
) -> None:
    slot = WorkerSlot(None)
    assert not slot.taken
    slot.line.append(Ticket(PoolRun(()), call, most=most, attempts=attempts))
    assert slot.taken is taken


def line(*costs: float) -> WorkerSlot:
    slot = WorkerSlot(None)
    slot.line.extend(Ticket(PoolRun(()), replace(TRAIN, cost=cost)) for cost in costs)
    return slot


def test_a_second_call_waits_for_the_first_idle_worker_as_the_round_ends() -> None:
    slots, call = [line(10.0), line(2.0)], Ticket(PoolRun(()), replace(TRAIN, cost=3.0))
    # 15 are left: 7.5 for each, of which 0.7 are 5.25.
    assert POLICY.line_share == 0.7
    assert has_enough(slots[0], slots, [call], call)
    assert not has_enough(slots[1], slots, [call], call)
    # Much is still to be handed out.
    assert not has_enough(slots[0], slots, [call] * 5, call)
    # Calls of other names are measured otherwise.
    merge = Ticket(PoolRun(()), Merge(shape=0))
    assert has_enough(slots[0], slots, [merge], merge)
    assert not has_enough(slots[0], slots, [merge] * 4, merge)


def test_equal_workers_are_not_unequal_for_what_they_did_last() -> None:
    """A client costs less than is reckoned for it, so small ones seem to be trained faster."""
    slots, run = [line(), line()], PoolRun(())
    for slot in slots:
        run.learn(slot, seconds=9.0, cost=1800.0)
    for _ in range(3):
        run.learn(slots[0], seconds=0.03, cost=6.0 + 16.0)
    assert run.effective_workers(slots) == 2


def test_how_fast_a_worker_is_follows_from_what_it_does_after_its_first_call() -> None:
    """As it compiles in that one, which takes the longer the more others do so."""
    slots, run = [line(), line()], PoolRun(())
    for slot in slots:
        slot.opened.add(run)
    run.learn(slots[0], seconds=9.0, cost=100.0, first=True)
    run.learn(slots[1], seconds=2.0, cost=100.0, first=True)
    assert list(run.speeds(slots).values()) == [1.0, 1.0]
    assert run.effective_workers(slots) == 2 and run.cost_of(11.0) == 200.0
    run.learn(slots[0], seconds=1.0, cost=100.0)
    run.learn(slots[1], seconds=1.1, cost=100.0)
    assert list(run.speeds(slots).values()) == [1.0, 1.0]
    run.learn(slots[1], seconds=9.0, cost=100.0, first=True)  # Of a process in its place.
    assert run.worked[slots[1]] == (1.1, 100.0)
    run.learn(slots[1], seconds=9.0, cost=100.0)
    paces = [100.0, (POLICY.pace_memory + 1) * 100.0 / (POLICY.pace_memory * 1.1 + 9.0)]
    assert list(run.speeds(slots).values()) == pytest.approx(paces)
