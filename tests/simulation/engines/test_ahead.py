"""Groups trained ahead: which go first, which call takes its workers down, who waits for whom."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typing_extensions import override

from simulation.config.devices import Devices
from simulation.config.experiment import parse
from simulation.engines.ahead import CALLS_EACH, Key, TrainingAhead, Version
from simulation.engines.calls import Call, Poisoned, TrainGroups, TrainGroupsFirst
from simulation.engines.cohort import CohortTraining, clients_of
from simulation.engines.engine import Engine
from simulation.engines.policy import POLICY
from simulation.population.availability import Always
from simulation.population.clock import World
from simulation.population.devices import Work, fleet_of
from simulation.population.flights import FlightPlan, Rules
from simulation.worker.setup import Setup
from strategies import Cohort, catalog

CLIENTS, FLIGHT = 400, 100
EXPERIMENT = parse({"dataset": "fashion-mnist-mini", "clients": CLIENTS, "cohort": FLIGHT})
MODEL = np.zeros(3, np.float32)


@dataclass(eq=False)
class Ticket:
    call: Any
    done: Any
    over: bool = False


class Clockwork(Engine):
    """Workers on a clock of their own: a call takes a hand-over, and its cost.

    Args:
        workers: how many.
        hand_over: seconds of a worker for each call.
        submitting: seconds of the driver for each call.
    """

    def __init__(self, workers: int, hand_over: float = 0.006, submitting: float = 0.003) -> None:
        super().__init__()
        algorithm = catalog.build("fedavg")
        self.setup = Setup(EXPERIMENT, algorithm.client, algorithm.reducer)
        self.partition: Any = SimpleNamespace(train_sizes=np.full(CLIENTS, 30, np.int64))
        self.ledger: Any = SimpleNamespace(state_of=lambda client: None)
        self.pace, self.hand_over, self.submitting = 0.0003, hand_over, submitting
        self.now, self.asked = 0.0, list[Any]()
        self.queue, self.lines = deque[Ticket](), [deque[Ticket]() for _ in range(workers)]
        self.free, self.ends = [0.0] * workers, list[tuple[float, int, int, Ticket]]()
        self.poisoned: set[int] = set()

    start = save = values_of = close = None  # type: ignore[assignment]

    @property
    @override
    def workers(self) -> int:
        return len(self.lines)

    @override
    def share(self, value: Any) -> Any:
        return value

    @override
    def min_cost(self, total: float) -> float:
        return min(POLICY.unit_seconds / self.pace, total / (self.workers * POLICY.units_each))

    @override
    def submit(self, call: Call, done: Any = None, attempts: int | None = None) -> Ticket:
        self.now += self.submitting
        self.asked.append(call)
        ticket = Ticket(call, done)
        (self.queue.appendleft if call.first else self.queue.append)(ticket)
        self._hand_out()
        return ticket

    def _hand_out(self) -> None:
        for depth in range(POLICY.depth):
            for place, line in enumerate(self.lines):
                if self.queue and len(line) == depth:
                    line.append(ticket := self.queue.popleft())
                    spent = self.hand_over + self.pace * ticket.call.cost
                    self.free[place] = max(self.now, self.free[place]) + spent
                    heapq.heappush(self.ends, (self.free[place], len(self.asked), place, ticket))

    def advance(self, until: float) -> None:
        while self.ends and self.ends[0][0] <= until:
            at, _, place, ticket = heapq.heappop(self.ends)
            self.now, ticket.over = max(self.now, at), True
            self.lines[place].remove(ticket)
            if ticket.done is not None:
                ticket.done()
            self._hand_out()
        self.now = max(self.now, until)

    @override
    def result(self, ticket: Ticket, timeout: float | None = None) -> Any:
        self.advance(self.now)
        while not ticket.over:
            self.advance(self.ends[0][0])
        if not isinstance(ticket.call, TrainGroups):
            return None, {"client": np.sort(clients_of(ticket.call.node))}, ()
        ids = [sorted(clients_of(group.node)) for group in ticket.call.groups]
        if self.poisoned & {client for some in ids for client in some}:
            raise Poisoned("its worker died")
        return [(None, {"client": np.asarray(some)}, ()) for some in ids]


def test_what_a_step_needs_goes_first_and_the_rest_as_workers_have_room() -> None:
    engine = Clockwork(2)
    ahead, version = TrainingAhead(engine, FLIGHT), Version(MODEL, {})
    for step in range(1, 41):
        ahead.add(Key(step, 1), [2 * step, 2 * step + 1], version)
    ahead.hand_out(1)
    first, *others = engine.asked
    portion = FLIGHT / (2 * POLICY.units_ahead)
    filled = 2 * int(np.ceil(portion / 2))  # In groups of two, of which the last may not fit.
    assert isinstance(first, TrainGroupsFirst) and first.clients == filled
    assert clients_of(first.groups[0].node) == [2, 3]
    assert [type(call) for call in others] == [TrainGroups] * 2  # Equal parts, in order.
    half = 2 * int(np.ceil((80 - filled) / 4))
    assert [call.clients for call in others] == [half, 80 - filled - half]
    assert sorted(clients_of(others[0].groups[0].node)) == [2 + filled, 3 + filled]
    for step in range(41, 90):
        ahead.add(Key(step, 1), [2 * step, 2 * step + 1], version)
    ahead.hand_out(1)
    assert len(engine.asked) == 1 + 2 + 2
    for step in range(90, 199):
        ahead.add(Key(step, 2), [2 * step, 2 * step + 1], version)
        ahead.hand_out(1)
    assert len(engine.asked) == CALLS_EACH * 2  # What is left waits for room ...
    ahead.hand_out(150)
    assert isinstance(engine.asked[-1], TrainGroupsFirst)  # ... or until it is needed.
    found = ahead.result(Key(150, 2))
    assert found.rows["client"].tolist() == [300, 301] and Key(150, 2) not in ahead


def test_half_of_what_waits_comes_after_what_a_step_needs() -> None:
    engine = Clockwork(2)
    ahead, version = TrainingAhead(engine, FLIGHT), Version(MODEL, {})
    for client in range(16):
        ahead.add(Key(1 if client < 2 else client, 1 + client), [client], version)
    ahead.hand_out(1)
    assert [type(call) for call in engine.asked] == [TrainGroupsFirst] * 2 + [TrainGroups]
    found = [[clients_of(one.node)[0] for one in call.groups] for call in engine.asked]
    # Each of two workers has a quarter, of which one client is needed; the others are in line.
    assert found == [[0, 2, 3, 4], [1, 5, 6, 7], [*range(8, 16)]]
    ahead.add(Key(20, 20), [20], version)
    ahead.hand_out(1)
    assert len(engine.asked) == 3  # One client is not worth a call while all are busy.


def test_groups_that_take_their_workers_down_are_trained_by_themselves() -> None:
    engine = Clockwork(2)
    engine.poisoned = {6}
    ahead, version = TrainingAhead(engine, 10), Version(MODEL, {})
    for step, clients in enumerate(([4, 5], [6], [7]), 1):
        ahead.add(Key(step, 1), clients, version)
    ahead.hand_out(3)
    found = [ahead.result(Key(step, 1)).rows["client"].tolist() for step in (1, 2, 3)]
    assert found == [[4, 5], [6], [7]]


def clients_a_second(workers: int, buffer: int | None, trained: int = 1000) -> float:
    """Return how fast a run is; a buffer of None: in cohorts that wait for all."""
    engine, step_seconds = Clockwork(workers), 0.0015
    if buffer is None:
        for round in range(1, trained // FLIGHT + 1):
            cohort = Cohort(FLIGHT, seed=1).sample(round, CLIENTS)
            CohortTraining(engine, round, cohort, MODEL, {}).result()
            engine.advance(engine.now + step_seconds)
        return trained / engine.now
    ones, devices = np.ones(CLIENTS, np.int64), Devices(kind="lognormal", spread=1.2)
    world = World(fleet_of(devices, CLIENTS, 1), Always(), Work(ones, ones), 1, ones, 0, 0)
    plan = FlightPlan(world, Rules(FLIGHT, buffer), Cohort(FLIGHT, seed=1))
    steps = [plan.next_step() for _ in range(trained // buffer)]
    ahead, version = TrainingAhead(engine, FLIGHT), Version(MODEL, {})
    groups: dict[Key, list[int]] = {}
    for number, step in enumerate(steps, 1):
        for flight in step.arrived:
            groups.setdefault(Key(number, flight.version + 1), []).append(flight.client)
    for number, step in enumerate(steps, 1):
        for key in [key for key in groups if key.round == number]:
            ahead.add(key, groups[key], version)
        ahead.hand_out(number)
        for found in sorted({flight.version for flight in step.arrived}):
            ahead.result(Key(number, found + 1))
        engine.advance(engine.now + step_seconds)
    return trained / engine.now


@pytest.mark.parametrize("workers", [2, 4])
def test_nothing_waits_for_virtual_time(workers: int) -> None:
    """100 in flight, a step at every 10: at most a tenth less than cohorts of 100."""
    assert clients_a_second(workers, 10) >= 0.9 * clients_a_second(workers, None)
