"""What Sunflower uses of Flower beyond its public interface, each with the reason."""

from __future__ import annotations

from flwr.app import Message
from flwr.supercore.task_identity import TaskIdentity

SERVER_NODE = 1
"""Flower's node id of the server."""


def set_identity(run: int) -> None:
    """Say who this process is: Flower stamps it on every message that is made here.

    Args:
        run: the number of the run that messages belong to.
    """
    TaskIdentity.task_id, TaskIdentity.run_id = 1, run
    TaskIdentity.node_id = SERVER_NODE


def set_message_id(message: Message, name: str) -> None:
    """Give a message its id, which Flower's own grids do where they store it."""
    message.metadata.__dict__["_message_id"] = name


def set_source(message: Message, node: int) -> None:
    """Say which node a message comes from: clients go by their numbers, not by Flower's ids."""
    message.metadata.__dict__["_src_node_id"] = node
