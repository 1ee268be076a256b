"""What a model takes: one array, or several of them, in a tuple or by name.

All arrays of an input have one row per example. Everything that handles examples goes through
these functions, so that it need not know which of the three it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

Inputs = NDArray[Any] | tuple[NDArray[Any], ...] | dict[str, NDArray[Any]]
"""[N, ...], or several arrays of N rows."""


def each(function: Callable[..., Any], inputs: Any, *others: Any) -> Any:
    """Return inputs of the same structure: ``function`` of every array (and of its like)."""
    if isinstance(inputs, dict):
        return {k: function(v, *(other[k] for other in others)) for k, v in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(function(*group) for group in zip(inputs, *others, strict=True))
    return function(inputs, *others)


def arrays(inputs: Any) -> list[Any]:
    """Return the arrays alone, in order."""
    if isinstance(inputs, dict):
        return list(inputs.values())
    return list(inputs) if isinstance(inputs, tuple) else [inputs]


def count(inputs: Inputs) -> int:
    """Return how many examples there are."""
    return len(arrays(inputs)[0])


def rows(inputs: Inputs, at: Any) -> Inputs:
    """Return the examples at ``at``: row numbers or a slice."""
    taken: Inputs = each(lambda array: array[at], inputs)
    return taken


def shapes(inputs: Inputs) -> Any:
    """Return the shape of one example: a tuple, or several in the structure of the inputs."""
    return each(lambda array: tuple(array.shape[1:]), inputs)
