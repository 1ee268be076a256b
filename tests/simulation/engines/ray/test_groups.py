"""Calls of several runs that travel as one: each gives, or fails of, what it does alone."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
from ray.exceptions import ObjectLostError

from simulation.config.experiment import parse
from simulation.engines.calls import ClusterLost, Poisoned, Status
from simulation.engines.cohort import CohortResult, train_cohort
from simulation.engines.policy import POLICY
from simulation.engines.ray.engine import RayEngine
from simulation.engines.ray.pool import Pool, Stopped
from simulation.engines.ray.slots import PoolRun, Ticket, WorkerSlot
from simulation.engines.ray.together import JointCalls
from simulation.population.deal import prepare
from simulation.worker.faults import ClientError, WorkerError
from simulation.worker.meeting import Meeting, Member
from simulation.worker.setup import Setup
from strategies import WeightedMean
from tests.simulation.conftest import SMALL
from tests.simulation.tools import training

ROUNDS = 2
EVERYBODY = range(12)
SKIP = {"faults.on_client_error": "skip", "faults.attempts": 1}
PATIENCE = 200.0
SMALL_IS_ALL = replace(POLICY, piece_bytes=10**9)
"""Any model travels with its call, and values of several runs come as one."""


@pytest.fixture
def sent(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of how many runs each call was that was sent to a worker; 0: of one that is alone."""
    found: list[int] = []
    plain = pool._sent

    def counted(slot: WorkerSlot, ticket: Ticket) -> Any:
        if ticket.name in ("train", "joint"):
            found.append(len(ticket.parts))
        return plain(slot, ticket)

    monkeypatch.setattr(pool, "_sent", counted)
    return found


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of how many runs each value was that came as one."""
    found: list[int] = []
    plain = JointCalls._unpack

    def counted(ticket: Ticket) -> None:
        found.append(len(ticket.parts))
        plain(ticket)

    monkeypatch.setattr(JointCalls, "_unpack", staticmethod(counted))
    return found


def engine_of(pool: Pool, seed: int, member: Member | None, **changes: Any) -> RayEngine:
    more = {"resources.engine": "ray", "resources.workers": 2, "seed": seed, **changes}
    made = parse(SMALL).replace(**more)
    engine = RayEngine(made.resources, pool=pool, member=member)
    engine.start(Setup(made, reducer=WeightedMean()), *prepare(made))
    return engine


def rounds(engine: RayEngine, count: int = ROUNDS) -> list[CohortResult]:
    model = engine.info().initial
    return [train_cohort(engine, number, EVERYBODY, model, {}) for number in range(1, count + 1)]


def together(pool: Pool, runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what each run of a group gives, or what it fails of."""
    meeting, found = Meeting(runs, JointCalls(pool).carry_out), dict[str, Any]()

    def one(seed: int, name: str) -> None:
        try:
            engine = engine_of(pool, seed, Member(meeting, name), **runs[name])
            try:
                found[name] = rounds(engine)
            finally:
                engine.close()
        except Exception as error:
            found[name] = error
        finally:
            meeting.leave(name)

    threads = [threading.Thread(target=one, args=pair, daemon=True) for pair in enumerate(runs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert found.keys() == runs.keys(), "nobody waits for ever"
    return found


def same(some: list[CohortResult], others: list[CohortResult]) -> bool:
    return all(
        (one.total.delta == other.total.delta).all()
        and all((one.rows[name] == other.rows[name]).all() for name in other.rows)
        for one, other in zip(some, others, strict=True)
    )


def alone(pool: Pool, seed: int, **changes: Any) -> list[CohortResult]:
    engine = engine_of(pool, seed, None, **changes)
    found = rounds(engine)
    engine.close()
    return found


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "apart"])
def test_one_call_for_all_and_each_gives_what_it_gives_alone(
    pool: Pool, sent: list[int], unpacked: list[int], packed: bool
) -> None:
    with pytest.MonkeyPatch.context() as patched:  # One chunk each, as on JAX.
        if packed:
            patched.setattr("simulation.engines.ray.engine.POLICY", SMALL_IS_ALL)
        patched.setattr("simulation.engines.schedule.least", lambda lanes: len(EVERYBODY))
        found = together(pool, {"first": {}, "raises": {"name": "raise:3"}, "third": {}})
        assert sent == [3, 2]
        assert unpacked == ([3, 2] if packed else [])
        assert isinstance(found["raises"], ClientError)
        assert "client 3: KeyError" in str(found["raises"])
        assert same(found["first"], alone(pool, 0))
        assert same(found["third"], alone(pool, 2))
    assert not same(found["first"], found["third"])


def test_values_that_are_lost_on_the_way_are_made_again_one_by_one(
    pool: Pool, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, lost = ray.get, list[Any]()

    def get(ref: Any, **options: Any) -> Any:
        if not lost:
            lost.append(ref)
            raise ObjectLostError(ref.hex(), None, "")
        return plain(ref, **options)

    monkeypatch.setattr("simulation.engines.schedule.least", lambda lanes: len(EVERYBODY))
    monkeypatch.setattr("simulation.engines.ray.engine.POLICY", SMALL_IS_ALL)
    with monkeypatch.context() as patched:
        patched.setattr("simulation.engines.ray.together.ray", SimpleNamespace(get=get))
        found = together(pool, {"first": {}, "second": {}})
    assert lost
    assert sent == [2, 0, 0, 2]
    assert same(found["first"], alone(pool, 0))
    assert same(found["second"], alone(pool, 1))


class Refusing:
    """A pool in which no joint call ends well, and every other one does."""

    def __init__(self, error: BaseException | None) -> None:
        self.error, self.submitted = error, list[Ticket]()

    def submit(self, ticket: Ticket, first: bool = False) -> None:
        self.submitted.append(ticket)

    def wait(self, ticket: Ticket, timeout: float | None = None) -> None:
        assert ticket.parts
        if self.error is not None:
            raise self.error
        ticket.failure = Poisoned("its worker died (2 times)")
        ticket.parts[0].status = Status(0.0, 1.0)


def tickets() -> dict[str, Ticket]:
    return {name: Ticket(PoolRun(()), training([number], None)) for number, name in enumerate("ab")}


@pytest.mark.parametrize("error", [None, WorkerError("joint: no such actor")], ids=repr)
def test_calls_that_cannot_go_together_go_one_by_one(error: Exception | None) -> None:
    pool, asked = Refusing(error), tickets()
    joint = JointCalls(pool)  # type: ignore[arg-type]
    assert joint.carry_out(asked) == {"a": None, "b": None}
    together, *apart = pool.submitted
    assert together.parts == (asked["a"], asked["b"])
    assert together.cost == sum(one.cost for one in asked.values())
    assert together.runs == {one.owner for one in asked.values()}
    # What came before the worker was gone is not done again.
    assert apart == [one for one in asked.values() if not one.over]


@pytest.mark.parametrize("error", [ClusterLost("the head is away"), Stopped()], ids=repr)
def test_what_ends_all_runs_is_not_tried_one_by_one(error: BaseException) -> None:
    pool = Refusing(error)
    with pytest.raises(type(error)):
        JointCalls(pool).carry_out(tickets())  # type: ignore[arg-type]
    assert len(pool.submitted) == 1


@pytest.mark.soak
@pytest.mark.parametrize("fault", ["kill", "hang"])
def test_a_client_that_takes_workers_down_is_its_own_runs(
    pool: Pool, sent: list[int], fault: str
) -> None:
    limit = {"faults.chunk_timeout": 2.0} if fault == "hang" else {}
    bad = {"name": f"{fault}:3", **SKIP, **limit}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("simulation.engines.schedule.least", lambda lanes: len(EVERYBODY))
        found = together(pool, {"first": limit, "bad": bad, "third": limit})
        assert sent.count(3) >= 2, "they go together first, and again in the next round"
        assert 0 in sent, "then one by one"
        expected = alone(pool, 1, name="raise:3", **SKIP)
        assert same(found["first"], alone(pool, 0))
        assert same(found["third"], alone(pool, 2))
    assert [[one.client for one in result.lost] for result in found["bad"]] == [[3]] * ROUNDS
    for mine, other in zip(found["bad"], expected, strict=True):
        np.testing.assert_array_equal(mine.total.delta, other.total.delta)
