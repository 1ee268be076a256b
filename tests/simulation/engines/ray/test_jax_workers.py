"""Workers on JAX: the bits are the same however many there are, and whoever of them dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax", reason="the backend jax is not installed (pip install jax)")

from simulation import Experiment, simulate
from simulation.config.sections import Resources
from simulation.engines.cohort import train_cohort
from simulation.engines.ray.engine import RayEngine
from simulation.engines.ray.pool import Pool
from simulation.population.deal import prepare
from simulation.studies.campaign import Plan, carry_out
from simulation.worker.setup import Setup
from strategies import WeightedMean
from tests.simulation.conftest import FAILING
from tests.simulation.same_bits import StopAfter, outcome
from tests.simulation.training.jax_catalogue import BASE, CASES
from tests.simulation.training.test_jax import on_jax

EVERYBODY = range(20)
ON_RAY = {"resources.engine": "ray", "resources.backend": "jax", "resources.lanes": 2}


def experiment(case: str = "fedavg", **changes: Any) -> Experiment:
    return Experiment(**BASE).replace(**{**CASES[case], **ON_RAY, "cohort": 20, **changes})


@pytest.fixture(scope="module")
def pool(ray_cluster: Any) -> Iterator[Pool]:
    """Two workers, whose JAX is loaded once for all tests."""
    made = Pool(Resources(workers=2, backend="jax", lanes=2), FAILING)
    yield made
    made.close()


def started(pool: Pool, fault: str = "none:none", **changes: Any) -> RayEngine:
    made = experiment(**{"name": fault, **changes})
    engine = RayEngine(made.resources, pool=pool)
    engine.start(Setup(made, reducer=WeightedMean()), *prepare(made))
    return engine


@pytest.mark.soak
def test_a_killed_worker_changes_no_bit(pool: Pool, ray_cluster: Any) -> None:
    engine = started(pool)
    assert engine.info().lanes == engine.lanes == 2
    model = engine.info().initial
    total, rows, *_ = train_cohort(engine, 1, EVERYBODY, model, {})
    victim = ray_cluster.get(pool.slots[0].actor.where.remote())[1]
    done = []

    def kill(kind: str, clients: int, examples: int) -> None:
        if not done:
            done.append(clients)
            os.kill(victim, signal.SIGKILL)

    engine.progress = kill
    again, rows_again, *_ = train_cohort(engine, 1, EVERYBODY, model, {})
    engine.close()
    assert done
    np.testing.assert_array_equal(again.delta, total.delta)
    assert rows_again["client"].tolist() == rows["client"].tolist() == list(EVERYBODY)
    for name, column in rows.items():
        np.testing.assert_array_equal(rows_again[name], column)


@pytest.mark.soak
def test_a_client_that_takes_its_worker_down_is_as_one_that_raises(pool: Pool) -> None:
    totals = []
    for what in ("raise", "nan", "kill"):
        limits = {"faults.attempts": 1, "faults.on_client_error": "skip"}
        engine = started(pool, f"{what}:3 {what}:12", **limits)
        total, rows, lost, _ = train_cohort(engine, 1, EVERYBODY, engine.info().initial, {})
        engine.close()
        assert [one.client for one in lost] == [3, 12]
        assert rows["client"].tolist() == [c for c in EVERYBODY if c not in (3, 12)]
        totals.append(total.delta)
    np.testing.assert_array_equal(totals[0], totals[1])
    np.testing.assert_array_equal(totals[0], totals[2])


INLINE = """
import sys
from simulation.training.backend import backend
backend("jax").prepare(1, 0.0)
from simulation import simulate
from tests.simulation.engines.ray.test_jax_workers import experiment
made = experiment(sys.argv[1], **{"resources.engine": "inline"})
simulate(made, out=sys.argv[2])
"""


@pytest.mark.soak
@pytest.mark.parametrize("case", ["fedavg", "scaffold", "krum", "stragglers", "buffered"])
def test_one_worker_and_two_and_none_give_the_same_bits(
    case: str, tmp_path: Path, ray_cluster: Any
) -> None:
    on_jax("-c", INLINE, case, str(tmp_path / "inline"), optimised=True)
    first = outcome(tmp_path / "inline")
    for workers in (1, 2):
        path = tmp_path / f"{workers}"
        made = experiment(case, **{"resources.workers": workers})
        with pytest.raises(KeyboardInterrupt):
            simulate(made, out=path, listener=StopAfter(workers))
        other = made.replace(**{"resources.workers": 3 - workers, "resources.backend": "auto"})
        simulate(other.replace(**{"resources.lanes": None}), out=path, resume=True)
        assert outcome(path) == first


STUDY = """
import sys
from pathlib import Path
from simulation.training.backend import backend
backend("jax").prepare(1, 0.0)
from simulation.studies.campaign import carry_out
from tests.simulation.engines.ray.test_jax_workers import study
carry_out(study("inline"), Path(sys.argv[1]))
"""


def study(engine: str) -> Plan:
    made = experiment(**{"resources.engine": engine, "model": "logistic", "cohort": 6})
    return {
        f"{seed}-{rate}": made.replace(**{"seed": seed, "training.learning_rate": rate})
        for seed in (0, 1)
        for rate in (0.01, 0.1)
    } | {"more": made.replace(strategy="scaffold")}


@pytest.mark.soak
def test_a_study_in_the_same_lanes_gives_its_bits_on_workers_and_in_this_process(
    tmp_path: Path, ray_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_jax("-c", STUDY, str(tmp_path / "inline"), optimised=True)
    joint, plain = list[int](), Pool._sent

    def counted(slot: Any, ticket: Any) -> Any:
        joint.append(len(ticket.parts))
        return plain(slot, ticket)

    monkeypatch.setattr(Pool, "_sent", staticmethod(counted))
    found = carry_out(study("ray"), tmp_path / "ray")
    assert found.complete == list(study("ray"))
    assert 2 in joint
    for name in found.complete:
        assert outcome(tmp_path / "ray" / name) == outcome(tmp_path / "inline" / name)


DRIVER = """
import sys
from simulation import Experiment, simulate
from tests.simulation.conftest import local_ray
from tests.simulation.training.jax_catalogue import BASE
resources = {"engine": "ray", "backend": "jax", "lanes": 2}
with local_ray():
    simulate(Experiment(**{**BASE, "resources": resources}), out=sys.argv[1])
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.soak
def test_the_driver_imports_neither_backend(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(tmp_path / "run")],
        cwd=Path(__file__).parents[4], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert outcome(tmp_path / "run")
    assert not {"tensorflow", "keras", "jax", "jaxlib"} & {*done.stdout.splitlines()[-1].split()}
