"""Train one chunk of clients and fold their updates; find out which of them fails, if one does.

The first attempt takes no precautions and costs nothing beyond training. Only when it fails, or
its total is not finite, the chunk is trained again client by client, with a look at each update:
training is deterministic, so the clients that are well give the same bits again. Where clients are
trained side by side, their places beside each other stay what they were.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from simulation.records.client_states import Handle
from simulation.records.rows import Row, Rows, join
from simulation.training.measured import TrainedClient
from simulation.worker import faults
from simulation.worker.faults import ClientError, Lost
from simulation.worker.group_trainer import ClientTrainer, GroupTrainer, RoundInputs
from strategies.protocols import Reducer
from strategies.reducing import bound, fold_all, merge_all


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
class Chunk:
    """A trained chunk: its total, and per client a row and what it keeps."""

    total: Any = None
    rows: list[Row] = field(default_factory=list)
    kept: list[Any] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    doubtful: bool = False


def train_chunk(
    trainer: ClientTrainer,
    clients: Sequence[int],
    states: Sequence[Handle | None],
    inputs: RoundInputs,
    skip: Mapping[int, str],
    group: GroupTrainer,
) -> Chunk:
    """Train a chunk.

    Args:
        trainer: of the process.
        clients: the chunk.
        states: what each kept from its last round.
        inputs: round, model and what is shared.
        skip: clients to leave out, with the reason.
        group: the unit's clients, without those to leave out.

    Raises:
        ClientError: naming the first client that fails, if none may.
    """
    gone = {c: skip[c] for c in clients if c in skip} if skip else {}
    chunk = None
    with suppress(Exception):
        if not gone or trainer.lanes == 1:
            chunk = _attempt(trainer, len(clients) - len(gone), inputs, group)
    if chunk is None or chunk.doubtful:
        chunk = _carefully(trainer, clients, states, inputs, gone)
    chunk.lost = [Lost(inputs.round, client, reason) for client, reason in gone.items()]
    return chunk


def _attempt(trainer: ClientTrainer, count: int, inputs: RoundInputs, group: GroupTrainer) -> Chunk:
    reducer, keeps = bound(trainer.setup.reducer, inputs.shared), trainer.setup.keeps_state
    assert reducer is not None
    chunk, shape = Chunk(), (trainer.size,)
    for done in group.take(count):
        chunk.total = fold_all(reducer, chunk.total, [trained.update for trained in done])
        for trained in done:
            chunk.doubtful |= trained.update.delta.shape != shape
            chunk.rows.append(row(trained))
            if keeps:
                chunk.kept.append(trainer.put_away(trained, inputs.round))
    chunk.doubtful = chunk.doubtful or not faults.is_finite(chunk.total)
    return chunk


def _carefully(
    trainer: ClientTrainer,
    clients: Sequence[int],
    states: Sequence[Handle | None],
    inputs: RoundInputs,
    gone: dict[int, str],
) -> Chunk:
    """Train one by one; add to ``gone`` who fails and why."""
    setup = trainer.setup
    reducer = bound(setup.reducer, inputs.shared)
    fails = setup.experiment.faults.on_client_error == "fail"
    assert reducer is not None
    chunk, again = Chunk(), False
    once_more = _Again(trainer, clients, states, inputs, gone)
    for client in clients:
        if client in gone:
            continue
        trace = ""
        try:
            trained = once_more.train(client)
            reason = faults.update_flaw(trained.update, trainer.size)
            if reason is None:
                again = True
                chunk.total = reducer.fold(chunk.total, trained.update)
                again = False
        except Exception as error:
            reason, trace = faults.reason_of(error), f"\n{traceback.format_exc()}"
        if reason is not None:
            gone[client] = reason
            if fails:
                raise ClientError(f"{Lost(inputs.round, client, reason)}{trace}")
            if again:  # The fold may have left a part of this client in the total.
                return _carefully(trainer, clients, states, inputs, gone)
            continue
        chunk.rows.append(row(trained))
        if setup.keeps_state:
            chunk.kept.append(trainer.put_away(trained, inputs.round))
    return chunk


class _Again:
    """Clients of a chunk that are trained again; arguments as those of :func:`_carefully`."""

    def __init__(
        self,
        trainer: ClientTrainer,
        clients: Sequence[int],
        states: Sequence[Handle | None],
        inputs: RoundInputs,
        gone: Mapping[int, str],
    ) -> None:
        self._trainer, self._inputs = trainer, inputs
        self._states = dict(zip(clients, states, strict=True))
        self._groups: list[Sequence[int]] = []
        self._trained: dict[int, TrainedClient] = {}
        if trainer.lanes == 1:
            return
        while clients:
            size = trainer.limit(clients)
            self._groups.append(clients[:size])
            clients = clients[size:]
            there = [client for client in self._groups[-1] if client not in gone]
            with suppress(Exception):  # Whose fault it is, each one by itself tells.
                self._train(there, self._groups[-1])

    def train(self, client: int) -> TrainedClient:
        """Return what a client's training gives."""
        if client not in self._trained:
            members = [group for group in self._groups if client in group]
            self._train([client], members[0] if members else None)
        return self._trained.pop(client)

    def _train(self, clients: Sequence[int], group: Sequence[int] | None) -> None:
        states = [self._trainer.read(self._states[client]) for client in clients]
        more = {} if group is None else {"beside": group}
        done = self._trainer.train_clients(clients, self._inputs, states, **more)
        self._trained.update(zip(clients, done, strict=True))


def row(trained: TrainedClient) -> Row:
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
