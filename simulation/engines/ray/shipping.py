"""What a run takes along to the nodes of a cluster: Sunflower itself and the user's modules.

Ray uploads packages and single modules once and puts them before what is installed on a node
(``py_modules`` of a runtime environment). Installed packages stay behind: nodes have their own.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulation.config import initial
from simulation.config.errors import ConfigError, one_line
from simulation.config.given import Given

if TYPE_CHECKING:
    from simulation.config.experiment import Experiment
import ast
import site
import sysconfig
from collections.abc import Iterable, Iterator

from simulation.config import plugins
from simulation.config.experiment import Experiment
from simulation.config.fingerprint import modules_used
from simulation.config.plugins import to_give


def handed_over(experiment: Experiment) -> Given:
    """Return what the workers of a run get by value.

    Raises:
        ConfigError: a function that does not travel.
        ValueError: a file that has changed.
    """
    init = experiment.init
    files = {} if init is None else {init.sha256: initial.read(init.path, init.sha256)}
    if experiment.resources.engine == "inline":
        return Given(files=files)
    functions = {}
    for name, function in to_give(experiment).items():
        from simulation.engines.ray.private import pickled

        try:
            functions[name] = pickled(function)
        except Exception as error:  # whatever it holds may refuse to be pickled in its own way
            raise ConfigError(
                f"{name} must be a function that can go to the workers, got one that cannot "
                f"({one_line(error)}); name it module:function"
            ) from error
    return Given(functions, files)


OURS = ("simulation", "strategies", "analysis")

LEFT = ("data/", "fashion_mnist_mini.npz", "__pycache__/", "*.ipynb")
"""What is not shipped of a package: its data is read by the driver alone."""


def modules_of(experiment: Experiment, strategy: Any = None) -> list[str]:
    """Return the modules that a run names: of its model, data and strategy.

    Args:
        experiment: with ``module:function`` in it, or not.
        strategy: the strategy's object, whose parts may be of the user's classes and functions.
    """
    named = (experiment.model, experiment.dataset, experiment.strategy.name)
    found = [name.partition(":")[0] for name in named if ":" in name]
    for function in plugins.to_give(experiment).values():
        found += modules_used(function)
    whole = getattr(strategy, "algorithm", strategy)
    parts = [strategy, *getattr(whole, "__dict__", {}).values()]
    parts += [inner for part in parts[1:] for inner in getattr(part, "__dict__", {}).values()]
    for part in parts:
        name = getattr(part, "__module__", None) or type(part).__module__
        found.append(name)
    return found


INSTALLED = {"site-packages", "dist-packages"}
"""Folders that hold what is installed."""


def packages(modules: Iterable[str] = (), folders: Iterable[Path] = ()) -> list[str]:
    """Return the files and folders to ship: Sunflower, some modules and what these import.

    Args:
        modules: by name; those that are installed, built in or not to be found are left out.
        folders: all that can be imported from these is shipped too.
    """
    search = [os.getcwd(), *(p or os.getcwd() for p in sys.path)]
    found: dict[str, Path] = {}
    for name in OURS:
        found[name] = Path(__file__).parents[3] / name
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.suffix == ".py" or (path / "__init__.py").is_file():
                found.setdefault(path.stem, path)
    left = [name.partition(".")[0] for name in modules]
    while left:
        name = left.pop()
        own = None if name in found else _of_user(name, search)
        if own is not None:
            found[name] = own
            left += imports(own)
    return [str(path) for path in found.values()]


def _of_user(name: str, search: list[str]) -> Path | None:
    """Return the file or folder of a top-level module; None if it is none of the user's."""
    if name in sys.stdlib_module_names or name == "__main__":
        return None
    spec = PathFinder.find_spec(name, search)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin).resolve()
    path = path.parent if spec.submodule_search_locations is not None else path
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    installed |= {*site.getsitepackages(), site.getusersitepackages()}
    if INSTALLED & {*path.parts}:  # Of an environment below this one, which a .pth file names.
        return None
    return None if any(path.is_relative_to(Path(p).resolve()) for p in installed) else path


def imports(path: Path) -> list[str]:
    """Return the top-level modules that a file, or any file of a folder, imports."""
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    names = {name for file in files for name in _imported(file)}
    return sorted(names)


def _imported(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return  # It may be no module of theirs; if it is, the import will say so.
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.partition(".")[0]


def runtime_env(ship: Iterable[str]) -> dict[str, Any]:
    """Return Ray's runtime environment that takes files and folders along; empty for none."""
    modules = list(ship)
    return {"py_modules": modules, "excludes": list(LEFT)} if modules else {}
