"""Grids that grow where the best of them lies at their end.

A line search from what was chosen: of what lies at the end of its grid, the next value is tried,
with all else as it was chosen, until one further out is no better.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import isclose
from typing import Any

from simulation.config.errors import ConfigError
from simulation.studies.campaign import Plan
from simulation.studies.study import CLIENT_RATE, Study
from simulation.studies.tuning import SERVER_RATE, Choice, Trial, planned

SERVERS = f"server_{SERVER_RATE}"
"""What a choice calls its server's learning rate."""


def further(
    study: Study, choices: Sequence[Choice], given: Mapping[str, Any]
) -> tuple[list[Trial], Plan]:
    """Return the next trials of all choices that lie at an end of their grid, and their runs.

    A value that a strategy does not take, as a momentum of 1, ends its grid.

    Args:
        study: the study.
        choices: what is the best until now.
        given: dotted keys that replace those of the base experiment.
    """
    found: list[Trial] = []
    plan: Plan = {}
    for choice in choices:
        for trial in _beyond(choice):
            try:
                named, runs = planned(study, trial, given)
            except ConfigError:
                continue
            found.append(named)
            plan |= runs
    return found, plan


def _beyond(choice: Choice) -> Iterator[Trial]:
    """Yield the best trial with one value moved out of its grid by a step."""
    best = choice.best
    for name in choice.at_edge:
        mine = _value(best, name)
        tried = {_value(t, name) for t in choice.scores}
        step = next_value(sorted(v for v in tried if v is not None), mine)
        if step is not None:
            yield _with(best, name, step)


def _value(trial: Trial, name: str) -> float | None:
    """Return what a trial has for what a choice calls so."""
    if name == CLIENT_RATE.rsplit(".", 1)[-1]:
        return trial.client
    return trial.server if name == SERVERS else dict(trial.options)[name]


def _with(trial: Trial, name: str, value: float) -> Trial:
    """Return a trial with one value changed, and no runs yet."""
    if name == SERVERS:
        return replace(trial, server=value, runs=())
    if name in dict(trial.options):
        return replace(trial, options=tuple({**dict(trial.options), name: value}.items()), runs=())
    return replace(trial, client=value, runs=())


def next_value(values: Sequence[float], edge: float | None) -> float | None:
    """Return the value after the end of a grid, by its own step there; None where it has none.

    A grid of equal differences goes on by the difference, any other by the ratio.

    Args:
        values: those tried, ascending, two or more; whole numbers go on as such.
        edge: the first or the last of them.
    """
    if edge is None or len(values) < 2 or edge not in (values[0], values[-1]):
        return None
    near = values[1] if edge == values[0] else values[-2]
    gaps = [b - a for a, b in pairwise(values)]
    if len(gaps) > 1 and all(isclose(gap, gaps[0], rel_tol=1e-6) for gap in gaps):
        found = 2 * edge - near
    elif min(edge, near) > 0:
        found = edge * edge / near
    else:
        return None
    if all(isinstance(value, int) for value in values):
        return round(found)
    return float(f"{found:.3g}")
