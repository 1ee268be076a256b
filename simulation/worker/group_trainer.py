"""Train the clients of a unit some at a time, across the borders of its chunks.

A chunk may be a single client, while a call of the backend costs as much as training some examples.
So one call trains the clients of several chunks, and the chunks take what is theirs. A client's
bits do not depend on those beside it. Where clients are trained side by side they may, and a call
stays within a chunk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from simulation.records.client_states import Handle
from simulation.training.client_config import AS_CONFIGURED, ClientConfig
from simulation.training.measured import TrainedClient
from simulation.worker.client_state import ClientState
from simulation.worker.setup import Setup


@dataclass(frozen=True)
class RoundInputs:
    """What clients train with in a round.

    Args:
        round: the round, from 1.
        model: global weights [P], or what a backend has placed.
        shared: what the server shares, by name.
        config: what the strategy decides of local training.
        parts: of stragglers, which part of their local work they do.
        lazy_delta: whether deltas may be computed when they are read.
    """

    round: int
    model: Any
    shared: Mapping[str, Any]
    config: ClientConfig = AS_CONFIGURED
    parts: Mapping[int, float] = field(default_factory=dict)
    lazy_delta: bool = False


class ClientTrainer(Protocol):
    """What trains the clients of a process."""

    setup: Setup

    @property
    def size(self) -> int:
        """P, how many weights the model has."""

    def group(self, clients: Sequence[int], chunk: int) -> int:
        """Return how many clients, of whom so many are of one chunk, are trained in one call."""

    @property
    def lanes(self) -> int:
        """How many clients are trained side by side."""

    def limit(self, clients: Sequence[int]) -> int:
        """Return how many clients of a chunk are trained side by side in one call."""

    def read(self, handle: Handle | None) -> ClientState | None:
        """Return the state that a handle stands for."""

    def train_clients(
        self, clients: Sequence[int], inputs: RoundInputs, states: Sequence[ClientState | None],
        *, beside: Sequence[int] | None = None,
    ) -> list[TrainedClient]:  # fmt: skip
        """Train clients in one call of the backend, as if beside others where some are given."""

    def put_away(self, trained: TrainedClient, round: int) -> Any:
        """Put what a client keeps where it is kept; return what is told of it."""


class GroupTrainer:
    """Clients of a unit, trained as its chunks ask for them.

    Args:
        trainer: of the process.
        inputs: round, model and what is shared.
        clients: all that may be asked for, in order.
        states: what each kept from its last round.
    """

    def __init__(
        self,
        trainer: ClientTrainer,
        inputs: RoundInputs,
        clients: Sequence[int],
        states: Sequence[Handle | None],
    ) -> None:
        self.trainer, self.inputs = trainer, inputs
        self.clients, self.states = clients, states
        self._asked = self._trained = 0  # so many of them, from the first one on
        self._ready: deque[tuple[int, TrainedClient]] = deque()
        self._alone = False

    def take(self, count: int) -> Iterator[list[TrainedClient]]:
        """Yield what the clients of the next chunk trained, in order, some at a time.

        A chunk that does not take all of its own leaves nothing to the next one. After an error
        no client is trained for a later chunk any more: who fails is looked for in one chunk.

        Args:
            count: how many clients the chunk has.

        Raises:
            Exception: what training raised, for any client of the call.
        """
        first = self._asked
        last = self._asked = first + count
        while first < last:
            while self._ready and self._ready[0][0] < first:
                self._ready.popleft()
            if not self._ready:
                self._trained = max(first, self._trained)
                self._train(last if self._alone else len(self.clients), last)
            some = min(last - first, len(self._ready))
            yield [self._ready.popleft()[1] for _ in range(some)]
            first += some

    def leave(self, count: int) -> None:
        """Leave the next clients out, whose chunk is trained otherwise."""
        self._asked += count

    def _train(self, end: int, chunk: int) -> None:
        first = self._trained
        count = self.trainer.group(self.clients[first:end], chunk - first)
        try:
            states = [self.trainer.read(one) for one in self.states[first : first + count]]
            ids = self.clients[first : first + count]
            done = self.trainer.train_clients(ids, self.inputs, states)
        except Exception:
            self._alone = True
            raise
        self._trained += count
        self._ready.extend(enumerate(done, first))
