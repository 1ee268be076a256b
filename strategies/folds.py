"""How a cohort's updates go through a reducer: one after the other, merged, and as a mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strategies.core import Mean, Update


def fold_all(reducer: Any, partial: Any | None, updates: Sequence[Update]) -> Any:
    """Fold updates one after the other; at once where the reducer has a ``fold_many``.

    ``fold_many(partial, updates)`` must give the bits of as many calls of ``fold``.
    """
    many = getattr(reducer, "fold_many", None)
    if many is not None:
        return many(partial, updates)
    for update in updates:
        partial = reducer.fold(partial, update)
    return partial


def merge_all(reducer: Any, partials: Iterable[Any], own: bool = False) -> Any:
    """Merge partials from the left: ``merge(merge(a, b), c)``; None stands for nothing.

    Where the reducer has an ``absorb(a, b)``, which gives what ``merge`` does and may change a,
    nothing but the first result is allocated.

    Args:
        reducer: a :class:`Reducer`.
        partials: what to merge.
        own: whether the first of them may be changed.

    Returns:
        The total, None if there is nothing.
    """
    absorb = getattr(reducer, "absorb", reducer.merge)
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

    A reducer that depends on it (an adaptive clipping norm) has a method ``at(shared)`` that
    returns one for the round; all others stay as they are.
    """
    at = getattr(reducer, "at", None)
    return at(shared) if at else reducer


def finish(reducer: Any, partial: Any | None, size: int) -> Mean | None:
    """Return the mean of a cohort that may be empty.

    A reducer that divides by a number fixed beforehand has a method ``nobody(size)``, which
    returns the mean of an empty cohort (None while the number is not known).

    Args:
        reducer: a :class:`Reducer`.
        partial: the cohort's total; None if nobody came.
        size: P of the model.

    Returns:
        The mean; None where there is none.
    """
    if partial is not None:
        return reducer.finish(partial)
    nobody = getattr(reducer, "nobody", None)
    return nobody(size) if nobody else None
