"""What can be found wrong with a run before Ray, TensorFlow or a folder is touched."""

from __future__ import annotations

import ast
import os
import socket
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from flwr.serverapp.strategy import Strategy

from simulation.experiment import ConfigError, Experiment
from strategies import Federated
from strategies.core import ClientRule

ANSWER = 10.0
"""Seconds within which a cluster must answer."""


def check(experiment: Experiment, path: Path) -> None:
    """Check the run folder, the model's name and the cluster's address.

    Raises:
        ConfigError: naming the field, the rule and the value received.
    """
    check_writable(path)
    if ":" in experiment.model:
        find_statically("model", experiment.model)
    resources = experiment.resources
    if resources.engine == "ray" and resources.address is not None:
        check_address(resources.address)


def check_address(address: str) -> None:
    """Raise ConfigError when nothing answers at ``host:port``: Ray itself would try for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdigit():
        return  # "auto" and the like, which Ray looks up
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            "resources.address must be that of a running Ray cluster, "
            f"got {address!r} ({getattr(error, 'strerror', None) or error})"
        ) from None


def check_writable(path: Path) -> None:
    """Raise ConfigError when a run folder could not be made at ``path``."""
    nearest = next(p for p in [path, *path.absolute().parents] if p.exists())
    if not nearest.is_dir():
        raise ConfigError(f"out must be a folder, got {path} ({nearest} is a file)")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(f"out must be a folder, got {path} ({nearest} is not writable)")


def check_realism(experiment: Experiment, ours: bool) -> None:
    """Raise ConfigError when what ``realism`` simulates cannot be had with an engine or strategy.

    Args:
        experiment: the experiment.
        ours: whether the strategy is one of our algorithms, not a Flower object.
    """
    plan = experiment.realism
    if plan.active and experiment.resources.engine == "flower":
        raise ConfigError("realism must be left out with resources.engine 'flower'")
    if plan.over_selection and not ours:
        raise ConfigError(
            "realism.over_selection must be 0 with a Flower strategy, which draws its own cohort, "
            f"got {plan.over_selection:g}"
        )


def check_resume(experiment: Experiment, strategy: Strategy) -> None:
    """Raise ConfigError when what clients keep is not in the checkpoint.

    Args:
        experiment: the experiment.
        strategy: what it runs.
    """
    rule = strategy.algorithm.client if isinstance(strategy, Federated) else ClientRule()
    if experiment.resources.engine == "flower" and (rule.own or rule.local):
        raise ConfigError(
            "resources.engine must be 'ray' or 'inline' to resume a run whose clients keep state, "
            "got 'flower', which does not give it out"
        )


def find_statically(field: str, reference: str) -> None:
    """Look for ``module:function`` without importing the module, which may load TensorFlow.

    What only an import can show is left to the workers.

    Args:
        field: the option that holds the reference, for the messages.
        reference: module and function.

    Raises:
        ConfigError: if it is not of that form, there is no such module, it does not parse, or it
            defines no such name.
    """
    module, colon, name = reference.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module.split("."), name]):
        raise ConfigError(f"{field} must be module:function, got {reference!r}")
    try:
        source = _source(module)
        tree = None if source is None else ast.parse(source.read_bytes(), str(source))
    except (ImportError, SyntaxError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(
            f"{field} must name a module that imports, got {reference!r} ({reason})"
        ) from None
    if tree is not None and not {name, "*", "__getattr__"} & set(_names(tree)):
        raise ConfigError(
            f"{field} must name a function, got {reference!r} ({name} is not in {module})"
        )


def _source(module: str) -> Path | None:
    """Return a module's file; None when it is no Python source."""
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


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).split(".")[0]
