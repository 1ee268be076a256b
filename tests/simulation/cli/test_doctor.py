"""What the doctor finds on this machine, and on broken ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from simulation.cli import commands, doctor
from simulation.cli.findings import Finding, State
from simulation.datasets import fashion_mnist


def found(check: Any) -> dict[str, Finding]:
    return {one.what: one for one in check()}


def test_a_python_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(doctor.python)["Python"].state == "ok"
    monkeypatch.setattr(doctor.sys, "version_info", (3, 9, 1))
    (one,) = doctor.python()
    assert (one.state, one.found) == ("broken", "3.9.1")
    assert one.mend == "make an environment with Python 3.11 to 3.13"


def test_packages_that_are_missing_or_old(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ["numpy>=2.0,<3", "no-such-package>=1", 'only-with>=1; extra == "dp"', "keras>=99"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: needs)
    missing, old = doctor.packages()
    assert (missing.state, missing.found) == ("broken", "no-such-package is missing")
    assert missing.mend == "pip install 'no-such-package>=1'"
    keras = doctor.metadata.version("keras")
    assert (old.state, old.found, old.mend) == (
        "broken",
        f"keras {keras}",
        "pip install 'keras>=99'",
    )


def test_tensorflow_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ASK", "raise ImportError('libcublas.so.12: no such file')")
    (one,) = doctor.tensorflow()
    assert (one.state, one.found) == ("broken", "ImportError: libcublas.so.12: no such file")


def test_little_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=64 * 2**20))
    shared = found(doctor.disks)["/dev/shm"]
    assert (shared.state, shared.found) == ("note", "0.1 GiB free")
    assert "--shm-size" in shared.mend


def test_data_that_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("own_cache", "keras_cache"):
        monkeypatch.setattr(fashion_mnist, name, lambda: tmp_path)
    monkeypatch.setattr(fashion_mnist, "SYSTEM_DIR", tmp_path)
    here = found(doctor.data)
    assert here["fashion-mnist-mini"].found == "6000 + 1000 images"
    assert here["fashion-mnist"].state == "note"


def test_an_address_where_nothing_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    from simulation.engines.ray import cluster

    def refused(*_: Any) -> Any:
        raise cluster.ResourceError("resources.address must be that of a running Ray cluster")

    monkeypatch.setattr(cluster, "Cluster", refused)
    (one,) = doctor.ray()
    assert one.state == "broken" and one.found.startswith("resources.address must be")


def checks(*states: State) -> Any:
    def check() -> Iterator[Finding]:
        for place, state in enumerate(states):
            yield Finding(f"thing {place}", state, "here", "mend it" if state != "ok" else "")

    return (check,)


@pytest.mark.parametrize(
    ("states", "status", "ending"),
    [
        (("ok", "note"), 0, "Sunflower can run here."),
        (("ok", "broken", "broken"), 1, "2 things must be mended first."),
    ],
)
def test_the_exit_status(
    states: Any, status: int, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    examine = doctor.examine
    monkeypatch.setattr(doctor, "examine", lambda: examine(checks(*states)))
    result = CliRunner().invoke(commands.main, ["doctor"])
    assert result.exit_code == status
    assert result.stdout.splitlines()[-1] == ending
    assert ("mend it" in result.stdout) == any(state != "ok" for state in states)


def test_a_check_that_fails_is_a_finding() -> None:
    def check() -> Iterator[Finding]:
        raise OSError("no disk")
        yield

    (one,) = doctor.examine((check,))
    assert (one.state, one.found) == ("broken", "OSError: no disk")


@pytest.mark.soak
def test_this_machine_is_well() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "simulation.cli", "doctor"],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = ran.stdout.splitlines()
    assert len(lines) <= 40
    for what in ("Python", "TensorFlow", "Ray", "memory", "GPUs", "fashion-mnist-mini"):
        assert any(what in line for line in lines), ran.stdout


def test_the_shell_completes() -> None:
    shown = CliRunner().invoke(commands.main, ["--help"]).stdout
    assert "--install-completion" in shown
