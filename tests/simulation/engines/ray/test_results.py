"""Results that set out for the driver before it asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest

from simulation.engines.calls import Status
from simulation.engines.policy import POLICY
from simulation.engines.ray import results
from simulation.engines.ray.pool import Pool
from simulation.engines.ray.results import Results
from simulation.engines.ray.slots import PoolRun, Ticket

LARGE = POLICY.driver_bytes // 2
"""Bytes of a value of which two may be on the way."""


class Ref:
    """A reference to a value on another node."""

    def __init__(self, value: str) -> None:
        self.value, self.asked = value, list[Future[str]]()

    def future(self) -> Future[str]:
        self.asked.append(Future())
        return self.asked[-1]


@pytest.fixture
def run() -> PoolRun:
    return PoolRun(())


@pytest.fixture
def made(run: PoolRun, monkeypatch: pytest.MonkeyPatch) -> Iterator[Results]:
    """Results on a cluster of several nodes."""
    monkeypatch.setattr(
        results, "ray", SimpleNamespace(get=lambda ref, **_: f"{ref.value} fetched")
    )
    pool = SimpleNamespace(cluster=SimpleNamespace(grows=True))
    return cast(Any, Results(cast(Pool, pool), run, lambda ticket, seconds: None))


def done(run: PoolRun, value: str) -> Ticket:
    """A call that has returned a value."""
    refs = (Ref("status"), Ref(value), Ref("states"))
    return Ticket(run, refs=refs, status=Status(0.0, 1.0))


def asked(ticket: Ticket) -> list[Future[str]]:
    """How often its value was asked for."""
    assert ticket.refs is not None
    return ticket.refs[1].asked  # type: ignore[no-any-return]


def test_so_many_set_out_as_there_is_room_for(made: Results, run: PoolRun) -> None:
    a, b, c = (done(run, name) for name in "abc")
    made.expect([a, b, c], LARGE)
    assert [len(asked(t)) for t in (a, b, c)] == [1, 1, 0]
    asked(a)[0].set_result("a came")
    made.set_out(c)
    assert not asked(c)
    assert made.fetch(a, 1) == "a came"
    assert len(asked(c)) == 1
    asked(b)[0].set_result("b came")
    asked(c)[0].set_result("c came")
    assert [made.fetch(b, 1), made.fetch(c, 1)] == ["b came", "c came"]
    assert len(run.fetches) == 3 and run.way > 0


def test_who_is_not_expected_is_fetched_when_asked_for(made: Results, run: PoolRun) -> None:
    a, b = done(run, "a"), done(run, "b")
    made.expect([a], LARGE)
    made.set_out(b)
    assert not asked(b) and made.fetch(b, 1) == "b fetched"
    assert made.fetch(a, 2) == "states fetched"  # What is told of states is small.
    made.expect([b], POLICY.piece_bytes)
    assert not asked(b)  # Small values have come with the answers.


def test_a_call_that_was_done_again_comes_from_its_new_place(made: Results, run: PoolRun) -> None:
    call = Ticket(run)
    made.expect([call], LARGE)
    made.set_out(call)
    assert not made._coming
    call.status = Status(0.0, 1.0)
    call.refs = (Ref("status"), Ref("a"), Ref("states"))
    made.set_out(call)
    asked(call)[0].set_exception(KeyError("lost"))
    with pytest.raises(KeyError):
        made.fetch(call, 1)
    call.refs = (Ref("status"), Ref("again"), Ref("states"))
    assert made.fetch(call, 1) == "again fetched"


def test_units_are_as_long_as_the_way_of_their_results_asks_for(run: PoolRun) -> None:
    assert run.way == 0
    run.fetches.extend([0.1, 5.0, 0.3])
    assert run.way == pytest.approx(POLICY.far_after * 0.3)
