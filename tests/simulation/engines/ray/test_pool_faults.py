"""Workers that die or hang in Ray: replaced, and the client at fault is found."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simulation.config.experiment import Experiment
from simulation.engines.calls import Info, Status
from simulation.engines.cohort import train_cohort
from simulation.engines.ray.engine import RayEngine
from simulation.engines.ray.pool import Pool
from simulation.engines.ray.slots import Ticket
from simulation.population.deal import prepare
from simulation.rounds.buffered import BufferedDriver
from simulation.worker.faults import ClientError, WorkerError
from simulation.worker.setup import Setup
from strategies import Cohort, Federated, WeightedMean, catalog
from tests.simulation.conftest import FAILING
from tests.simulation.tools import training

IDLE = "tests.simulation.engines.ray.failing:Idle"


def make(
    small: Experiment, fault: str, executor: str = FAILING, pool: Pool | None = None, **changes: Any
) -> RayEngine:
    """Start a run some of whose clients fail, on a pool of its own or on one that there is."""
    wanted = small.replace(
        name=fault, **{"resources.engine": "ray", "resources.workers": 2, **changes}
    )
    engine = RayEngine(wanted.resources, executor=executor, pool=pool)
    engine.start(Setup(wanted, reducer=WeightedMean()), *prepare(wanted))
    return engine


@pytest.fixture(scope="module")
def survivors(pool: Pool) -> Iterator[Any]:
    """The total without client 3."""
    from simulation.config.experiment import parse
    from tests.simulation.conftest import SMALL

    small = parse(SMALL)
    engine = make(small, "raise:3", pool=pool, **{"faults.on_client_error": "skip"})
    found = train_cohort(engine, 1, range(12), engine.info().initial, {})
    assert [str(one) for one in found.lost] == [
        "round 1, client 3: KeyError: 'client 3 has no such thing'"
    ]
    engine.close()
    yield found.total


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "timeout", "reason"),
    [
        ("kill", 200, "its worker died (once)"),
        pytest.param(
            "hang", 12, "its worker gave no answer for 12 s (once)", marks=pytest.mark.soak
        ),
    ],
)
def test_a_client_that_takes_its_worker_down_is_found(
    what: str, timeout: float, reason: str, survivors: Any, small: Experiment, pool: Pool
) -> None:
    limits = {"faults.attempts": 1, "faults.on_client_error": "skip"}
    engine = make(small, f"{what}:3", pool=pool, **limits, **{"faults.chunk_timeout": timeout})
    total, rows, lost, _ = train_cohort(engine, 1, range(12), engine.info().initial, {})
    engine.close()
    assert [str(one) for one in lost] == [f"round 1, client 3: {reason}"]
    assert rows["client"].tolist() == [c for c in range(12) if c != 3]
    np.testing.assert_array_equal(total.delta, survivors.delta)


@pytest.mark.soak
def test_one_that_is_trained_ahead_is_found(small: Experiment, pool: Pool) -> None:
    """Client 10 is sent out first and comes in the third step, with one of another model."""
    found = []
    for what in ("raise", "kill"):
        changes = {
            "faults.attempts": 1, "faults.on_client_error": "skip", "cohort": 5, "rounds": 3,
            "devices": "lognormal", "schedule": {"kind": "buffered", "buffer": 2},
        }  # fmt: skip
        engine = make(small, f"{what}:10", pool=pool, **changes)
        spec, model = engine.info().spec, engine.info().initial
        strategy = Federated(catalog.build("fedavg"), Cohort(5), evaluate=None, spec=spec)
        driver = BufferedDriver(strategy, engine, spec, small.replace(**changes))
        lost = []
        for number in range(1, 4):
            result = driver.train(number, model)
            model = result.model
            lost += [(one.round, one.client) for one in result.lost]
        engine.close()
        found.append((model.tobytes(), lost))
    assert found[0] == found[1] and found[0][1] == [(3, 10)]


@pytest.mark.soak
def test_a_client_that_kills_three_workers_fails_the_run(
    small: Experiment, ray_cluster: Any
) -> None:
    engine = make(small, "kill:3")
    with pytest.raises(ClientError, match=r"^round 1, client 3: its worker died \(3 times\)$"):
        train_cohort(engine, 1, range(12), engine.info().initial, {})
    engine.close()


@pytest.mark.soak
def test_workers_that_never_get_ready(small: Experiment, ray_cluster: Any) -> None:
    engine = make(
        small, "", "tests.simulation.engines.ray.failing:Stillborn", **{"faults.attempts": 2}
    )
    with pytest.raises(WorkerError, match="2 workers died before they were ready"):
        engine.info()
    engine.close()


def test_deadlines_are_learned_from_the_slowest_call(small: Experiment, pool: Pool) -> None:
    engine = make(small, "none:none", pool=pool)
    ticket = engine.submit(training(range(3), engine.info().initial, cost=100))
    assert engine.pool.deadline(ticket) is None
    engine.result(ticket)
    assert ticket.status is not None
    pace = (ticket.status.ended - ticket.status.started) / 100
    assert engine.pool.deadline(ticket) == 60
    ticket.call = replace(ticket.call, cost=1e6)
    assert engine.pool.deadline(ticket) == pytest.approx(10 * pace * 1e6)
    engine.close()


def test_a_call_that_ended_before_its_worker_died_is_not_blamed(
    small: Experiment, ray_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its answer is heard of later than the worker's death."""

    @ray_cluster.remote(num_cpus=0)
    def never() -> None:
        time.sleep(600)

    engine = make(small, "none:none", IDLE)
    engine.info()
    pool, pool_run = engine.pool, engine._pool_run
    slot = next(slot for slot in pool.slots if not slot.line)  # its worker is ready
    pending = never.remote()
    answer = ray_cluster.put(Status(1.0, 2.0))
    ended, dying = (Ticket(pool_run, Info(), refs=(ref,)) for ref in (answer, pending))
    slot.line.extend([ended, dying])
    with monkeypatch.context() as patch:
        patch.setattr(pool, "_begin", lambda slot: None)
        patch.setattr(pool, "_pool_runs", [])
        pool._replace(slot, "died", None)
    assert ended.status == Status(1.0, 2.0) and ended.failure is None
    assert dying.status is None and str(dying.failure) == "its worker died (once)"
    ray_cluster.cancel(pending, force=True)
    engine.close()
