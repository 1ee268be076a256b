"""What every engine does alike: a Flower ``Grid`` that can also fold whole cohorts.

:class:`EngineGrid` cuts cohorts into chunks, merges partials in a fixed order, splits
evaluations, and speaks plain Flower messages. An engine adds only how a named call of the
:class:`~simulation.work.Executor` is carried out: :meth:`EngineGrid.submit` and
:meth:`EngineGrid.result`.
"""

from __future__ import annotations

import itertools
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from simulation.datasets.dataset import Dataset
from simulation.engines.calls import Poisoned
from simulation.engines.cohort import Folding
from simulation.engines.evaluation import Evaluations, Pending
from simulation.flower.codec import CLIENT_FAILED
from simulation.population.partition import AnyPartition
from simulation.records.client_states import Handle, Row, Stored
from simulation.records.rows import Rows
from simulation.records.timeline import Timeline
from simulation.training.client_config import AS_CONFIGURED, ClientConfig
from simulation.worker.faults import Lost
from simulation.worker.setup import Setup
from strategies.core import Vector

SERVER_NODE = 1
"""Flower's node id of the server."""


MESSAGES = 8
"""Flower messages that travel in one call, at most."""


Progress = Callable[[str, int, int], None]
"""``progress(kind, clients, examples)``: some clients are done."""


@dataclass
class _Replies:
    """The replies to messages that travelled in one call; fetched with the first of them."""

    ticket: Any
    asked: list[tuple[Message, RecordDict | None]]
    values: list[tuple[Message, RecordDict | None]] | None = None


class EngineGrid(Grid):
    """A pool of executors behind Flower's ``Grid`` interface.

    Args:
        progress: called as clients finish.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self.progress = progress or (lambda kind, clients, examples: None)
        self.simulated = True  # See strategies.federated.SimulatedGrid.
        self.setup: Setup
        self.data: Dataset
        self.partition: AnyPartition
        self._run: Run | None = None
        self.lost: tuple[Lost, ...] = ()
        self.measured: dict[str, float] = {}
        self.evaluations = Evaluations(self)
        self.round = 0
        self.stored: dict[int, Stored] = {}
        self._held: dict[int, Handle] = {}
        self._node_states: dict[int, RecordDict] = {}
        self._replies: dict[str, tuple[_Replies, int]] = {}
        self._numbers = itertools.count(1)
        self.timeline = Timeline()  # what executors did and when, where the engine knows it

    # What an engine adds.

    @abstractmethod
    def start(self, setup: Setup, data: Dataset, partition: AnyPartition) -> None:
        """Get executors ready for an experiment."""

    @abstractmethod
    def share(self, value: Any) -> Any:
        """Put a value where every executor reads it without copies; pass the handle in calls."""

    @abstractmethod
    def submit(
        self,
        call: str,
        *args: Any,
        first: bool = False,
        later: bool = False,
        done: Callable[[], None] | None = None,
        cost: float = 1.0,
        attempts: int | None = None,
    ) -> Any:
        """Queue ``Executor.call(*args)`` and return a ticket.

        Args:
            call: the method.
            args: its arguments; handles are replaced by their values.
            first: go before all that is queued.
            later: yield to all other work.
            done: called when the call has succeeded.
            cost: its size, compared with other calls of this name: says when it counts as hung.
            attempts: how many workers it may take down; as the experiment says when None.
        """

    @abstractmethod
    def result(self, ticket: Any, timeout: float | None = None) -> Any:
        """Wait for a ticket and return what the call returned (``train``: without kept state).

        Raises:
            TimeoutError: when ``timeout`` seconds have passed.
        """

    @abstractmethod
    def values_of(self, tickets: Sequence[Any]) -> list[Any]:
        """Wait for tickets; return handles on their values, without fetching these."""

    @abstractmethod
    def kept(self, ticket: Any) -> Any:
        """Return what a ``train`` call says of its clients' states: see ``Executor.train``."""

    @abstractmethod
    def close(self) -> None:
        """Release every resource."""

    @abstractmethod
    def info(self) -> Any:
        """Return the model's layout and initial weights (a ``ModelInfo``)."""

    folds = True
    """Whether :meth:`train` folds on the executors; else only messages work."""

    @property
    def workers(self) -> int:
        """How many executors there are."""
        return 1

    @property
    def portions(self) -> int:
        """How many executors as slow as the slowest do as much: says how small portions must be."""
        return self.workers

    def grain(self, total: float) -> float:
        """Return the cost of a portion that need not be smaller.

        Args:
            total: cost of the round (see :func:`schedule.weights`).
        """
        return 0.0

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

    # Folding whole cohorts: the fast path.

    def train(
        self, round: int, clients: Sequence[int], model: Vector, shared: Mapping[str, Any],
        config: ClientConfig = AS_CONFIGURED,
        parts: Mapping[int, float] | None = None,
    ) -> tuple[Any, Rows]:  # fmt: skip
        """Train a cohort; return the reducer's total and a row per client (by client).

        The total is None when no client gave an update. Who did not, and why, is in ``lost``;
        what the model's own metrics say of all of them is in ``measured``.
        """
        self.round = round
        self.refresh()
        part = Folding(self, round, clients, model, shared, config, parts).result()
        self.lost = tuple(sorted(part.lost, key=lambda lost: lost.client))
        self.measured = self.evaluations.totals(part.rows, "train_")
        order = np.argsort(part.rows["client"], kind="stable")
        return part.partial, {name: column[order] for name, column in part.rows.items()}

    def refresh(self) -> None:
        """Use what has joined the pool; called before every round."""

    def state_of(self, client: int) -> Handle | None:
        """Return what stands for a client's state; None before its first round."""
        return self.stored.get(client) or self._held.get(client)

    @property
    def known(self) -> list[int]:
        """Clients that keep something, ascending."""
        return sorted(self.stored.keys() | self._held.keys())

    def keep(self, round: int, clients: Sequence[int], ticket: Any) -> None:
        """Note what the clients that a training call has trained keep from this round on.

        Args:
            round: the round.
            clients: those that contributed, in the order of training.
            ticket: of the call.
        """
        found, shelf = self.kept(ticket), self.setup.shelf
        for row, client in enumerate(clients):
            if shelf is not None:
                self.stored[client] = shelf.at(client, round, found[row])
            else:
                self._held[client] = Row(found, row)

    def restore_clients(self, stored: Mapping[int, Stored]) -> None:
        """Let clients go on with what a checkpoint lists."""
        self.stored, self._held = dict(stored), {}

    # Evaluation.

    def evaluate_test(self, model: Vector) -> Pending:
        """Start measuring a model on the server's test set: its metrics by name."""
        return self.evaluations.on_test(model)

    def evaluate_test_own(self, model: Vector) -> Pending:
        """Start measuring every client's own model on the server's test set: their mean."""
        return self.evaluations.on_test_own(model)

    def evaluate_clients(self, clients: Sequence[int], model: Vector) -> Pending:
        """Start measuring a model on clients: a row per client, and the means by name."""
        return self.evaluations.on_clients(clients, model)

    def save(self, model: Vector) -> bytes:
        """Return a model as the bytes of a ``.keras`` file."""
        return bytes(self.result(self.submit("save", self.share(model))))

    # Flower's interface.

    def set_run(self, run: Run) -> None:
        """Set the run, and with it the identity that Flower stamps on messages."""
        self._run = run
        TaskIdentity.task_id, TaskIdentity.run_id = 1, run.run_id
        TaskIdentity.node_id = SERVER_NODE

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        if self._run is None:
            self.set_run(Run.create_empty(1))
        assert self._run is not None
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message to a client."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the clients' numbers, which serve as node ids."""
        return range(len(self.partition))

    def together(self, messages: int) -> int:
        """Return how many of some messages travel in one call."""
        return MESSAGES

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages, some in each call; return their ids."""
        batch = list(messages)
        for message in batch:
            message.metadata.__dict__["_message_id"] = f"m{next(self._numbers)}"
        together = self.together(len(batch))
        for first in range(0, len(batch), together):
            part = batch[first : first + together]
            states = [self._node_states.get(m.metadata.dst_node_id) for m in part]
            count = len(part)
            ticket = self.submit(
                "answer",
                part,
                states,
                cost=count,
                done=partial(self.progress, "message", count, 0),
            )
            batch_reply = _Replies(ticket, list(zip(part, states, strict=True)))
            for place, message in enumerate(part):
                self._replies[message.metadata.message_id] = (batch_reply, place)
        return [m.metadata.message_id for m in batch]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there, without waiting."""
        return self._pull(message_ids, 0.0)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and return the replies that arrive within ``timeout`` seconds."""
        return self._pull(self.push_messages(messages), timeout)

    def _pull(self, message_ids: Iterable[str], timeout: float | None) -> list[Message]:
        end = None if timeout is None else time.monotonic() + timeout
        replies = []
        for name in message_ids:
            batch, place = self._replies[name]
            if batch.values is None:
                try:
                    left = None if end is None else max(0.0, end - time.monotonic())
                    batch.values = self.result(batch.ticket, left)
                except TimeoutError:
                    continue
                except Poisoned as error:
                    batch.values = self._one_by_one(batch.asked, error)
            reply, state = batch.values[place]
            del self._replies[name]
            if state is not None:
                self._node_states[reply.metadata.src_node_id] = state
            replies.append(reply)
        return replies

    def _one_by_one(
        self, asked: list[tuple[Message, RecordDict | None]], error: Poisoned
    ) -> list[tuple[Message, RecordDict | None]]:
        """Answer messages that took their workers down; those at fault get an error reply."""
        if len(asked) == 1:
            message, state = asked[0]
            return [(Message(Error(CLIENT_FAILED, str(error)), reply_to=message), state)]
        values = []
        for one in asked:
            try:
                values += self.result(self.submit("answer", [one[0]], [one[1]]))
            except Poisoned as again:
                values += self._one_by_one([one], again)
        return values
