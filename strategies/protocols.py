"""The protocols of a reducer, a server rule and noise, each with the laws that it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from strategies.spec import Vector
from strategies.updates import Mean, Update

State = Mapping[str, Any]
"""Server state: names to arrays or numbers, so that a checkpoint is (model, state)."""


@dataclass(frozen=True)
class Round:
    """Where we are: the round's number (from 1), how many clients are registered, the seed.

    Without a seed random numbers are the operating system's: nobody can draw them again.
    """

    number: int
    population: int
    seed: int | None = 0


class Reducer(Protocol):
    """How the updates of a cohort become one.

    Law: for any split of the clients into groups, merging the groups' partials gives the same
    mean (to 1e-12), and ``merge`` never changes its arguments' meaning: ``fold(p, u)`` equals
    ``merge(p, lift(u))`` and may reuse ``p``.
    """

    def lift(self, update: Update) -> Any:
        """Turn one update into a partial (runs on the worker, once per client)."""

    def merge(self, a: Any, b: Any) -> Any:
        """Join two partials; neither is changed."""

    def fold(self, partial: Any | None, update: Update) -> Any:
        """Add an update to a partial of one's own, which may be changed; None starts one."""

    def finish(self, partial: Any) -> Mean:
        """Turn the total into the cohort's mean update (runs on the server)."""


class ServerRule(Protocol):
    """How the cohort's mean moves the model.

    The engine calls it on the trainable part; what lies behind it (moving statistics) is
    averaged, whatever the rule. Law: equal inputs give equal outputs and inputs are not changed.
    """

    def init(self, model: Vector) -> State:
        """Return the state before round 1 for a model [T]."""

    def step(self, model: Vector, state: State, mean: Mean, at: Round) -> tuple[Vector, State]:
        """Return the next model (same dtype as ``model``) and the next state."""

    def share(self, state: State) -> Mapping[str, Any]:
        """Return what clients get besides the model: vectors [T] or numbers, by name."""


class Noise(Protocol):
    """What the server adds to the cohort's mean before using it, for differential privacy.

    Law: equal means in equal rounds get equal noise, unless the round has no seed.
    """

    def __call__(self, mean: Mean, at: Round, /) -> Mean:
        """Return the mean with noise."""
