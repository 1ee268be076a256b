"""What trains a round, as the loop sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from simulation.engines.evaluation import Pending
from simulation.records.rows import Rows
from simulation.worker.faults import Lost
from strategies.protocols import State
from strategies.spec import Spec, Vector


class RoundError(RuntimeError):
    """A round that could not be completed."""


@contextmanager
def zero_weights(round: int, rows: Rows) -> Iterator[None]:
    """Turn a division by the weights of clients without examples into a RoundError that says so."""
    try:
        yield
    except (ValueError, ZeroDivisionError) as error:
        if np.any(rows["examples"]) or not len(rows["examples"]):
            raise
        raise RoundError(
            f"round {round}: all weights are 0, as none of its {len(rows['examples'])} clients "
            "has examples"
        ) from error


class DivergedError(RoundError):
    """A round after which the model is no longer finite."""


@dataclass(frozen=True)
class RoundResult:
    """A trained round.

    Args:
        model: the next model [P].
        rows: a row per client that contributed.
        bytes_up: bytes that clients sent.
        bytes_down: bytes that they received.
        lost: clients that failed, with reasons.
        absent: clients that were asked and whose work does not count, as simulated.
        notes: numbers of the strategy's own, for the round's record.
        events: columns of ``events.parquet``, where the run has a clock.
    """

    model: Vector
    rows: Rows
    bytes_up: int
    bytes_down: int
    lost: tuple[Lost, ...] = ()
    absent: Mapping[int, str] = field(default_factory=dict)
    notes: Mapping[str, float | None] = field(default_factory=dict)
    events: Mapping[str, Any] | None = None


class Driver(Protocol):
    """How one kind of strategy trains and evaluates clients."""

    spec: Spec
    full_batch: bool

    def train(self, round: int, model: Vector) -> RoundResult:
        """Train one round from ``model``."""

    def evaluate(self, round: int, model: Vector, clients: list[int]) -> Pending:
        """Start measuring ``model`` on clients: ``(a row per client, means by name)``."""

    def evaluate_all(self, model: Vector) -> Pending | None:
        """Start measuring the final model on every client; None where the run is not to."""

    @property
    def state(self) -> State:
        """The strategy's server state."""
