"""Ray that starts late."""

from __future__ import annotations

from typing import Any

import pytest
import ray

from simulation.config.sections import Resources
from simulation.engines.ray.cluster import Cluster
from simulation.worker.faults import WorkerError

LATE = "The current node timed out during startup. This could happen because ..."


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Outcomes of ``ray.init``, which are used up; True is a start."""
    outcomes: list[Any] = []

    def init(**given: Any) -> None:
        outcome = outcomes.pop(0)
        if outcome is not True:
            raise outcome

    one = {"Alive": True, "Resources": {"CPU": 2.0}}
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "nodes", lambda: [one])
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return outcomes


def test_a_late_ray_gets_a_second_chance(starts: list[Any]) -> None:
    starts += [Exception(LATE), True]
    assert Cluster(Resources()).workers == [0.0, 0.0]
    assert starts == []


def test_twice_late_is_said_in_one_line(starts: list[Any]) -> None:
    starts += [Exception(LATE), Exception(LATE)]
    with pytest.raises(WorkerError, match="did not start within its time, 2 times"):
        Cluster(Resources())


def test_other_errors_are_rays_own(starts: list[Any]) -> None:
    starts += [OSError("no space left")]
    with pytest.raises(OSError, match="no space left"):
        Cluster(Resources())


def test_what_a_worker_waits_for_is_told(
    starts: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    starts += [True]
    free = {"CPU": 1.5}
    monkeypatch.setattr(ray, "available_resources", lambda: free)
    cluster = Cluster(Resources(client_cpus=1.0))
    assert cluster.lacking() is None
    free["CPU"] = 0.5
    said = "it needs 1 CPUs, and 0.5 of 2 are free: other runs have the rest"
    assert cluster.lacking() == said
    del free["CPU"]
    assert cluster.lacking() == said.replace("0.5", "0")
