"""Values that depend on the round: server learning rates, proximal mu, clients' learning rates.

Clients' learning rates are the experiment's ``training.learning_rate`` times what
``training.decay`` says of a round. Every schedule is a function of the round's number, which counts
from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from math import cos, pi, sqrt
from typing import Any

from strategies import checks

Schedule = Callable[[int], float]
"""A value that depends on the round: ``schedule(round)``, rounds counted from 1."""


def at_round(value: float | Schedule, round: int) -> float:
    """Return ``value``, or what a schedule gives for ``round``."""
    return float(value(round)) if callable(value) else float(value)


@dataclass(frozen=True)
class Constant:
    """The same value every round: ``value``.

    Args:
        value: a finite number.

    Raises:
        ValueError: if it is none.
    """

    value: float

    def __post_init__(self) -> None:
        checks.number("value", self.value, "finite")

    def __call__(self, round: int) -> float:
        """Return the value of a round."""
        return self.value


@dataclass(frozen=True)
class Step:
    """Multiply every so many rounds: ``value * factor ** ((round - 1) // every)``.

    Args:
        value: in the first rounds.
        every: rounds between two changes, >= 1.
        factor: what the value is multiplied by, > 0.

    Raises:
        ValueError: if an argument is out of its range.
    """

    value: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        checks.number("value", self.value, "finite")
        checks.integer("every", self.every, ">= 1")
        checks.number("factor", self.factor, "> 0")

    def __call__(self, round: int) -> float:
        """Return the value of a round."""
        return self.value * self.factor ** ((round - 1) // self.every)


@dataclass(frozen=True)
class Exponential:
    """Multiply every round: ``value * factor ** (round - 1)``.

    Args:
        value: in round 1.
        factor: what the value is multiplied by, > 0.

    Raises:
        ValueError: if an argument is out of its range.
    """

    value: float
    factor: float

    def __post_init__(self) -> None:
        checks.number("value", self.value, "finite")
        checks.number("factor", self.factor, "> 0")

    def __call__(self, round: int) -> float:
        """Return the value of a round."""
        return float(self.value * self.factor ** (round - 1))


@dataclass(frozen=True)
class WarmUp:
    """Rise to the first value of a schedule, then follow it.

    With w rounds and a schedule f it is ``f(1) * round / (w + 1)`` up to round w, ``f(round - w)``
    after that.

    Args:
        schedule: what follows.
        rounds: w, >= 0.

    Raises:
        ValueError: if an argument is out of its range.

    Source: gradual warm-up, Goyal et al. (2017), arXiv 1706.02677.
    """

    schedule: Schedule
    rounds: int

    def __post_init__(self) -> None:
        checks.integer("rounds", self.rounds, ">= 0")

    def __call__(self, round: int) -> float:
        """Return the value of a round."""
        if round <= self.rounds:
            return self.schedule(1) * round / (self.rounds + 1)
        return self.schedule(round - self.rounds)


@dataclass(frozen=True)
class Cosine:
    """Fall along half a cosine: ``end + (value - end) * (1 + cos(pi * t)) / 2``.

    ``t`` runs from 0 in round 1 to 1 in round ``rounds``, and stays there.

    Args:
        value: in round 1.
        rounds: the round in which ``end`` is reached, >= 1.
        end: the last value.

    Raises:
        ValueError: if an argument is out of its range.

    Source: without restarts, Loshchilov and Hutter (2017), arXiv 1608.03983.
    """

    value: float
    rounds: int
    end: float = 0.0

    def __post_init__(self) -> None:
        checks.number("value", self.value, "finite")
        checks.integer("rounds", self.rounds, ">= 1")
        checks.number("end", self.end, "finite")

    def __call__(self, round: int) -> float:
        """Return the value of a round."""
        t = min((round - 1) / (self.rounds - 1), 1.0) if self.rounds > 1 else 1.0
        return self.end + (self.value - self.end) * (1 + cos(pi * t)) / 2


@dataclass(frozen=True)
class InverseSqrt:
    """Fall with the root of the round: ``value / sqrt(1 + (round - 1) / scale)``.

    Args:
        value: in round 1.
        scale: rounds after which it has fallen to ``value / sqrt(2)``, > 0.

    Raises:
        ValueError: if an argument is out of its range.
    """

    value: float
    scale: float = 1.0

    def __post_init__(self) -> None:
        checks.number("value", self.value, "finite")
        checks.number("scale", self.scale, "> 0")

    def __call__(self, round: int) -> float:
        """Return the value of a round."""
        return self.value / sqrt(1 + (round - 1) / self.scale)


KINDS: dict[str, Callable[..., Schedule]] = {
    "constant": Constant,
    "step": Step,
    "exponential": Exponential,
    "cosine": Cosine,
    "inverse-sqrt": InverseSqrt,
}
"""Schedules by the name that a table gives them."""


def from_table(name: str, table: Mapping[str, Any]) -> Schedule:
    """Return the schedule that a table describes: its ``kind``, what that takes, a ``warmup``.

    ::

        {"kind": "exponential", "value": 0.1, "factor": 0.99, "warmup": 5}

    Args:
        name: of the option, for messages.
        table: one of :data:`KINDS`, its arguments, and the rounds of a warm-up.

    Raises:
        ValueError: for another kind, or arguments that it does not take, lacks or excludes.
    """
    given = dict(table)
    kind, warmup = given.pop("kind", None), given.pop("warmup", 0)
    checks.one_of(f"{name}.kind", kind, KINDS)
    checks.integer(f"{name}.warmup", warmup, ">= 0")
    for key in ("value", "end"):  # What options may be over rounds is never negative.
        if key in given:
            checks.number(f"{name}.{key}", given[key], ">= 0")
    known = {field.name: field.default is MISSING for field in fields(KINDS[kind])}  # type: ignore[arg-type]
    for key in given:
        checks.one_of(f"key of {name}", key, ("kind", "warmup", *known))
    for key, needed in known.items():
        if needed and key not in given:
            raise ValueError(f"{name}.{key} must be given for the kind {kind!r}, got none")
    try:
        schedule = KINDS[kind](**given)
        return WarmUp(schedule, warmup) if warmup != 0 else schedule
    except ValueError as error:
        raise ValueError(f"{name}.{error}") from None


def in_words(table: Mapping[str, Any]) -> str:
    """Return a table of a schedule as a label has it: ``exponential(value=0.1, factor=0.99)``."""
    given = ", ".join(f"{key}={value}" for key, value in table.items() if key != "kind")
    return f"{table.get('kind')}({given})"
