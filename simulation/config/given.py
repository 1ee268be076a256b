"""What the driver hands to its workers by value: functions of a script or a notebook, and files.

What can be imported travels by its name, ``module:function``. The rest is kept here under a name
with a :func:`~simulation.config.fingerprint.fingerprint`, such as ``__main__:net@0f3a9c1b22d4``,
and goes along with a run's :class:`~simulation.worker.setup.Setup`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from simulation.config import initial
from simulation.config.errors import ConfigError, one_line
from simulation.config.fingerprint import fingerprint, is_importable

_functions: dict[str, Callable[..., Any]] = {}

_opened: dict[str, bytes] = {}


@dataclass(frozen=True)
class Given:
    """What goes along with a run.

    Args:
        functions: pickled, by their names.
        files: contents, by their sha256.
    """

    functions: Mapping[str, bytes] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


def name_of(function: Callable[..., Any]) -> str:
    """Return a function's name in an experiment, under which this process finds it from now on."""
    if is_importable(function):
        return f"{function.__module__}:{function.__qualname__}"
    whole: Any = function.func if isinstance(function, partial) else function
    if not hasattr(whole, "__qualname__"):
        whole = type(whole)
    name = f"{whole.__module__}:{whole.__qualname__}@{fingerprint(function)}"
    _functions[name] = function
    return name


def function(name: str) -> Callable[..., Any] | None:
    """Return the function that was given under a name; None if there was none."""
    return _functions.get(name)


def admit(given: Given) -> None:
    """Take what the driver has handed over, in a worker.

    Raises:
        ConfigError: a function that cannot be had here.
    """
    initial.keep(given.files)
    for name, data in given.functions.items():
        if _opened.get(name) == data:
            continue
        try:
            _functions[name] = pickle.loads(data)
        except Exception as error:  # it may import modules of the user's, which may raise anything
            raise ConfigError(
                f"{name.partition('@')[0]} must be a function that workers can take over, "
                f"got {name!r} ({one_line(error)})"
            ) from error
        _opened[name] = data
