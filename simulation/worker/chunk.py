"""Train one chunk of clients and fold their updates; find out which of them fails, if one does.

The first attempt takes no precautions and costs nothing beyond training. Only when it fails, or
its total is not finite, the chunk is trained again client by client, with a look at each update:
training is deterministic, so the clients that are well give the same bits again. Where clients are
trained side by side, their places beside each other stay what they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from simulation.config.scheduling import server_round
from simulation.records.client_states import Handle
from simulation.records.rows import Row, Rows, join
from simulation.training.measured import TrainedClient
from simulation.worker import faults
from simulation.worker.again import Again
from simulation.worker.faults import Lost
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
    chunk, there = None, len(clients) - len(gone)
    if gone and trainer.lanes > 1:  # The others keep their places beside those who are gone.
        group.leave(there)
    else:
        with suppress(Exception):
            chunk = _attempt(trainer, there, inputs, group)
    if chunk is None or chunk.doubtful:
        chunk = _carefully(trainer, clients, states, inputs, gone)
    round = server_round(trainer.setup.experiment, inputs.round)
    chunk.lost = [Lost(round, client, reason) for client, reason in gone.items()]
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
    """Train again with a look at each client; add to ``gone`` who fails and why."""
    setup, chunk = trainer.setup, Chunk()
    once_more = Again(trainer, clients, states, inputs, gone)
    for group in once_more.groups:
        once_more.train_together(group)
        good: list[TrainedClient] = []
        for client in group:
            if client in gone:
                continue
            trained, failure = once_more.examined(client)
            if trained is not None:
                good.append(trained)
                continue
            once_more.lose(client, failure)
        chunk.total, culprit = once_more.fold(chunk.total, good)
        if culprit is not None:  # The fold may have left a part of this client in the total.
            once_more.lose(*culprit)
            return _carefully(trainer, clients, states, inputs, gone)
        chunk.rows.extend(row(trained) for trained in good)
        if setup.keeps_state:
            chunk.kept.extend(trainer.put_away(trained, inputs.round) for trained in good)
    return chunk


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
