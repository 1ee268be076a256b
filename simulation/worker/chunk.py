"""Train one chunk of clients and fold their updates; find out which of them fails, if one does.

The first attempt takes no precautions and costs nothing beyond training. Only when it fails, or
its total is not finite, the chunk is trained again client by client, with a look at each update:
training is deterministic, so the clients that are well give the same bits again.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from simulation.records.client_states import Handle
from simulation.training.client_config import AS_CONFIGURED, ClientConfig
from simulation.worker import faults
from simulation.worker.faults import ClientError, Lost
from strategies.core import bound, fold_all

if TYPE_CHECKING:
    from simulation.training.backend import Trained
    from simulation.worker.executor import Executor
    from simulation.worker.group_trainer import Ahead
from typing import TYPE_CHECKING

from simulation.records.rows import Row, Rows, join
from simulation.worker.group_trainer import Ahead
from strategies.core import Reducer, merge_all

if TYPE_CHECKING:
    from simulation.training.backend import Trained


class Part(NamedTuple):
    """What training a node of the merge tree gives.

    Args:
        partial: the node's partial; None when no client contributed.
        rows: a row for each client that contributed.
        lost: those that did not.
    """

    partial: Any
    rows: Rows
    lost: tuple[Lost, ...] = ()


@dataclass
class Leaf:
    """A trained chunk: its total, and per client a row and what it keeps."""

    total: Any = None
    rows: list[Row] = field(default_factory=list)
    kept: list[Any] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    doubtful: bool = False


@dataclass(frozen=True)
class Order:
    """What to train with: the round, the model on the device, what the server shares and tells.

    ``parts``: of stragglers, which part of their local work they do.
    """

    round: int
    flat: Any
    shared: Mapping[str, Any]
    config: ClientConfig = AS_CONFIGURED
    parts: Mapping[int, float] = field(default_factory=dict)


def train(
    executor: Executor,
    clients: Sequence[int],
    states: Sequence[Handle | None],
    order: Order,
    skip: Mapping[int, str],
    ahead: Ahead,
) -> Leaf:
    """Train a chunk.

    Args:
        executor: what trains.
        clients: the chunk.
        states: what each kept from its last round.
        order: round, model and what is shared.
        skip: clients to leave out, with the reason.
        ahead: the unit's clients, without those to leave out.

    Raises:
        ClientError: naming the first client that fails, if none may.
    """
    gone = {c: skip[c] for c in clients if c in skip} if skip else {}
    try:
        leaf = _attempt(executor, len(clients) - len(gone), order, ahead)
    except Exception:
        leaf = None
    if leaf is None or leaf.doubtful:
        leaf = _carefully(executor, clients, states, order, gone)
    leaf.lost = [Lost(order.round, client, reason) for client, reason in gone.items()]
    return leaf


def _attempt(executor: Executor, count: int, order: Order, ahead: Ahead) -> Leaf:
    reducer, keeps = bound(executor.setup.reducer, order.shared), executor.setup.keeps_state
    assert reducer is not None
    leaf, shape = Leaf(), (executor.trainer.spec.size,)
    for done in ahead.take(count):
        leaf.total = fold_all(reducer, leaf.total, [trained.update for trained in done])
        for trained in done:
            leaf.doubtful |= trained.update.delta.shape != shape
            leaf.rows.append(row(trained))
            if keeps:
                leaf.kept.append(executor.put_away(trained, order.round))
    leaf.doubtful = leaf.doubtful or not faults.is_finite(leaf.total)
    return leaf


def _carefully(
    executor: Executor,
    clients: Sequence[int],
    states: Sequence[Handle | None],
    order: Order,
    gone: dict[int, str],
) -> Leaf:
    """Train one by one; add to ``gone`` who fails and why."""
    setup = executor.setup
    reducer = bound(setup.reducer, order.shared)
    fails = setup.experiment.faults.on_client_error == "fail"
    assert reducer is not None
    leaf, again = Leaf(), False
    for client, state in zip(clients, states, strict=True):
        if client in gone:
            continue
        trace = ""
        try:
            (trained,) = executor.train_some([client], order, [state])
            reason = faults.flaw(trained.update, executor.trainer.spec.size)
            if reason is None:
                again = True
                leaf.total = reducer.fold(leaf.total, trained.update)
                again = False
        except Exception as error:
            reason, trace = faults.reason_of(error), f"\n{traceback.format_exc()}"
        if reason is not None:
            gone[client] = reason
            if fails:
                raise ClientError(f"{Lost(order.round, client, reason)}{trace}")
            if again:  # The fold may have left a part of this client in the total.
                return _carefully(executor, clients, states, order, gone)
            continue
        leaf.rows.append(row(trained))
        if setup.keeps_state:
            leaf.kept.append(executor.put_away(trained, order.round))
    return leaf


def row(trained: Trained) -> Row:
    """Return a client's row."""
    update = trained.update
    metrics = update.metrics
    measured = (metrics["loss"], metrics["accuracy"], trained.counted)
    return Row((update.client, update.examples, update.steps, *measured), trained.states)


def merge_parts(parts: Sequence[Part], reducer: Reducer) -> Part:
    """Merge the parts of a node's children, from the left."""
    parts = [Part(*part) for part in parts]
    total = merge_all(reducer, (p.partial for p in parts))
    lost = tuple(lost for p in parts for lost in p.lost)
    return Part(total, join([p.rows for p in parts]), lost)
