"""Three rooms, one direction of imports; Ray and TensorFlow only where they belong."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    p for room in ("strategies", "simulation", "analysis") for p in (ROOT / room).rglob("*.py")
]

RAY = "simulation/engines/ray/"
TENSORFLOW = "simulation/training/tensorflow/"


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that a file imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    found = set(imported(ast.parse(path.read_text())))
    tops = {module.partition(".")[0] for module in found}
    room = name.partition("/")[0]
    if room == "strategies":
        assert not tops & {"simulation", "analysis", "ray", "tensorflow", "keras"}
    if room == "analysis":
        assert not tops & {"strategies", "ray", "tensorflow", "keras", "flwr"}
        inner = {m for m in found if m.startswith("simulation")}
        assert all(m.startswith("simulation.records") for m in inner), inner
    if room == "simulation" and name != "simulation/cli/report.py":
        assert "analysis" not in tops
    if not name.startswith(RAY):
        assert "ray" not in tops
    if not name.startswith(TENSORFLOW):
        assert not tops & {"tensorflow", "keras"}


def loaded_after(code: str) -> set[str]:
    """Top-level modules in a fresh process that ran ``code``."""
    text = f"import sys\n{code}\nprint(*{{m.partition('.')[0] for m in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_importing_the_packages_loads_nothing_heavy() -> None:
    heavy = {"tensorflow", "keras", "ray", "matplotlib"}
    assert (
        not loaded_after("import simulation.runs.run, simulation.cli.commands, strategies") & heavy
    )
    assert not loaded_after("import simulation.cli.commands") & (
        heavy | {"flwr", "pandas", "numpy"}
    )


@pytest.mark.slow
def test_the_driver_of_a_whole_run_never_loads_tensorflow(tmp_path: Path) -> None:
    code = f"""
from simulation import Experiment, simulate
simulate(
    Experiment(dataset="fashion-mnist-mini", model="mlp", clients=4, rounds=1),
    out={str(tmp_path / "run")!r},
)"""
    assert not loaded_after(code) & {"tensorflow", "keras"}
    assert (tmp_path / "run/model.keras").exists()


def test_files_stay_short() -> None:
    long = {
        str(p.relative_to(ROOT)): n for p in FILES if (n := len(p.read_text().splitlines())) > 400
    }
    assert not long


REFERENCE = re.compile(
    r":(?:mod|class|func|meth|data|attr):`~?((?:simulation|strategies|analysis)\.[\w.]+)`"
)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_docstrings_refer_to_is_there(path: Path) -> None:
    for name in REFERENCE.findall(path.read_text()):
        parts = name.split(".")
        depth = next(n for n in range(len(parts), 0, -1) if is_module(parts[:n]))
        found = importlib.import_module(".".join(parts[:depth]))
        for part in parts[depth:]:
            field = part in getattr(found, "__annotations__", {})
            assert field or hasattr(found, part), f"{path}: {name}"
            found = getattr(found, part, None)


def is_module(parts: list[str]) -> bool:
    path = ROOT.joinpath(*parts)
    return path.is_dir() or path.with_suffix(".py").is_file()
