"""Runs in threads beside each other: nobody waits for, hears of or draws from another's."""

from __future__ import annotations

import logging
import queue
import random
import threading
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from simulation.config.experiment import Experiment
from simulation.engines.calls import Info, Status
from simulation.engines.ray.agent import Agent
from simulation.engines.ray.pool import Pool
from simulation.engines.ray.slots import PoolRun, Ticket, WorkerSlot
from simulation.flower import their_strategies
from simulation.records.log import log_file
from simulation.runs.run import simulate
from simulation.studies import screen, side_by_side


def at_once(*jobs: Any) -> list[Any]:
    """Do jobs in threads of their own; return what they return, or the error."""
    found: list[Any] = [None] * len(jobs)

    def do(place: int) -> None:
        try:
            found[place] = jobs[place]()
        except BaseException as error:
            found[place] = error

    threads = [threading.Thread(target=do, args=(i,), daemon=True) for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    return found


def test_a_flower_strategy_draws_what_it_would_draw_alone() -> None:
    def drawn(seed: int) -> list[float]:
        numbers = []
        with their_strategies.seeded(seed, 1, their_strategies.CONFIGURE):
            for _ in range(200):
                numbers += [random.random(), float(np.random.random())]
                threading.Event().wait(0.0002)  # another thread has its turn
        return numbers

    alone = [drawn(seed) for seed in (1, 2, 3)]
    assert at_once(*(lambda seed=seed: drawn(seed) for seed in (1, 2, 3))) == alone


@pytest.fixture
def pool() -> Pool:
    """A pool without workers and without Ray."""
    made = object.__new__(Pool)
    made._turn = threading.Condition(threading.RLock())
    made._events = queue.SimpleQueue()
    made._listener, made._stopping = None, False
    made._queue, made._later = deque(), deque()
    made.slots, made._pool_runs = [], []
    made._agent = Agent(None)
    made.cluster = SimpleNamespace(grows=False)  # type: ignore[assignment]
    return made


def ended(pool: Pool, run: PoolRun, **more: Any) -> Ticket:
    """Let a call of a run end on a worker."""
    slot = WorkerSlot(None)
    pool.slots.append(slot)
    ticket = Ticket(run, Info(), **more)
    pool._done(slot, ticket, Status(1.0, 2.0))
    return ticket


def test_an_error_in_what_hears_one_run_is_that_runs_alone(pool: Pool) -> None:
    def broken(*_: Any) -> None:
        raise OSError("the timeline is full")

    theirs, ours = PoolRun((), hear=broken), PoolRun(())
    ticket = ended(pool, theirs)  # by a thread of another run, which listens for all
    pool.wait(ended(pool, ours))
    with pytest.raises(OSError, match="the timeline is full"):
        pool.wait(ticket)
    assert ours.failure is None and isinstance(theirs.failure, OSError)


def test_a_listener_that_takes_its_time_holds_nobody_up(pool: Pool) -> None:
    slow, quick = PoolRun(()), PoolRun(())
    entered, over, heard = threading.Event(), threading.Event(), []

    def patient() -> None:
        heard.append(threading.get_ident())
        entered.set()
        assert over.wait(60)

    ticket, other = ended(pool, slow, done=patient), ended(pool, quick)

    def slowly() -> int:
        pool.wait(ticket)
        return threading.get_ident()

    def quickly() -> None:
        assert entered.wait(60)
        pool.wait(other)
        pool.submit(Ticket(quick, Info()))
        over.set()

    thread, error = at_once(slowly, quickly)
    assert error is None
    assert heard == [thread]  # on a thread of the run that it belongs to


def test_ctrl_c_while_listening_leaves_the_pool_to_the_others(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, waited = PoolRun(()), []

    release = pool._turn.release

    def interrupted() -> None:
        """Ctrl-C comes when the lock has just been let go."""
        release()
        if not waited:
            waited.append(1)
            raise KeyboardInterrupt

    pool._turn.release = interrupted  # type: ignore[method-assign]

    class Events:
        def get(self, timeout: float) -> None:
            if not waited:
                waited.append(1)
                raise KeyboardInterrupt
            raise queue.Empty

        get_nowait = put = get  # type: ignore[assignment]

    pool._events = Events()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        pool.wait(Ticket(run, Info()))
    (error,) = at_once(lambda: pool.wait(Ticket(run, Info()), timeout=0.01))
    assert isinstance(error, TimeoutError)


def test_a_workers_death_is_in_the_logs_of_its_runs(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_begin", lambda slot: None)
    monkeypatch.setattr(pool, "_catch_up", lambda slot: None)
    runs = {name: PoolRun(()) for name in ("first", "second", "other")}
    slot = WorkerSlot(None)
    for name, calls in (("first", 2), ("second", 1)):
        slot.line.extend(Ticket(runs[name], Info(), most=3) for _ in range(calls))
    barrier = threading.Barrier(3)

    def drive(name: str) -> str:
        file = tmp_path / f"{name}.log"
        with log_file(file):
            barrier.wait(60)
            if name == "other":  # It is the one that listens for all.
                with pool._turn:
                    pool._replace(slot, "died", None)
            barrier.wait(60)
            pool.wait(ended(pool, runs[name]))
            barrier.wait(60)
        return file.read_text()

    logs = at_once(*(lambda name=name: drive(name) for name in runs))
    assert [log.count("a worker died") for log in logs] == [1, 1, 0]
    assert "2 calls go to others" in logs[0] and "1 calls go to others" in logs[1]


def test_a_run_may_end_while_the_table_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    row = screen.RunProgress(3, "running", since=1.0)

    def now() -> float:
        row.since = None  # as the run's own thread does when it ends
        return 5.0

    monkeypatch.setattr(screen.time, "monotonic", now)
    assert row.elapsed in (4.0, row.seconds)


def test_the_last_name_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Looked(deque[str]):
        """Another thread takes the last one after it was seen to be there."""

        def __bool__(self) -> bool:
            return True

    monkeypatch.setattr(side_by_side, "deque", Looked)
    done: list[str] = []
    side_by_side.side_by_side(["one", "two"], done.append, 3, lambda: None)
    assert sorted(done) == ["one", "two"]


@pytest.mark.soak
def test_inline_runs_in_threads_have_the_bits_that_they_have_alone(
    small: Experiment, tmp_path: Path
) -> None:
    logging.getLogger("flwr").setLevel(logging.ERROR)
    wanted = [
        small.replace(**{"seed": seed, "strategy": strategy, "rounds": 3})
        for seed, strategy in ((0, "fedavg"), (1, "fedadam"), (2, "scaffold"))
    ]

    def found(place: int, where: str) -> tuple[str, list[float]]:
        result = simulate(wanted[place], out=tmp_path / where / str(place))
        losses = [line[f"{who}_loss"] for line in result.rounds for who in ("server", "client")]
        return str(result.summary["weights_sha256"]), losses

    alone = [found(i, "alone") for i in range(3)]
    beside = at_once(*(lambda i=i: found(i, "beside") for i in range(3)))
    assert beside == alone
