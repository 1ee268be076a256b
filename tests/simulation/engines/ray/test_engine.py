"""The pool of Ray actors when things go wrong."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import ray

from simulation.config.experiment import Experiment
from simulation.engines.cohort import train_cohort
from simulation.engines.engine import Engine
from simulation.engines.inline import InlineEngine
from simulation.engines.policy import POLICY
from simulation.engines.ray.engine import RayEngine
from simulation.engines.ray.pool import Pool
from simulation.population.deal import prepare
from simulation.rounds.folding import FoldingDriver
from simulation.runs.machinery import clocked_driver
from simulation.worker.faults import WorkerError
from simulation.worker.setup import Setup
from strategies import Cohort, Federated, WeightedMean, catalog
from tests.simulation.tools import training


@pytest.fixture
def engine(small: Experiment, pool: Pool) -> Iterator[RayEngine]:
    """A run of its own on the pool."""
    made = RayEngine(small.resources, pool=pool)
    made.start(Setup(small, reducer=WeightedMean()), *prepare(small))
    yield made
    made.close()


def processes(engine: RayEngine) -> list[int]:
    """Process ids of the workers."""
    return [ray.get(slot.actor.where.remote())[1] for slot in engine.pool.slots]


def test_a_killed_worker_is_replaced_and_its_clients_train_again(engine: RayEngine) -> None:
    model = engine.info().initial
    everyone = range(12)
    total, rows, *_ = train_cohort(engine, 1, everyone, model, {})
    victims = processes(engine)
    done = []

    def kill(kind: str, clients: int, examples: int) -> None:
        if not done:
            done.append(clients)
            os.kill(victims[0], signal.SIGKILL)

    engine.progress = kill
    again, rows_again, *_ = train_cohort(engine, 1, everyone, model, {})
    assert done
    np.testing.assert_array_equal(again.delta, total.delta)
    assert rows_again["client"].tolist() == rows["client"].tolist() == list(everyone)
    assert processes(engine) != victims


def test_an_exception_in_a_worker_names_itself(engine: RayEngine) -> None:
    with pytest.raises(WorkerError, match="IndexError: client must be between 0 and 11, got 99"):
        engine.do(training([99], engine.info().initial))


def test_a_reply_that_does_not_come_in_time(engine: RayEngine) -> None:
    model = engine.info().initial
    ticket = engine.submit(training(range(12), model))
    with pytest.raises(TimeoutError):
        engine.result(ticket, timeout=0.0)
    assert engine.result(ticket)[1]["client"].size == 12


def test_portions_are_worth_a_hand_over(engine: RayEngine) -> None:
    total = 2000.0
    assert engine.min_cost(total) == 0.0  # nothing is known of the pace
    slots = engine.pool.slots
    model = engine.info().initial
    first = train_cohort(engine, 1, range(12), model, {}).total
    for pace in (100.0, 1e9):  # cost a second
        engine._pool_run.worked = {slot: (2.0, 2.0 * pace) for slot in slots}
        least = min(POLICY.unit_seconds * pace, total / (len(slots) * POLICY.units_each))
        assert engine.min_cost(total) == pytest.approx(least)
        assert engine.seconds(total) == pytest.approx(total / (2 * pace))
        again = train_cohort(engine, 1, range(12), model, {}).total
        np.testing.assert_array_equal(first.delta, again.delta)
    # One driver hands out to all: a hundred workers get larger portions.
    engine.pool.slots = slots * 50
    engine._pool_run.worked = {slot: (2.0, 2.0) for slot in slots}
    assert POLICY.driver_seconds * 100 > POLICY.unit_seconds
    assert engine.min_cost(1e6) == pytest.approx(POLICY.driver_seconds * 100)
    engine.pool.slots = slots
    # Results that are long on the way are worth longer units, of which there are fewer.
    engine._pool_run.worked = {slot: (2.0, 200.0) for slot in slots}
    engine._pool_run.fetches.append(3.0)
    assert engine.min_cost(1e6) == pytest.approx(100 * POLICY.far_after * 3.0)
    assert engine.min_cost(100.0) == pytest.approx(100.0 / (len(slots) * POLICY.units_far))
    assert engine.far
    again = train_cohort(engine, 1, range(12), model, {}).total
    np.testing.assert_array_equal(first.delta, again.delta)


def test_values_that_come_ahead_are_those_that_are_fetched(
    engine: RayEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = engine.info().initial
    calls = [training([client], model) for client in range(6)]
    expected = [engine.do(call) for call in calls]
    monkeypatch.setattr(engine.pool.cluster, "grows", True)
    monkeypatch.setattr(engine.pool, "_overdue", None)
    # Every other one is compressed for its way.
    tickets = [
        engine.submit(replace(call, zipped=place % 2 == 1)) for place, call in enumerate(calls)
    ]
    engine.expect(tickets, POLICY.driver_bytes // 3)
    found = [engine.result(ticket) for ticket in tickets]
    assert 0 < len(engine._pool_run.fetches) <= len(calls)
    for (total, rows, _), (other, others, _) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(total.delta, other.delta)
        assert rows["train_loss"].tolist() == others["train_loss"].tolist()


SCHEDULES: list[dict[str, Any]] = [
    {"kind": "buffered", "buffer": 2},
    {"kind": "asynchronous"},
    {"kind": "semi-synchronous", "interval": 3.0},
    {"kind": "hierarchical", "edges": 2, "cloud": "median"},
]
AS_BUFFERED = ("asynchronous", "semi-synchronous")
"""Schedules whose clients go by themselves, as with a buffer."""
PLANS = [
    pytest.param(p, marks=pytest.mark.soak if p["kind"] in AS_BUFFERED else (), id=p["kind"])
    for p in SCHEDULES
]


@pytest.mark.parametrize("plan", PLANS)
def test_schedules_have_the_bits_of_one_process(
    plan: dict[str, Any], small: Experiment, pool: Pool
) -> None:
    """Several workers, and an end in the middle, from where other engines go on."""
    devices = {"kind": "lognormal", "spread": 1.2}
    experiment = small.replace(cohort=5, rounds=14, devices=devices, schedule=plan)
    algorithm = catalog.build("fedavg")
    setup, given = Setup(experiment, algorithm.client, algorithm.reducer), prepare(experiment)

    def driver(engine: Engine) -> FoldingDriver:
        engine.start(setup, *given)
        strategy = Federated(algorithm, Cohort(5), evaluate=None, spec=engine.info().spec)
        kind = clocked_driver(experiment)
        return kind(strategy, engine, engine.info().spec, experiment)

    alone = driver(InlineEngine())
    model, expected = alone.engine.info().initial, []
    for number in range(1, 15):
        model = alone.train(number, model).model
        expected.append(model.tobytes())
    model, found, state = alone.engine.info().initial, [], None
    for numbers in (range(1, 6), range(6, 15)):
        pooled = driver(RayEngine(small.resources, pool=pool))
        if state is not None:
            pooled.state = state
        for number in numbers:
            model = pooled.train(number, model).model
            found.append(model.tobytes())
        state = pooled.state
        pooled.engine.close()
    assert found == expected
