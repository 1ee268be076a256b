"""Clients sent out one by one: the limit that is FedAvg, resumed runs, who arrives when."""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from simulation.config.devices import Devices
from simulation.config.errors import ConfigError
from simulation.config.experiment import parse
from simulation.config.scheduling import Schedule
from simulation.population import flights
from simulation.population.availability import Always, ByTrace
from simulation.population.clock import NobodyThereError, World
from simulation.population.devices import Work, fleet_of
from simulation.population.flights import NEXT, FlightPlan, Rules
from simulation.runs.run import Result, simulate
from strategies import Cohort
from strategies.random_streams import stream
from tests.simulation.rounds.test_clocked import BASE, SLOW
from tests.simulation.same_bits import StopAfter

BUFFERED = {"kind": "buffered", "buffer": 2}
KINDS: list[dict[str, Any]] = [
    BUFFERED,
    {"kind": "asynchronous", "concurrency": 6},
    {"kind": "semi-synchronous", "interval": 8.0},
]


def run(tmp_path: Path, name: str = "run", **changes: Any) -> Result:
    return simulate(parse(BASE).replace(**changes), out=tmp_path / name)


def events(path: Path) -> list[tuple[Any, ...]]:
    table = pq.read_table(path / "events.parquet").to_pydict()
    return list(zip(*table.values(), strict=True))


def test_a_buffer_of_all_at_equal_speed_is_fedavg(tmp_path: Path) -> None:
    even = {"partition": {"kind": "iid", "validation": 0.0}, "devices": "equal"}
    plain = run(tmp_path, "plain", **even)
    plan = {"kind": "buffered", "buffer": 6}
    buffered = run(tmp_path, "buffered", schedule=plan, **even)
    assert buffered.weights.tobytes() == plain.weights.tobytes()
    assert events(buffered.path) == events(plain.path)


@pytest.mark.parametrize("plan", KINDS, ids=lambda plan: plan["kind"])
def test_a_resumed_run_equals_one_that_went_through(plan: dict[str, Any], tmp_path: Path) -> None:
    wanted = parse(BASE).replace(devices=SLOW, schedule=plan, rounds=8)
    whole = simulate(wanted, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        simulate(wanted, out=tmp_path / "half", listener=StopAfter(4))
    resumed = simulate(wanted, out=tmp_path / "half", resume=True)
    assert resumed.weights.tobytes() == whole.weights.tobytes()
    assert events(resumed.path) == events(whole.path)
    assert max(row["staleness_max"] for row in whole.rounds[1:]) > 0


def test_the_plan_is_that_of_a_plain_event_simulation() -> None:
    """Written anew: a list of (arrival, number), the earliest first."""
    clients, places, buffer, seed = 30, 7, 3, 5
    fleet = fleet_of(Devices(kind="lognormal"), clients, seed)
    ones = np.ones(clients, np.int64)
    world = World(fleet, Always(), Work(ones, ones), 1, ones, 0, 0)
    plan = FlightPlan(world, Rules(places, buffer), Cohort(seed=seed))
    ours = [
        [(f.arrives, f.client, step.after.version - 1 - f.version) for f in step.arrived]
        for step in (plan.next_step() for _ in range(200))
    ]
    queue: list[tuple[float, int, int, int]] = []
    now, version, number, kept = 0.0, 0, 0, []
    theirs: list[list[tuple[float, int, int]]] = []
    for client in Cohort(places, seed=seed).sample(1, clients):
        heapq.heappush(queue, (now + fleet.step_seconds[client], number, client, version))
        number += 1
    while len(theirs) < 200:
        now, _, client, of = heapq.heappop(queue)
        kept.append((now, client, version - of))
        if len(kept) == buffer:
            theirs.append(kept)
            version, kept = version + 1, []
        away = {one[2] for one in queue} | {one[1] for one in kept}
        draws = stream(seed, NEXT, number).integers(0, clients, 64).tolist()
        client = next(one for one in draws if one not in away)
        heapq.heappush(queue, (now + fleet.step_seconds[client], number, client, version))
        number += 1
    assert ours == theirs


@pytest.mark.parametrize("places", [3, 199])
def test_who_is_sent_out_by_size(places: int) -> None:
    """Few are at work: draws in proportion to size. Nearly all are: of those left, likewise."""
    sizes = np.r_[np.full(100, 1), np.full(100, 9)].astype(np.int64)
    fleet, ones = fleet_of(Devices(), 200, 1), np.ones(200, np.int64)
    world = World(fleet, Always(), Work(ones, ones), 1, sizes, 0, 0)
    plan = FlightPlan(world, Rules(places, 1), Cohort(seed=4, sampling="by-size"))
    steps = [plan.next_step() for _ in range(3000)]
    large = np.mean([sizes[step.arrived[0].client] == 9 for step in steps])
    assert large == pytest.approx(0.9 if places == 3 else 0.5, abs=0.02)


def test_intervals_without_arrivals_are_no_steps_and_cost_nothing() -> None:
    """The first client comes after a second: with intervals of a nanosecond, a billion are over."""
    fleet = fleet_of(Devices(kind="lognormal", step_seconds=1e3), 8, 1)
    ones = np.ones(8, np.int64)
    world = World(fleet, Always(), Work(ones, ones), 1, ones, 0, 0)
    for interval in (1e-9, 250.0, 1e5):
        plan = FlightPlan(world, Rules(4, None, interval), Cohort(seed=1))
        steps, before = [plan.next_step() for _ in range(50)], 0.0
        for step in steps:
            now = step.after.seconds
            assert now == step.after.ticks * interval
            # It is the first end of an interval at which somebody is there.
            assert step.arrived and now - interval < step.arrived[0].arrives <= now
            assert before < min(flight.arrives for flight in step.arrived)
            before = now


BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"schedule": {"kind": "buffered", "buffer": 7}},
        "schedule.buffer must be at most the concurrency (6), got 7",
    ),
    (
        {"cohort": None, "schedule": {"kind": "buffered", "concurrency": 13}},
        "schedule.concurrency must be at most clients (12), got 13",
    ),
    (
        {"schedule": {"kind": "buffered", "concurrency": 5}},
        "cohort must be left out, or as many as schedule.concurrency (5), which says how many "
        "clients are at work, got 6",
    ),
    (
        {"schedule": {"kind": "asynchronous", "buffer": 2}},
        "schedule.buffer must be left out for the schedule 'asynchronous', got 2",
    ),
    (
        {"schedule": {"kind": "buffered", "mixing": 0.5}},
        "schedule.mixing must be left out for the schedule 'buffered', got 0.5",
    ),
    (
        {"schedule": {"kind": "buffered", "staleness": "hinge", "exponent": 0.6}},
        "schedule.exponent must be left out unless schedule.staleness is 'polynomial', got 0.6",
    ),
    (
        {"schedule": {"kind": "buffered", "hinge_from": 2.0}},
        "schedule.hinge_from must be left out unless schedule.staleness is 'hinge', got 2.0",
    ),
    (
        {"schedule": "semi-synchronous"},
        "schedule.interval must be given for the schedule 'semi-synchronous', got none",
    ),
    (
        {"schedule": {"max_staleness": 3}},
        "schedule.max_staleness must be left out for the schedule 'synchronous', got 3",
    ),
    (
        {"schedule": "buffered", "realism": {"dropout": 0.1}},
        "realism must be left out with the schedule 'buffered': devices say who is slow or away, "
        "got one",
    ),
    (
        {"schedule": "buffered", "attack": "ipm"},
        "attack.kind must be another with the schedule 'buffered', which has no rounds whose "
        "honest updates attackers could agree on, got 'ipm'",
    ),
    (
        {"schedule": "buffered", "sampling": "poisson"},
        "sampling must be 'uniform' or 'by-size' with the schedule 'buffered', which has no "
        "cohorts, got 'poisson'",
    ),
]


@pytest.mark.parametrize(("changes", "line"), BAD, ids=lambda value: str(value)[:50])
def test_bad_schedules_are_one_line(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(BASE | {"devices": "equal"} | changes)
    assert str(caught.value) == line


UNFIT = {
    "SCAFFOLD": "clients keep something from round to round, which would go by another model",
    "FedExP": "the server rule goes by how far clients moved, which must start from one model",
    "Median": "the reducer compares updates with each other, which must start from one model",
}


@pytest.mark.parametrize("strategy", UNFIT)
def test_strategies_that_make_no_sense_with_stale_models_are_refused(
    strategy: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, devices="equal", schedule=BUFFERED, strategy=strategy.lower())
    assert str(caught.value) == (
        "strategy must be another with the schedule 'buffered', as "
        f"{UNFIT[strategy]}, got {strategy!r}"
    )
    assert not (tmp_path / "run").exists()


def test_weights_that_compare_clients_are_refused_where_a_step_takes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, devices="equal", schedule="asynchronous", strategy="feddisco")
    assert str(caught.value) == (
        "strategy must be another with the schedule 'asynchronous', as it weighs clients against "
        "each other, of whom each step takes one, got 'FedDisco'"
    )


def test_clients_that_keep_what_they_have_not_sent_are_refused(tmp_path: Path) -> None:
    sparse = {"kind": "top-k", "error_feedback": True}
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, devices="equal", schedule=BUFFERED, compression=sparse)
    assert str(caught.value) == (
        "compression.error_feedback must be false with the schedule 'buffered', whose clients "
        "keep nothing between their updates, got true"
    )


@pytest.mark.parametrize(
    ("said", "weights"),
    [
        ({"staleness": "constant"}, [1.0, 1.0, 1.0, 1.0]),
        ({}, [1.0, 2**-0.5, 3**-0.5, 4**-0.5]),
        ({"exponent": 1.0}, [1.0, 1 / 2, 1 / 3, 1 / 4]),
        (
            {"staleness": "hinge", "hinge_from": 1.0, "hinge_slope": 2.0},
            [1.0, 1.0, 1 / 3, 1 / 5],
        ),
    ],
)
def test_laws_of_staleness(said: dict[str, Any], weights: list[float]) -> None:
    plan = Schedule(kind="buffered", **said)
    assert [plan.weight(staleness) for staleness in range(4)] == weights


def test_a_buffer_that_nobody_can_fill_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of six clients are ever there: a step of three would be waited for without end."""
    monkeypatch.setattr(flights, "MOST_CHANGES", 50)
    ones = np.ones(6, np.int64)
    there = ByTrace(np.array([0, 1]), np.array([0.0, 3.0]), np.array([50.0, 60.0]), 6)
    fleet = fleet_of(Devices(kind="lognormal"), 6, 1)
    world = World(fleet, there, Work(ones, ones), 1, ones, 0, 0)
    with pytest.raises(NobodyThereError) as caught:
        FlightPlan(world, Rules(4, 3), Cohort(seed=1)).next_step()
    assert str(caught.value) == (
        "schedule.buffer must be at most the clients that are ever there, got 3"
    )
