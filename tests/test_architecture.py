"""Three rooms, one direction of imports; Ray and TensorFlow only where they belong."""

from __future__ import annotations

import ast
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


PUBLIC = {
    "flwr": (
        "flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.serverapp.strategy",
        "flwr.simulation", "flwr.server", "flwr.server.workflow",
        "flwr.supercore",  # for its log alone, which strategies need
    ),
    "ray": ("ray", "ray.exceptions"),
    "keras": ("keras",),
    "tensorflow": ("tensorflow",),
    "dp_accounting": ("dp_accounting",),
}  # fmt: skip
"""Modules of libraries that may be imported anywhere."""


def own_names() -> set[str]:
    """Every name with an underscore before it that our own code gives to something."""
    found: set[str] = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(node.target.id)
    return found


OWN = own_names()

NOT_THEIRS = {"_is_twin", "_lends", "_is_heard", "_accuracy", "_abc_impl"}
"""Marks that we write on objects of libraries, ends of words, names of Python itself."""


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if p.name != "private.py" and p.relative_to(ROOT).parts[0] != "analysis"],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_private_names_of_libraries_are_in_private_py(path: Path) -> None:
    used: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value] if node.value.isidentifier() else []
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [alias.name for alias in node.names]
            top = node.module.partition(".")[0]
            if node.module not in PUBLIC.get(top, (node.module,)):
                used.append(node.module)
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
            used += [m for m in modules if m not in PUBLIC.get(m.partition(".")[0], (m,))]
            continue
        else:
            continue
        hidden = [n for n in names if n.startswith("_") and n.strip("_") and n[-2:] != "__"]
        used += [n for n in hidden if n not in OWN | NOT_THEIRS]
    assert not used, f"private names of libraries belong into a private.py: {used}"


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
