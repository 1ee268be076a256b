"""Three rooms and thirteen packages, one direction of imports; each library in one place."""

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
ROOMS = ("strategies", "simulation", "analysis")
FILES = [p for room in ROOMS for p in (ROOT / room).rglob("*.py")]

ORDER = (
    "config", "datasets", "population", "records", "listeners", "training", "worker", "engines",
    "rounds", "flower", "runs", "studies", "cli",
)  # fmt: skip
"""The packages of simulation/: each imports only those before it."""

RAY = "simulation/engines/ray/"
TENSORFLOW = "simulation/training/tensorflow/"
JAX = "simulation/training/jax/"
KERAS = "simulation/training/keras/"

LONG: set[str] = set()
"""Functions of more than 60 lines, docstring left out; each with its reason."""


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {module_of(path): ast.parse(path.read_text()) for path in FILES}


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that a file imports: at its top, in a function, or for types alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def for_types_alone(tree: ast.Module) -> set[str]:
    """What stands below ``if TYPE_CHECKING``."""
    blocks = [n for n in tree.body if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)]
    return {name for block in blocks for name in modules_in(block)}


def modules_in(tree: ast.AST) -> Iterator[str]:
    """The modules of ours that a file imports; a package counts where its face is asked."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in inner)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    found = set(imported(MODULES[module_of(path)]))
    tops = {module.partition(".")[0] for module in found}
    room = name.partition("/")[0]
    if room == "strategies":
        assert not tops & {"simulation", "analysis", "ray", "tensorflow", "jax", "keras"}
    if room == "analysis":
        assert not tops & {"strategies", "ray", "tensorflow", "jax", "keras", "flwr"}
        inner = {m for m in found if m.startswith("simulation")}
        assert all(m.startswith("simulation.records") for m in inner), inner
    if room == "simulation" and name != "simulation/cli/report.py":
        assert "analysis" not in tops
    if not name.startswith(RAY):
        assert "ray" not in tops
    if not name.startswith(TENSORFLOW):
        assert "tensorflow" not in tops
    if not name.startswith(JAX):
        assert "jax" not in tops
    if not name.startswith((TENSORFLOW, JAX, KERAS)):
        assert "keras" not in tops


def test_simulation_is_its_packages() -> None:
    there = {p.name for p in (ROOT / "simulation").iterdir() if p.name != "__pycache__"}
    assert there == {*ORDER, "__init__.py", "version.py", "py.typed"}


@pytest.mark.parametrize("module", sorted(m for m in MODULES if m.count(".") > 1))
def test_packages_import_only_those_before_them(module: str) -> None:
    if not module.startswith("simulation."):
        return
    own = ORDER.index(module.split(".")[1])
    packages = {m.split(".")[1] for m in imported(MODULES[module]) if m.startswith("simulation.")}
    later = [p for p in packages if p in ORDER[own + 1 :]]
    assert not later, f"{module} imports {later}"


def graph() -> dict[str, set[str]]:
    """Which module imports which.

    Within a package, an import for types alone ties no knot, nor does the face of the whole, whose
    names are loaded when they are first used.
    """
    arrows: dict[str, set[str]] = {}
    for module, tree in MODULES.items():
        package, types = module.rpartition(".")[0], for_types_alone(tree)
        found = {m for m in modules_in(tree) if m in MODULES and m != module}
        within = {m for m in found & types if module == "simulation" or m.startswith(f"{package}.")}
        arrows[module] = found - within
    return arrows


def test_no_module_imports_itself_by_a_detour() -> None:
    arrows, left = graph(), dict.fromkeys(MODULES)
    while left:  # Take away who imports nothing that is left, until nobody can be taken.
        free = [m for m in left if not arrows[m] & left.keys()]
        assert free, f"these import each other in a circle: {sorted(left)}"
        for module in free:
            del left[module]


PUBLIC = {
    "flwr": (
        "flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.serverapp.strategy",
        "flwr.simulation", "flwr.server", "flwr.server.workflow",
        "flwr.supercore",  # for its log alone, which strategies need
    ),
    "ray": ("ray", "ray.exceptions", "ray.util.scheduling_strategies"),
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

NOT_THEIRS = {"_is_twin", "_lends", "_is_heard", "_accuracy", "_abc_impl", "_exit"}
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
    heavy = {"tensorflow", "jax", "keras", "ray", "matplotlib"}
    assert not loaded_after("import simulation.runs.run, simulation.cli, strategies") & heavy
    assert not loaded_after("import simulation.cli") & (heavy | {"flwr", "pandas", "numpy"})


def lines_of(function: ast.FunctionDef) -> int:
    """Lines of a function, its docstring left out."""
    first = function.body[0]
    told = ast.get_docstring(function, clean=False) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if told else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def test_functions_stay_short() -> None:
    long = {
        f"{path.relative_to(ROOT).as_posix()}:{node.name}": lines_of(node)
        for path in FILES
        for node in ast.walk(MODULES[module_of(path)])
        if isinstance(node, ast.FunctionDef) and lines_of(node) > 60
    }
    assert long.keys() == LONG, long


def test_files_stay_short() -> None:
    tests = (ROOT / "tests").rglob("*.py")
    inputs = ROOT / "tests/cases"
    long = {
        str(p.relative_to(ROOT)): n
        for p in (*FILES, *(p for p in tests if inputs not in p.parents))
        if (n := len(p.read_text().splitlines())) > 500
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
