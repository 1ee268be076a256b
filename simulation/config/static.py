"""Looking for ``module:function`` without importing the module, which may load TensorFlow."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from simulation.config import plugins
from simulation.config.errors import ConfigError

CONSTANTS = (ast.Constant, ast.JoinedStr, ast.List, ast.Tuple, ast.Dict, ast.Set)
"""Values that are never functions."""

MAKERS = ("exec", "globals", "vars", "setattr")
"""Functions that may define names which the source does not show."""


def find(field: str, reference: str) -> None:
    """Check what can be seen of ``module:function`` here; the rest is left to the workers.

    Args:
        field: the option that holds the reference, for the messages.
        reference: module and function.

    Raises:
        ConfigError: if it is not of that form, there is no such module, it does not parse, or it
            defines no such name, or one that is no function.
    """
    try:
        if plugins.is_given(reference):
            plugins.resolve(field, reference)
            return
        module, name = plugins.split(field, reference)
        source = plugins.source_of(module)
        if source is not None:
            _check_source(field, reference, name, source)
        elif module in sys.modules:  # Built in or compiled, and loaded already.
            plugins.attribute(field, reference, sys.modules[module])
    except (ImportError, SyntaxError) as error:
        raise ConfigError(plugins.no_module(field, reference, error)) from None
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _check_source(field: str, reference: str, name: str, source: Path) -> None:
    tree = ast.parse(source.read_bytes(), str(source))
    bound: dict[str, list[ast.expr | None]] = {}
    for found, value in _bound(tree):
        bound.setdefault(found, []).append(value)
    if name in bound:
        if all(isinstance(value, CONSTANTS) for value in bound[name]):
            raise ValueError(plugins.no_function(field, reference))
    elif not {"*", "__getattr__"} & bound.keys() and not _may_be_made(tree, name):
        raise ValueError(plugins.no_name(field, reference))


def _bound(node: ast.AST) -> Iterator[tuple[str, ast.expr | None]]:
    """Yield the names that a module's own statements bind, with the value where it is plain."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name, None
        return
    if isinstance(node, ast.Lambda):
        return
    if isinstance(node, ast.Assign) and all(isinstance(t, ast.Name) for t in node.targets):
        yield from ((t.id, node.value) for t in node.targets if isinstance(t, ast.Name))
        yield from _bound(node.value)
        return
    if isinstance(node, ast.alias):
        yield (node.asname or node.name).split(".")[0], None
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id, None
    for child in ast.iter_child_nodes(node):
        yield from _bound(child)


def _may_be_made(tree: ast.AST, name: str) -> bool:
    """Tell whether a function may bind a name of the module: by ``global``, or out of sight."""
    return any(
        (isinstance(node, ast.Global) and name in node.names)
        or (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in MAKERS
        )
        for node in ast.walk(tree)
    )
