"""A Flower grid whose nodes go by the numbers of their clients.

Flower's node ids are random; the number of a client (``partition-id``) is in the configuration of
its node. With numbers, the same clients take part in a run on any runtime.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid

from simulation.flower.private import set_source

if TYPE_CHECKING:
    from simulation.flower.private import Run

LOOK = 0.5
"""Seconds between looks for nodes that have not connected yet."""


class NumberedGrid(Grid):
    """Another grid, with clients' numbers for node ids.

    Every node is asked once for its number: the ``ClientApp`` must answer ``query`` messages with
    a metric record that holds ``partition-id`` and ``num-partitions``.

    Args:
        grid: the grid that carries the messages.
        simulated: whether its clients are simulated (see
            :class:`strategies.federated.SimulatedGrid`).

    Raises:
        RuntimeError: when a node does not tell its number, or two have the same.
    """

    def __init__(self, grid: Grid, simulated: bool = False) -> None:
        self._grid, self.simulated = grid, simulated
        self.answered: Callable[[int], None] = lambda replies: None  # called as replies arrive
        self._clients: dict[int, int] = {}
        self._nodes: dict[int, int] = {}
        self.population = 0

    def wait(self) -> int:
        """Wait until a node has connected for every client; return how many there are."""
        while not self.population or len(self._nodes) < self.population:
            self._look()
            if len(self._nodes) < len(self._clients):
                raise RuntimeError(
                    "partition-id must be another one on every node, "
                    f"got {sorted(self._clients.values())}"
                )
            if len(self._nodes) < (self.population or 1):
                time.sleep(LOOK)
        return self.population

    def _look(self) -> None:
        """Ask nodes that are new for their numbers, and forget those that have left."""
        there = set(self._grid.get_node_ids())
        self._clients = {node: c for node, c in self._clients.items() if node in there}
        asked = [
            Message(RecordDict(), node, MessageType.QUERY) for node in there - set(self._clients)
        ]
        if asked:
            for reply in self._grid.send_and_receive(asked):
                self._add(reply)
        # A node that comes back has a new id: the last one that gave a number stands for it.
        self._nodes = {client: node for node, client in self._clients.items()}

    def _add(self, reply: Message) -> None:
        node = reply.metadata.src_node_id
        if reply.has_error():
            raise RuntimeError(f"node {node} failed: {reply.error.reason}")
        metrics = next(iter(reply.content.metric_records.values()))
        number, population = metrics["partition-id"], metrics["num-partitions"]
        assert isinstance(number, int) and isinstance(population, int)
        if self.population not in (0, population) or not 0 <= number < population:
            raise RuntimeError(
                "partition-id must be in [0, num-partitions), which must be the same on every "
                f"node, got {number} of {population} on node {node}"
            )
        self._clients[node], self.population = number, population

    def set_run(self, run: Run) -> None:
        """Set the run of the other grid."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run of the other grid."""
        return self._grid.run

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
        """Return the numbers of the clients whose nodes are connected."""
        self._look()
        return sorted(self._nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push messages that are addressed to clients."""
        return self._grid.push_messages(self._addressed(messages))

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Pull replies, which come from clients."""
        return self._from_clients(self._grid.pull_messages(message_ids))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages to clients and return the replies that arrive within the time."""
        sent = self._addressed(messages)
        replies = self._from_clients(self._grid.send_and_receive(sent, timeout=timeout))
        self.answered(len(replies))
        return replies

    def _addressed(self, messages: Iterable[Message]) -> list[Message]:
        return [
            Message(
                m.content,
                self._nodes[m.metadata.dst_node_id],
                m.metadata.message_type,
                ttl=m.metadata.ttl,
                group_id=m.metadata.group_id,
            )
            for m in messages
        ]

    def _from_clients(self, replies: Iterable[Message]) -> list[Message]:
        found = list(replies)
        for reply in found:
            node = reply.metadata.src_node_id
            set_source(reply, self._clients.get(node, node))
        return found
