"""SIGKILL to the driver at random moments: resumed each time, it is the undisturbed run."""

from __future__ import annotations

import pytest

from benchmarks import soak


@pytest.mark.soak
def test_a_driver_killed_again_and_again() -> None:
    data: dict[str, dict[str, object]] = {}
    soak.killed_driver(4, data, seed=3)
    found = data["driver"]
    assert found["kills"] == 4
    assert found["runs"] == [{"weights": True, "lines": True}] * len(found["runs"])  # type: ignore[arg-type]


SCHEDULES: dict[str, dict[str, object]] = {
    "synchronous": {},
    "deadline": {"deadline": "70%"},
    "buffered": {"buffer": 3},
    "asynchronous": {},
    "semi-synchronous": {"interval": 20.0},
    "hierarchical": {"edges": 3, "cloud": {"name": "fedadam"}},
}


@pytest.mark.soak
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
@pytest.mark.parametrize("kind", SCHEDULES)
def test_a_driver_killed_on_virtual_time(kind: str, backend: str) -> None:
    data: dict[str, dict[str, object]] = {}
    plan = {"kind": kind, **SCHEDULES[kind]}
    settings = {**soak.ONE_BY_ONE, "schedule": plan, "resources": {"backend": backend}}
    soak.killed_driver(20, data, seed=5, settings=settings, workers=(1, 2, 1, 2, 1, 4))
    found = data["driver"]
    assert found["kills"] == 20
    assert found["runs"] == [{"weights": True, "lines": True}] * len(found["runs"])  # type: ignore[arg-type]


@pytest.mark.soak
def test_workers_killed_every_few_rounds() -> None:
    data: dict[str, dict[str, object]] = {}
    rows = dict(map(tuple, soak.many_rounds(40, 10, data)))
    assert (rows["rounds"], rows["workers killed"], rows["clients lost"]) == (40, 4, 0)
