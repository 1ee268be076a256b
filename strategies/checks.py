"""Checks of option values; every message names the field, the rule and the value received."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from math import floor, isfinite
from numbers import Integral, Real
from typing import Any

_RULES: dict[str, Callable[[float], bool]] = {
    "finite": lambda v: True,
    ">= 0": lambda v: v >= 0,
    ">= 1": lambda v: v >= 1,
    "> 0": lambda v: v > 0,
    "in [0, 1]": lambda v: 0 <= v <= 1,
    "in [0, 1)": lambda v: 0 <= v < 1,
    "in (0, 1]": lambda v: 0 < v <= 1,
    "in [0, 0.5)": lambda v: 0 <= v < 0.5,
}


def number(field: str, value: Any, rule: str, *, schedule: bool = False) -> None:
    """Raise ValueError unless ``value`` is a finite number that keeps ``rule``.

    Args:
        field: the option's name, for the message.
        value: what was given.
        rule: such as ``">= 0"`` or ``"in [0, 1)"``.
        schedule: accept a function of the round as well (its values are checked when used).
    """
    if schedule and callable(value):
        return
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{field} must be a number {rule}, got {value!r}")
    if not isfinite(value) or not _RULES[rule](float(value)):
        raise ValueError(f"{field} must be {rule}, got {value!r}")


def integer(field: str, value: Any, rule: str) -> None:
    """Raise ValueError unless ``value`` is a whole number that keeps ``rule``."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{field} must be a whole number {rule}, got {value!r}")
    if not _RULES[rule](float(value)):
        raise ValueError(f"{field} must be {rule}, got {value!r}")


def count_or_share(field: str, value: Any) -> None:
    """Raise ValueError unless ``value`` is a whole number >= 1 or a share in [0, 0.5)."""
    bad = isinstance(value, bool) or not isinstance(value, Real) or not isfinite(value)
    if bad or not (0 <= value < 0.5 or (value >= 1 and value == floor(value))):
        raise ValueError(
            f"{field} must be a whole number >= 1 or a share in [0, 0.5), got {value!r}"
        )


def part_of(share: float, whole: int) -> int:
    """Return ``floor(share * whole)`` as a person means it: 0.29 of 100 is 29, not 28.999."""
    return floor(share * whole + 1e-9)


def boolean(field: str, value: Any) -> None:
    """Raise ValueError unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{field} must be true or false, got {value!r}")


def one_of(field: str, value: Any, allowed: Iterable[str]) -> None:
    """Raise ValueError unless ``value`` is one of ``allowed``; the message names the nearest."""
    options = list(allowed)
    if value in options:
        return
    if not options:
        raise ValueError(f"{field} must be left out (there is none), got {value!r}")
    nearest = get_close_matches(str(value), options, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise ValueError(f"{field} must be one of {', '.join(options)}, got {value!r}{hint}")
