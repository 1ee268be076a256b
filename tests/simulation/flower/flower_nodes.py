"""Flower's own in-memory grid with SuperNodes in a thread, as its Simulation Runtime makes them."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import HEARTBEAT_INTERVAL_INF, SUPERLINK_NODE_ID
from flwr.proto.task_pb2 import Task
from flwr.server.superlink.linkstate import LinkState, LinkStateFactory
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState, RunRecord
from flwr.serverapp import Grid
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.grid import InMemoryGrid

RUN, TASK = 1, 1


@contextmanager
def in_memory(app: ClientApp, nodes: int) -> Iterator[Grid]:
    """Lend a grid whose nodes, in the order of their ids, are the partitions 0, 1, ..."""
    factory = LinkStateFactory(
        FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), ObjectStoreFactory()
    )
    state = factory.state()
    assert isinstance(state, InMemoryLinkState)
    run = Run.create_empty(RUN)
    run.primary_task_id, run.federation_id = TASK, NOOP_FEDERATION_ID
    state.run_ids[RUN] = RunRecord(run=run)
    state.task_store[TASK] = Task(task_id=TASK, run_id=RUN)
    TaskIdentity.task_id, TaskIdentity.run_id = TASK, RUN
    TaskIdentity.node_id = SUPERLINK_NODE_ID
    ids = [
        state.create_node("<id:none>", "none", secrets.token_bytes(32), HEARTBEAT_INTERVAL_INF)
        for _ in range(nodes)
    ]
    for node in ids:
        state.acknowledge_node_heartbeat(node, HEARTBEAT_INTERVAL_INF)
    over = threading.Event()
    contexts = {
        node: Context(
            run_id=RUN,
            node_id=node,
            node_config={"partition-id": number, "num-partitions": nodes},
            state=RecordDict(),
            run_config={},
        )
        for number, node in enumerate(sorted(ids))
    }
    thread = threading.Thread(target=_answer, args=(state, app, contexts, over), daemon=True)
    thread.start()
    grid = InMemoryGrid(factory, pull_interval=0.005)
    grid.set_run(run)
    try:
        yield grid
    finally:
        over.set()
        thread.join()


def _answer(
    state: LinkState, app: ClientApp, contexts: dict[int, Context], over: threading.Event
) -> None:
    while not over.wait(0.005):
        for node, context in contexts.items():
            for message in state.get_message_ins(node_id=node, limit=1):
                reply = app(message, context)
                reply.metadata.__dict__["_message_id"] = str(uuid4())
                state.store_message_res(reply)
