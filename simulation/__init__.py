"""Federated learning with hundreds to thousands of Keras clients on Ray.

A guided tour::

    from simulation import Experiment, simulate
    result = simulate(Experiment(dataset="fashion-mnist-mini", clients=100, rounds=10))
    result.rounds[-1]["server_accuracy"], result.path

Names are loaded when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulation.config.errors import ConfigError as ConfigError
    from simulation.config.experiment import Experiment as Experiment
    from simulation.listeners.listener import Listener as Listener
    from simulation.runs.run import Result as Result
    from simulation.runs.run import simulate as simulate


_HOMES = {
    "ConfigError": "simulation.config.errors",
    "Experiment": "simulation.config.experiment",
    "Listener": "simulation.listeners.listener",
    "Result": "simulation.runs.run",
    "simulate": "simulation.runs.run",
}

__all__ = ["ConfigError", "Experiment", "Listener", "Result", "simulate"]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
