"""Functions of the user's own, named ``module:function`` in a configuration, or given as objects.

The script that is running is never imported a second time: its functions are taken from
``__main__``, whatever name they are called by.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from simulation.config import given
from simulation.config.errors import one_line

if TYPE_CHECKING:
    from simulation.config.experiment import Experiment


importing: ContextVar[bool] = ContextVar("importing", default=False)
"""Whether a module of the user's is being imported, in which no run may begin."""


def resolve(field: str, reference: str) -> Callable[..., Any]:
    """Return the function that ``reference`` (``package.module:function``) names.

    As :func:`find`, but raises ValueError too if what is found is not callable.
    """
    function = find(field, reference)
    if not callable(function):
        raise ValueError(no_function(field, reference))
    found: Callable[..., Any] = function
    return found


def find(field: str, reference: str) -> Any:
    """Return the object that ``reference`` (``package.module:name``) names.

    The folder that the command was started in is searched first, as ``python -m`` would.

    Args:
        field: the option that holds the reference, for the messages.
        reference: module and function, with one colon between them.

    Raises:
        ValueError: if it is not of that form, the module does not import, or the function is
            missing.
    """
    known = given.function(reference)
    if known is not None:
        return known
    if "@" in reference:
        return _again(field, reference)
    module_name, _ = split(field, reference)
    module = running(module_name)
    if module is None:
        try:
            module = _imported(module_name)
        except Exception as error:  # the module may raise anything while it is imported
            raise ValueError(no_module(field, reference, error)) from error
    return attribute(field, reference, module)


def _imported(name: str) -> ModuleType:
    folder = os.getcwd()
    sys.path.insert(0, folder)
    token = importing.set(True)
    try:
        return importlib.import_module(name)
    finally:
        importing.reset(token)
        # Last from now on: what the function itself imports is still found there, but a
        # folder of the user's named like an installed package hides it no longer.
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)


def _again(field: str, reference: str) -> Any:
    """Return a script's function whose name is one of :func:`simulation.config.given.name_of`."""
    place = reference.partition("@")[0]
    module_name, _, name = place.partition(":")
    found = getattr(running(module_name), name, None)
    if callable(found) and given.name_of(found) == reference:
        return found
    why = "is another one here" if callable(found) else "is not here"
    raise ValueError(
        f"{field} must be the function that the run began with, in the script or notebook that "
        f"began it, got {reference!r} ({name} {why})"
    )


def pinned(value: Any) -> Any:
    """Return the name of a function that is given as an object, or as ``__main__:function``.

    Anything else is returned as it is.
    """
    if callable(value):
        return given.name_of(value)
    if isinstance(value, str) and value.startswith("__main__:") and "@" not in value:
        found = getattr(sys.modules.get("__main__"), value.partition(":")[2], None)
        return given.name_of(found) if callable(found) else value
    return value


def is_given(reference: str) -> bool:
    """Tell whether a function goes to the workers by value: it is not to be imported there."""
    module, colon, _ = reference.partition(":")
    if not colon:
        return False
    return given.function(reference) is not None or "@" in reference or running(module) is not None


def to_give(experiment: Experiment) -> dict[str, Callable[..., Any]]:
    """Return the functions of an experiment that go to the workers by value, by name.

    Raises:
        ValueError: one that is not here.
    """
    # The driver loads the data, except for Flower's own engine.
    fields = ("model", "dataset") if experiment.resources.engine == "flower" else ("model",)
    named = {field: getattr(experiment, field) for field in fields}
    return {name: resolve(field, name) for field, name in named.items() if is_given(name)}


def running(name: str) -> ModuleType | None:
    """Return the script that is running, if ``name`` is its module's; None otherwise."""
    main = sys.modules.get("__main__")
    if name == "__main__" or main is None:
        return main
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return main if spec.name == name else None
    if file is None or Path(file).stem != name.rpartition(".")[2]:
        return None
    try:
        source = source_of(name)
    except (ImportError, ValueError):
        return None
    return main if source is not None and source.resolve() == Path(file).resolve() else None


def split(field: str, reference: str) -> tuple[str, str]:
    """Return module and name of ``module:name``; raise ValueError if it is not of that form."""
    module, colon, name = reference.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module.split("."), name]):
        raise ValueError(f"{field} must be module:function, got {reference!r}")
    return module, name


def attribute(field: str, reference: str, module: ModuleType) -> Any:
    """Return what a module has under the reference's name; raise ValueError if it has none."""
    name = reference.partition(":")[2]
    if not hasattr(module, name):
        raise ValueError(no_name(field, reference))
    return getattr(module, name)


def source_of(module: str) -> Path | None:
    """Return a module's file; None when it is no Python source.

    Raises:
        ImportError: when there is no such module.
    """
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        # A module of the working folder is not looked up among those that are loaded already.
        spec = PathFinder.find_spec(module, [folder]) or find_spec(module)
    finally:
        sys.path.remove(folder)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {module!r}")
    is_source = spec.origin is not None and spec.origin.endswith(".py")
    return Path(str(spec.origin)) if is_source else None


def no_module(field: str, reference: str, error: Exception) -> str:
    """Return what is said of a module that does not import."""
    return f"{field} must name a module that imports, got {reference!r} ({one_line(error)})"


def no_name(field: str, reference: str) -> str:
    """Return what is said of a name that its module lacks."""
    module, _, name = reference.partition(":")
    return f"{field} must name a function, got {reference!r} ({name} is not in {module})"


def no_function(field: str, reference: str) -> str:
    """Return what is said of a name that is no function's."""
    name = reference.partition(":")[2]
    return f"{field} must name a function, got {reference!r} ({name} is not callable)"
