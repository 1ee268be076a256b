"""How a cohort's updates go through a reducer: one after the other, merged, and as a mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from strategies.optional_protocols import (
    AdaptsToRound,
    AveragesNobody,
    FinishesInRound,
    FoldsMany,
    MergesInPlace,
    WrapsReducer,
    offers,
)
from strategies.protocols import Reducer, Round, State
from strategies.updates import Mean, Update


def fold_all(reducer: Reducer, partial: Any | None, updates: Sequence[Update]) -> Any:
    """Fold updates one after the other; at once where the reducer :class:`FoldsMany`."""
    if isinstance(reducer, FoldsMany):
        return reducer.fold_many(partial, updates)
    for update in updates:
        partial = reducer.fold(partial, update)
    return partial


def merge_all(reducer: Reducer, partials: Iterable[Any], own: bool = False) -> Any:
    """Merge partials from the left: ``merge(merge(a, b), c)``; None stands for nothing.

    Where the reducer :class:`MergesInPlace`, nothing but the first result is allocated.

    Args:
        reducer: of the cohort.
        partials: what to merge.
        own: whether the first of them may be changed.

    Returns:
        The total, None if there is nothing.
    """
    absorb = cast(Any, reducer).absorb if offers(reducer, MergesInPlace) else reducer.merge
    total, fresh = None, own
    for partial in partials:
        if partial is None:
            continue
        if total is None:
            total = partial
        else:
            total, fresh = (absorb if fresh else reducer.merge)(total, partial), True
    return total


def bound(reducer: Any, shared: Mapping[str, Any]) -> Any:
    """Return ``reducer`` for a round in which the server shares ``shared``.

    One that :class:`AdaptsToRound` gives another for each round; all others stay as they are.
    """
    return reducer.at(shared) if offers(reducer, AdaptsToRound) else reducer


def during(reducer: Any, at: Round, state: State) -> Any:
    """Return ``reducer`` for the end of a round that began with the server's ``state``.

    One that :class:`FinishesInRound` gives another, behind reducers that wrap it too; all others
    stay as they are.
    """
    if isinstance(reducer, WrapsReducer):
        inside = during(reducer.reducer, at, state)
        if inside is not reducer.reducer:
            reducer = replace(cast(Any, reducer), reducer=inside)
    return reducer.during(at, state) if isinstance(reducer, FinishesInRound) else reducer


def finish(reducer: Reducer, partial: Any | None, size: int) -> Mean | None:
    """Return the mean of a cohort that may be empty.

    Args:
        reducer: of the cohort; of nobody only one that :class:`AveragesNobody` has a mean.
        partial: the cohort's total; None if nobody came.
        size: P of the model.

    Returns:
        The mean; None where there is none.
    """
    if partial is not None:
        return reducer.finish(partial)
    return reducer.nobody(size) if isinstance(reducer, AveragesNobody) else None
