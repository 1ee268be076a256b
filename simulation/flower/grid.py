"""An engine behind Flower's ``Grid`` interface: messages to clients, some in each call."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid
from typing_extensions import override

from simulation.engines.calls import Call, Poisoned
from simulation.engines.engine import Engine
from simulation.engines.policy import POLICY
from simulation.flower.codec import CLIENT_FAILED
from simulation.flower.private import new_run, set_identity, set_message_id

if TYPE_CHECKING:
    from simulation.flower.private import Run

Asked = list[tuple[Message, RecordDict | None]]
"""Messages, or replies, each with its node's state."""


@dataclass(frozen=True, kw_only=True)
class Answer(Call):
    """Run the ClientApp on messages, each with its node's state."""

    name: ClassVar[str] = "answer"
    kind: ClassVar[str | None] = "message"

    asked: Asked

    @override
    def run(self, executor: Any, *inputs: Any) -> Asked:
        found: Asked = executor.answer(
            [message for message, _ in self.asked], [state for _, state in self.asked]
        )
        return found


@dataclass
class _Replies:
    """The replies to messages that travelled in one call; fetched with the first of them."""

    ticket: Any
    asked: Asked
    values: Asked | None = None


class MessageGrid(Grid):
    """The executors of an engine as Flower's nodes; clients' numbers are node ids.

    Args:
        engine: what carries the messages.
    """

    simulated = True
    """See :class:`strategies.federated.SimulatedGrid`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._run: Run | None = None
        self._node_states: dict[int, RecordDict] = {}
        self._replies: dict[str, tuple[_Replies, int]] = {}
        self._numbers = itertools.count(1)
        _ = self.run  # Messages are stamped with it, wherever they are made.

    def set_run(self, run: Run) -> None:
        """Set the run, and with it the identity that Flower stamps on messages."""
        self._run = run
        set_identity(run.run_id)

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        if self._run is None:
            self.set_run(new_run(1))
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
        return range(len(self.engine.partition))

    def together(self, messages: int) -> int:
        """Return how many of some messages travel in one call."""
        return POLICY.messages

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages, some in each call; return their ids."""
        batch = list(messages)
        for message in batch:
            set_message_id(message, f"m{next(self._numbers)}")
        together = self.together(len(batch))
        for first in range(0, len(batch), together):
            part = batch[first : first + together]
            asked = [(m, self._node_states.get(m.metadata.dst_node_id)) for m in part]
            count = len(part)
            ticket = self.engine.submit(
                Answer(asked=asked, cost=count, clients=count),
                partial(self.engine.progress, "message", count, 0),
            )
            batch_reply = _Replies(ticket, asked)
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
                    batch.values = self.engine.result(batch.ticket, left)
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

    def _one_by_one(self, asked: Asked, error: Poisoned) -> Asked:
        """Answer messages that took their workers down; those at fault get an error reply."""
        if len(asked) == 1:
            message, state = asked[0]
            return [(Message(Error(CLIENT_FAILED, str(error)), reply_to=message), state)]
        values: Asked = []
        for one in asked:
            try:
                values += self.engine.do(Answer(asked=[one], clients=1))
            except Poisoned as again:
                values += self._one_by_one([one], again)
        return values
