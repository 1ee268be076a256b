"""The table ``[sweep]`` of a study: which keys of the experiment take which values.

::

    [sweep]
    partition.alpha = [0.1, 1.0]                                      # a list
    clients = { start = 10, stop = 1000, num = 3, log = true }        # a range: 10, 100, 1000
    strategy.mu = { start = 0.5, stop = 2.0, step = 0.5 }             # stop is part of it

    [[sweep.paired]]                                                  # keys that move together
    rounds = [100, 50]
    training.local_epochs = [1, 2]

Lists and ranges are crossed with each other; the lists of a ``paired`` table go side by side.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from simulation.config.fields import is_number

PAIRED = "paired"
"""The key of tables whose lists go side by side."""

RANGE = frozenset(("start", "stop", "num", "step", "log"))
"""Keys of a range."""

ELSEWHERE = {
    "seed": "seeds",
    "strategy": "strategies",
    "strategy.name": "strategies",
    "mode": "baselines",
    "name": "name",
}
"""Keys that a study decides, and with which key of its own."""

MOST_POINTS = 100_000
"""Values of a range, at most."""

Point = dict[str, Any]
"""Dotted keys and the value that each takes."""


def axes(table: Mapping[str, Any]) -> list[list[Point]]:
    """Return the points of every axis of a ``[sweep]`` table: one for each list, range or pair.

    Raises:
        ValueError: naming the key, the rule and the value received.
    """
    plain = {key: value for key, value in table.items() if key != PAIRED}
    pairs = table.get(PAIRED, [])
    pairs = [pairs] if isinstance(pairs, Mapping) else pairs
    if not isinstance(pairs, list | tuple) or not all(isinstance(p, Mapping) for p in pairs):
        raise ValueError(f"sweep.{PAIRED} must be a table of lists, or several, got {pairs!r}")
    made = [[{key: v} for v in values] for key, values in _lists(plain)]
    for pair in pairs:
        made.append(_side_by_side(dict(_lists(pair))))
    _check_keys([key for axis in made for key in axis[0]])
    return made


def points(table: Mapping[str, Any]) -> list[Point]:
    """Return every combination of a ``[sweep]`` table's values; the last axis moves fastest.

    Example:
        >>> points({"clients": [10, 20], "paired": {"rounds": [1, 2], "cohort": [5, 4]}})[:2]
        [{'clients': 10, 'rounds': 1, 'cohort': 5}, {'clients': 10, 'rounds': 2, 'cohort': 4}]
    """
    crossed = itertools.product(*axes(table))
    return [{key: v for part in parts for key, v in part.items()} for parts in crossed]


def _lists(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Yield the dotted keys of a table with their values; ranges are counted out."""
    for name, value in table.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and not (RANGE & value.keys()):
            if not value:
                raise ValueError(f"sweep.{key} must be a list or a range, got {value!r}")
            yield from _lists(value, f"{key}.")
        elif isinstance(value, Mapping):
            yield key, counted(key, value)
        elif isinstance(value, list | tuple):
            yield key, _distinct(key, list(value))
        else:
            raise ValueError(f"sweep.{key} must be a list or a range, got {value!r}")


def _distinct(key: str, values: list[Any]) -> list[Any]:
    if not values:
        raise ValueError(f"sweep.{key} must have at least one value, got []")
    if any(value in values[:i] for i, value in enumerate(values)):
        raise ValueError(f"sweep.{key} must name nothing twice, got {values!r}")
    return values


def _side_by_side(lists: Mapping[str, list[Any]]) -> list[Point]:
    if len(lists) < 2:
        raise ValueError(
            f"sweep.{PAIRED} must have two keys or more that move together, got {list(lists)!r}"
        )
    sizes = {key: len(values) for key, values in lists.items()}
    if len(set(sizes.values())) > 1:
        text = ", ".join(f"{size} of {key}" for key, size in sizes.items())
        raise ValueError(f"sweep.{PAIRED} must have lists of equal length, got {text}")
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def _check_keys(keys: Sequence[str]) -> None:
    for key in keys:
        if key in ELSEWHERE:
            raise ValueError(f"sweep.{key} must be left out: a study has {ELSEWHERE[key]!r} for it")
        if keys.count(key) > 1:
            raise ValueError(f"sweep.{key} must stand in one place, got it twice")
        inside = [k for k in keys if k.startswith(f"{key}.")]
        if inside:
            raise ValueError(f"sweep.{inside[0]} must be left out where sweep.{key} is swept whole")


def counted(key: str, table: Mapping[str, Any]) -> list[Any]:
    """Return the values of a range.

    Args:
        key: what is swept, for the messages.
        table: ``start`` and ``stop``, both of which are part of it; ``num`` values, or a ``step``;
            ``log``: by equal ratios (a step is then a factor). From whole numbers to whole numbers
            there are only whole numbers: write 1.0 for fractions.

    Raises:
        ValueError: naming the key, the rule and the value received.

    Example:
        >>> counted("alpha", {"start": 0.1, "stop": 10.0, "num": 3, "log": True})
        [0.1, 1.0, 10.0]
    """
    place = f"sweep.{key}"
    for name in table:
        if name not in RANGE:
            raise ValueError(f"{place}.{name}: unknown key; known keys: {', '.join(sorted(RANGE))}")
    log = table.get("log", False)
    if not isinstance(log, bool):
        raise ValueError(f"{place}.log must be true or false, got {log!r}")
    if ("num" in table) == ("step" in table):
        raise ValueError(f"{place} must have num or step, got {dict(table)!r}")
    for name in ("start", "stop", *(n for n in ("num", "step") if n in table)):
        if name not in table:
            raise ValueError(f"{place}.{name} must be given, got {dict(table)!r}")
        if not is_number(table[name]) or not math.isfinite(table[name]):
            raise ValueError(f"{place}.{name} must be a number, got {table[name]!r}")
    start, stop = table["start"], table["stop"]
    if not start < stop:
        raise ValueError(f"{place}.stop must be > start ({start}), got {stop}")
    if log and start <= 0:
        raise ValueError(f"{place}.start must be > 0 with log, got {start}")
    values = list(_counted(place, start, stop, table, log))
    if isinstance(start, int) and isinstance(stop, int):
        whole = sorted({round(value) for value in values})
        if len(whole) < len(values):
            raise ValueError(
                f"{place} must have different whole numbers (write {start}.0 for fractions), "
                f"got {dict(table)!r}"
            )
        return whole
    return values


def _counted(
    place: str, start: float, stop: float, table: Mapping[str, Any], log: bool
) -> Iterator[float]:
    low, high = (math.log(start), math.log(stop)) if log else (start, stop)
    if "num" in table:
        num = table["num"]
        if num != int(num) or not 2 <= num <= MOST_POINTS:
            raise ValueError(
                f"{place}.num must be a whole number from 2 to {MOST_POINTS}, got {num}"
            )
        count, step = int(num), (high - low) / (num - 1)
    else:
        least = 1 if log else 0
        if table["step"] <= least:
            raise ValueError(f"{place}.step must be > {least}, got {table['step']}")
        step = math.log(table["step"]) if log else table["step"]
        count = math.floor((high - low) / step + 1e-9) + 1
        if count > MOST_POINTS:
            raise ValueError(f"{place} must have at most {MOST_POINTS} values, got {count}")
    for i in range(count):
        value = low + i * step
        # Twelve digits: 0.1 + 2 * 0.1 is to be 0.3.
        yield float(f"{math.exp(value) if log else value:.12g}")
