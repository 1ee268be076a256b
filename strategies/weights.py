"""How a mean weighs its clients: by their examples, or all alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, cast

from strategies import checks
from strategies.algorithm import Algorithm
from strategies.optional_protocols import WeighsClients, WrapsReducer, innermost

Weights = Literal["examples", "uniform"] | None
"""A client's weight: its number of examples, or 1. None leaves it to how cohorts are drawn."""

BY_SIZE = ("by-size", "power-of-choice")
"""Ways of sampling that draw clients in proportion to their examples."""


def check_weights(by: Any) -> None:
    """Raise ValueError for other weights than those of :data:`Weights`."""
    if by is not None:
        checks.one_of("weights", by, ("examples", "uniform"))


def weight_of(examples: int, by: Weights) -> float:
    """Return a client's weight; ``"examples"`` where nothing was said."""
    return 1.0 if by == "uniform" else float(examples)


def weighed(algorithm: Algorithm, sampling: str | None) -> Algorithm:
    """Return the algorithm with the weights that suit a way of sampling, where it leaves them open.

    Clients that are drawn in proportion to n_i and then weighed by n_i count n_i^2: the mean over
    such a cohort is uniform. Weights that were chosen stay.

    Source: Li et al. (2020), arXiv 1907.02189, scheme I; Cho et al. (2020), arXiv 2010.01243, for
    power-of-choice.
    """
    if sampling not in BY_SIZE:
        return algorithm
    return replace(algorithm, reducer=_uniform(algorithm.reducer))


def weights_of(reducer: Any) -> Weights:
    """Return how a reducer weighs its clients; None for one that is no weighted mean."""
    behind = innermost(reducer)
    if not isinstance(behind, WeighsClients):
        return None
    return "uniform" if behind.by == "uniform" else "examples"


def _uniform(reducer: Any) -> Any:
    if isinstance(reducer, WrapsReducer):
        return replace(cast(Any, reducer), reducer=_uniform(reducer.reducer))
    if isinstance(reducer, WeighsClients) and reducer.by is None:
        return replace(cast(Any, reducer), by="uniform")
    return reducer
