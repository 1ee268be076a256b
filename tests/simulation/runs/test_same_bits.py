"""Every path that computes weights still gives the bits that were recorded.

``python -m tests.simulation.runs.test_same_bits --write`` records them anew, ``--add`` those that
are not recorded yet. Runs that another machine recorded than the others say which it was.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulation.cli import endings
from tests.simulation.conftest import local_ray
from tests.simulation.same_bits import CASES, GOLDEN, QUICK, machine, run

FILE = GOLDEN / "weights.json"
NAMES = [pytest.param(n, marks=() if n in QUICK else pytest.mark.soak) for n in CASES]
MEASURED_OTHERWISE = ("personal",)
SENT_ALIKE = ("entry/ditto", "entry/apfl", "entry/fedproto", "entry/feddistill")
"""Runs whose server has the weights of FedAvg's, or those that it began with."""
RELATED = [param for param in NAMES if CASES[str(param.values[0])].like]


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Outcomes of the runs that there were."""
    return {}


@pytest.fixture
def ran(
    results: dict[str, dict[str, str]],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    quiet_again: None,
) -> Callable[[str], dict[str, str]]:
    """Return the outcome of a case, which runs once for all tests."""

    def outcome(name: str) -> dict[str, str]:
        if CASES[name].needs_accounting:
            pytest.importorskip("dp_accounting", reason="the extra dp is not installed")
        if CASES[name].needs_ray:
            request.getfixturevalue("ray_cluster")
        if name not in results:
            results[name] = run(name, tmp_path / name.replace("/", "-"))
        return results[name]

    return outcome


@pytest.mark.parametrize("name", RELATED)
def test_runs_that_must_be_alike(name: str, ran: Callable[[str], dict[str, str]]) -> None:
    assert ran(name) == ran(str(CASES[name].like))


@pytest.mark.parametrize("name", NAMES)
def test_the_bits_are_those_recorded(
    name: str, golden: dict[str, Any], ran: Callable[[str], dict[str, str]]
) -> None:
    here, expected = machine(), dict(golden["runs"][name])
    there = expected.pop("machine", golden["machine"])
    other = [f"{k} {here[k]} for {v}" for k, v in there.items() if here[k] != v]
    if other:
        pytest.skip(f"bits were recorded on another machine or with others: {', '.join(other)}")
    assert ran(name) == expected


def test_the_identity_of_the_runs_is_the_recorded_one(golden: dict[str, Any]) -> None:
    """It depends on no version and no processor: runs of before can be resumed."""
    assert identities() == golden["experiments"]


def test_all_runs_are_recorded(golden: dict[str, Any]) -> None:
    assert golden["runs"].keys() == CASES.keys()
    # A case that trains nothing, or that ignores its changes, would have the bits of another.
    same = (*MEASURED_OTHERWISE, *SENT_ALIKE)
    alone = [n for n, case in CASES.items() if case.like is None and n not in same]
    assert len({golden["runs"][name]["weights"] for name in alone}) == len(alone)


def identities() -> dict[str, str]:
    return {name: case.experiment.digest() for name, case in CASES.items() if not case.app}


def write(add: bool = False) -> None:
    """Run all cases and record them; or only those that are not recorded yet."""
    endings.quiet()
    recorded = json.loads(FILE.read_text())
    usual = recorded["machine"] if add else machine()
    where = {} if usual == machine() else {"machine": machine()}
    runs = {name: recorded["runs"][name] for name in CASES if name in recorded["runs"] and add}
    missing = [name for name in CASES if name not in runs]
    with local_ray(), tempfile.TemporaryDirectory() as folder:
        for name in missing:
            runs[name] = run(name, Path(folder) / name.replace("/", "-")) | where
            print(name, runs[name]["weights"][:16], flush=True)
    runs = {name: runs[name] for name in CASES}
    found = {"machine": usual, "experiments": identities(), "runs": runs}
    FILE.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] not in (["--write"], ["--add"]):
        sys.exit("usage: python -m tests.simulation.runs.test_same_bits --write | --add")
    write(add=sys.argv[1:] == ["--add"])
