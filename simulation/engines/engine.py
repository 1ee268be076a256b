"""An engine: how calls reach executors. It knows neither rounds nor messages.

What is done with it stands beside it: :func:`~simulation.engines.cohort.train_cohort` trains and
folds a cohort, :class:`~simulation.engines.evaluation.Evaluations` measures,
:class:`~simulation.engines.client_ledger.ClientLedger` lists what clients keep.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from simulation.datasets.dataset import Dataset
from simulation.engines.calls import Call, Info, Save
from simulation.engines.client_ledger import ClientLedger
from simulation.population.partition import AnyPartition
from simulation.records.timeline import Timeline
from simulation.training.measured import ModelInfo
from simulation.worker.setup import Setup
from strategies.spec import Vector

Progress = Callable[[str, int, int], None]
"""``progress(kind, clients, examples)``: some clients are done."""


class Engine(ABC):
    """Executors, in this process or in many.

    Args:
        progress: called as clients finish.
    """

    lanes = 1
    """How many clients an executor trains side by side, as it tells."""

    folds = True
    """Whether its executors train our clients, whose updates are folded where they are made."""

    setup: Setup
    data: Dataset
    partition: AnyPartition
    ledger: ClientLedger

    def __init__(self, progress: Progress | None = None) -> None:
        self.progress = progress or (lambda kind, clients, examples: None)
        self.round = 0  # the one under way, for titles
        self.timeline = Timeline()  # what executors did and when, where the engine knows it

    @abstractmethod
    def start(self, setup: Setup, data: Dataset, partition: AnyPartition) -> None:
        """Get executors ready for an experiment."""

    @abstractmethod
    def share(self, value: Any) -> Any:
        """Put a value where every executor reads it without copies; pass the handle in calls."""

    @abstractmethod
    def submit(
        self, call: Call, done: Callable[[], None] | None = None, attempts: int | None = None
    ) -> Any:
        """Queue a call and return its ticket.

        Args:
            call: what to do.
            done: called when the call has succeeded.
            attempts: how many workers it may take down; as the experiment says when None.
        """

    @abstractmethod
    def result(self, ticket: Any, timeout: float | None = None) -> Any:
        """Wait for a ticket and return what the call returned (of training: without states).

        Raises:
            TimeoutError: when ``timeout`` seconds have passed.
        """

    @abstractmethod
    def values_of(self, tickets: Sequence[Any]) -> list[Any]:
        """Wait for tickets; return handles on their values, without fetching these."""

    def expect(self, tickets: Sequence[Any], size: int) -> None:
        """Hear which values are asked for next.

        Args:
            tickets: calls, done or not.
            size: bytes of the value of each, about.
        """
        return  # Values that are made here are at hand.

    @abstractmethod
    def close(self) -> None:
        """Release every resource."""

    def do(self, call: Call) -> Any:
        """Queue a call, wait for it and return what it returned."""
        return self.result(self.submit(call))

    def info(self) -> ModelInfo:
        """Return the model's layout and initial weights."""
        found: ModelInfo = self.do(Info())
        self.lanes = found.lanes
        return found

    def save(self, model: Vector) -> bytes:
        """Return a model as the bytes of a ``.keras`` file."""
        return bytes(self.do(Save(model=self.share(model))))

    def begin_round(self, round: int) -> None:
        """Get ready for a round, with what has joined the pool."""
        self.round = round

    @property
    def workers(self) -> int:
        """How many executors there are."""
        return 1

    @property
    def effective_workers(self) -> int:
        """How many executors as slow as the slowest do as much: says how small portions must be."""
        return self.workers

    def min_cost(self, total: float) -> float:
        """Return the cost of a portion that need not be smaller.

        Args:
            total: cost of the round (see :func:`schedule.weights`).
        """
        return 0.0

    @property
    def far(self) -> bool:
        """Whether results are so long on the way that they are worth compressing."""
        return False

    @property
    def homes(self) -> Mapping[str, float]:
        """Hosts that merge what is made there before it travels: how fast each is, by node.

        Empty where all is on one machine, or where nobody knows.
        """
        return {}

    def place_of(self, ticket: Any) -> str:
        """Return the node that has done a call; "" where nobody knows."""
        return ""

    @property
    def here(self) -> str:
        """This process's own node; "" where that is not known."""
        return ""

    def seconds(self, total: float) -> float:
        """Return how long a round of some cost will take; 0 while that is not known.

        Args:
            total: cost of the round.
        """
        return 0.0

    @property
    def memory(self) -> list[float]:
        """Memory of each node that holds executors, in bytes; empty where nothing is known."""
        return []

    @property
    def busy(self) -> float | None:
        """Seconds that executors have worked, all of them together; None where nobody counts."""
        return None
