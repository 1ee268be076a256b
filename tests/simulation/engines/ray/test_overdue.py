"""Calls that are late go to others too; who is out of reach is passed over."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from simulation.engines.calls import Merge, Status, ValueLost
from simulation.engines.policy import POLICY
from simulation.engines.ray.connections import close_connections
from simulation.engines.ray.limits import Answer
from simulation.engines.ray.overdue import Overdue
from simulation.engines.ray.slots import PoolRun, Ticket, WorkerSlot
from simulation.engines.ray.watch import ANSWERS, SILENT, Watch
from tests.simulation.tools import training

TRAIN = training([0], None)


class Reach:
    """A watch that knows what it is told."""

    def __init__(self) -> None:
        self.silent: dict[str, float] = {}

    def silence(self, node: str) -> float:
        return self.silent.get(node, 0.0)

    def last_silence(self, node: str) -> float:
        return time.monotonic() if node in self.silent else -1e9

    def was_silent(self, node: str, seconds: float) -> bool:
        return node in self.silent

    def name(self, node: str) -> str:
        return node


def call(run: PoolRun, cost: float = 1.0, **given: Any) -> Ticket:
    return Ticket(run, replace(TRAIN, cost=cost), title="round 2: train", **given)


def slot_of(node: str, *tickets: Ticket, since: float = 0.0) -> WorkerSlot:
    """A worker that has done calls before, and began its line so many seconds ago."""
    slot = WorkerSlot(SimpleNamespace(), node=node, since=time.monotonic() - since)
    for ticket in tickets:
        slot.line.append(ticket)
        slot.opened.add(ticket.owner)
        slot.done.add((ticket.owner, ticket.name))
    return slot


@pytest.fixture
def reach() -> Reach:
    return Reach()


@pytest.fixture
def waiting() -> deque[Ticket]:
    return deque()


@pytest.fixture
def overdue(reach: Reach, waiting: deque[Ticket]) -> Overdue:
    return Overdue(reach, waiting, lambda *_: None, lambda gpus: None)  # type: ignore[arg-type]


def said(run: PoolRun, caplog: pytest.LogCaptureFixture) -> list[str]:
    run.deliver()
    return [record.getMessage() for record in caplog.records]


def test_a_late_call_and_what_waits_behind_it_go_to_others(
    overdue: Overdue, waiting: deque[Ticket], caplog: pytest.LogCaptureFixture
) -> None:
    run = PoolRun(())
    run.took["train"] = deque([(3.0, 1.0), (2.0, 1.0)])
    first, second = call(run), call(run)
    slow, quick = slot_of("a", first, second, since=6.5), slot_of("b", call(run), since=5.5)
    overdue.look([slow, quick], [run])
    assert list(waiting) == [first, second]
    assert slow.late and slow.taken and not quick.late
    assert not overdue.reachable(slow) and overdue.reachable(quick)
    assert said(run, caplog) == [
        "a worker on a gave no answer to round 2: train for 6 s; 2 calls go to others too"
    ]


def test_a_node_that_is_silent_is_passed_over_at_once(
    overdue: Overdue, reach: Reach, waiting: deque[Ticket], caplog: pytest.LogCaptureFixture
) -> None:
    run = PoolRun(())
    ticket = call(run)
    there, idle = slot_of("a", ticket), slot_of("a")
    reach.silent["a"] = POLICY.silent_after - 0.1
    overdue.look([there, idle], [run])
    assert not waiting
    overdue._looked, reach.silent["a"] = 0.0, 6.0
    overdue.look([there, idle], [run])
    assert list(waiting) == [ticket] and there.late and idle.late
    overdue._looked, reach.silent["a"] = 0.0, 0.0
    overdue.look([there, idle], [run])
    assert said(run, caplog) == ["a has not answered for 6 s; 1 calls go to others too",
                                 "a answers again"]  # fmt: skip


def test_a_late_merge_is_left_to_the_driver(overdue: Overdue, waiting: deque[Ticket]) -> None:
    """What it would merge may lie on the node that is out of reach."""
    run = PoolRun(())
    run.took["merge"] = deque([(0.1, 1.0)])
    merge = Ticket(run, Merge(inputs=("of a", "of b"), shape=(0, 1)))
    overdue.look([slot_of("a", merge, since=POLICY.late_least + 0.1)], [run])
    assert isinstance(merge.failure, ValueLost) and not waiting


def test_who_waits_for_nobody_says_so(
    overdue: Overdue, reach: Reach, caplog: pytest.LogCaptureFixture
) -> None:
    run = PoolRun(())
    slots = [WorkerSlot(SimpleNamespace()) for _ in range(2)]
    overdue.look(slots, [run])
    assert said(run, caplog) == []
    for ago in (31.0, 45.0, 61.0):
        overdue._looked, overdue._idle_since = 0.0, time.monotonic() - ago
        overdue.look(slots, [run])
    assert said(run, caplog) == [
        f"waiting since {ago} s for 2 workers that get ready" for ago in (31, 61)
    ]


BUSY = "it needs 1 CPUs, and 0 of 4 are free: other runs have the rest"


def test_who_waits_for_others_to_go_says_so_earlier(
    reach: Reach, caplog: pytest.LogCaptureFixture
) -> None:
    busy: list[str | None] = [BUSY]
    overdue = Overdue(reach, deque(), lambda *_: None, lambda gpus: busy[0])  # type: ignore[arg-type]
    run, slots = PoolRun(()), [WorkerSlot(SimpleNamespace()) for _ in range(2)]
    for ago in (9.0, 11.0, 12.0, 31.0):
        overdue._looked, overdue._idle_since = 0.0, time.monotonic() - ago
        overdue.look(slots, [run])
    assert said(run, caplog) == [
        f"waiting since {ago} s for 2 workers that get ready; for one, {BUSY}" for ago in (11, 31)
    ]


def test_a_run_that_goes_on_without_some_workers_says_so_once(
    reach: Reach, caplog: pytest.LogCaptureFixture
) -> None:
    overdue = Overdue(reach, deque(), lambda *_: None, lambda gpus: BUSY)  # type: ignore[arg-type]
    run = PoolRun(())
    works, waits = slot_of("a", call(run)), slot_of("", Ticket(run), since=11.0)
    waits.opened.clear()
    for _ in range(2):
        overdue._looked = 0.0
        overdue.look([works, waits], [run])
    assert said(run, caplog) == [
        f"1 of 2 workers wait, and the run goes on without them; for one, {BUSY}"
    ]


def test_limits_are_learned_from_calls_of_the_same_size() -> None:
    run = PoolRun(())
    slot, ticket = slot_of("a"), call(run, 100.0)
    assert run.late_limit(slot, ticket) == POLICY.late_unknown
    run.note(slot, ticket, 50.0)  # the first of a worker, which compiles
    assert run.late_limit(slot, ticket) == POLICY.late_unknown
    run.note(slot, call(run, 100.0), 6.0)
    run.note(slot, call(run, 1.0), 0.5)  # a hundred of these take no 50 s
    assert run.late_limit(slot, ticket) == POLICY.late_after * 6.0
    assert run.late_limit(slot, call(run, 150.0)) == POLICY.late_after * 6.0 * 1.5
    assert run.late_limit(slot, call(run, 1000.0)) == POLICY.late_after * 6.0 * 10
    assert run.late_limit(slot, call(run, 1.0)) == POLICY.late_after * 6.0
    assert run.late_limit(slot_of("b"), ticket) == POLICY.late_unknown  # it compiles first
    # `slowest`, which says what hangs, has all of them.
    assert run.slowest["train"] == 0.5


def test_an_answer_in_time_or_none() -> None:
    gate, asked = threading.Event(), list[int]()

    def slow() -> int:
        asked.append(1)
        assert gate.wait(60)
        return len(asked)

    answer = Answer(slow)
    assert answer.within(0.01) is None and answer.within(0.01) is None
    assert len(asked) == 1  # asked once, however often one looks
    gate.set()
    assert answer.within(60) == 1 and answer.within(60) == 2

    def broken() -> int:
        raise OSError

    assert Answer(broken).within(60) is None


def test_connections_made_to_one_host_are_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as here, socket.socket() as there:
        # One that listens in a process of its own would not be among ours.
        there.bind(("127.0.0.2", 0))
        there.listen()
        served = there.getsockname()
        ours = socket.create_connection(served, source_address=("127.0.0.3", 0))
        theirs = socket.create_connection(here.getsockname(), source_address=("127.0.0.2", 0))
        accepted, _ = here.accept()
        assert close_connections("192.0.2.1") == 0
        assert close_connections("127.0.0.2") == 1
        assert ours.recv(1) == b""
        accepted.setblocking(False)  # which 127.0.0.2 has made to us
        with pytest.raises(BlockingIOError):
            accepted.recv(1)
        for sock in (ours, theirs, accepted):
            sock.close()


def test_a_head_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watch, "_run", lambda self: None)
    head, node = ("198.51.100.1", 6379), ("198.51.100.2", 7000)
    watch = Watch(head)
    watch.know([{"NodeID": "a", "NodeManagerAddress": node[0], "NodeManagerPort": node[1]}])
    watch._asked = 100.0
    assert watch.head_lost is None  # It never answered: there may be a gateway before it.
    watch._answered = {head: 100.0 - POLICY.head_silent, node: 100.0}
    assert watch.head_lost == (
        "the cluster's head is out of reach: nothing answers at 198.51.100.1:6379 since 16 s"
    )
    watch._refused = {head}
    assert watch.head_lost == (
        "the cluster's head has gone: its host is there, and nothing listens at 198.51.100.1:6379 "
        "since 16 s"
    )
    watch._refused, watch._answered[node] = set(), 50.0
    watch._note_cut({head: SILENT, node: SILENT}, 99.0)
    assert watch.head_lost is None  # It is this machine's link.
    watch._note_cut({head: SILENT, node: ANSWERS}, 100.0)
    assert watch.head_lost is None  # It is back, and the head may answer next.
    watch._answered[head] = 100.0 - POLICY.all_silent
    assert watch.head_lost == ("the cluster's head is out of reach: no node answers since 55 s")
    assert watch.silence("a") == 50.0 and watch.silence("b") == 0.0


def test_the_first_answer_counts_and_the_late_one_is_dropped() -> None:
    from tests.simulation.runs.test_threads import pool as bare

    pool = bare.__wrapped__()  # a pool without workers and without Ray
    run = PoolRun(())
    ticket = call(run)
    late, other = slot_of("a", ticket), slot_of("b", ticket)
    late.sent[ticket], other.sent[ticket] = ("ref a", "a"), ("ref b", "b")
    late.late, pool.slots, pool._pool_runs = True, [late, other], [run]

    def answer(slot: WorkerSlot, start: float) -> None:
        done: Future[Status] = Future()
        done.set_result(Status(start, start + 1.0, node=slot.node))
        pool._react(slot, ticket, (slot.sent[ticket][0], done))

    answer(other, 5.0)
    assert ticket.status is not None and ticket.status.node == "b" and ticket.refs[1] == "b"
    answer(late, 1.0)
    assert ticket.status.node == "b" and ticket.refs[1] == "b" and run.busy == 1.0
    assert not late.line and not late.late
