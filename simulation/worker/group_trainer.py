"""Train the clients of a unit some at a time, across the borders of its chunks.

A chunk may be a single client, while a call of the graph costs as much as training some examples.
So one call trains the clients of several chunks, and the chunks take what is theirs. A client's
bits do not depend on those beside it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from simulation.records.client_states import Handle

if TYPE_CHECKING:
    from simulation.training.backend import Trained
    from simulation.worker.chunk import Order
    from simulation.worker.executor import Executor


class Ahead:
    """Clients of a unit, trained as its chunks ask for them.

    Args:
        executor: what trains.
        order: round, model and what is shared.
        clients: all that may be asked for, in order.
        states: what each kept from its last round.
    """

    def __init__(
        self,
        executor: Executor,
        order: Order,
        clients: Sequence[int],
        states: Sequence[Handle | None],
    ) -> None:
        self.executor, self.order = executor, order
        self.clients, self.states = clients, states
        self._asked = self._trained = 0  # so many of them, from the first one on
        self._ready: deque[tuple[int, Trained]] = deque()
        self._alone = False

    def take(self, count: int) -> Iterator[list[Trained]]:
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
                self._train(last if self._alone else len(self.clients))
            some = min(last - first, len(self._ready))
            yield [self._ready.popleft()[1] for _ in range(some)]
            first += some

    def _train(self, end: int) -> None:
        first = self._trained
        ids = next(self.executor.together(self.clients[first:end]))
        try:
            done = self.executor.train_some(ids, self.order, self.states[first : first + len(ids)])
        except Exception:
            self._alone = True
            raise
        self._trained += len(ids)
        self._ready.extend(enumerate(done, first))
