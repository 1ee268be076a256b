"""Groups of clients with models of their own, trained some at a time across the groups' borders.

A group may be a single client, while a call of the backend costs as much as training some examples.
Where a client's bits do not depend on those beside it, one call trains the clients of several
groups, whatever their models. If anything goes wrong, each group is trained by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from typing_extensions import override

from simulation.training.measured import TrainedClient
from simulation.worker import tree
from simulation.worker.chunk import Part
from simulation.worker.group_trainer import ClientTrainer, GroupTrainer, RoundInputs


class MixedTrainer(ClientTrainer, Protocol):
    """What trains clients with models of their own in one call."""

    mixed: Mixed | None
    lazy_delta: bool

    @property
    def mixes(self) -> bool:
        """Whether bits are each client's own, so that one call may train any of them."""

    def train_mixed(
        self, groups: Sequence[tuple[RoundInputs, Sequence[int]]]
    ) -> list[list[TrainedClient]]:
        """Train groups in one call, each with its own inputs; their clients keep nothing."""


def train_groups(trainer: MixedTrainer, calls: Sequence[Any]) -> list[Part]:
    """Return the part of each group of clients that keep nothing.

    Args:
        trainer: of the process.
        calls: :class:`~simulation.engines.calls.Train`, each of a group with a model of its own.
    """
    if len(calls) > 1 and trainer.mixes:
        lazy = trainer.lazy_delta
        groups = [
            (RoundInputs(one.round, one.model, one.shared, one.config, one.parts, lazy), clients)
            for one, clients in ((one, tree.clients_below(one.node)) for one in calls)
        ]
        trainer.mixed = Mixed(trainer, groups)
    try:
        return [one.run(trainer)[0] for one in calls]
    finally:
        trainer.mixed = None


class Mixed:
    """Clients of several groups, trained as these are asked for in turn.

    Args:
        trainer: of the process.
        groups: inputs and clients of each.
    """

    def __init__(
        self, trainer: MixedTrainer, groups: Sequence[tuple[RoundInputs, Sequence[int]]]
    ) -> None:
        self.trainer, self.groups = trainer, groups
        self._ready: dict[int, list[TrainedClient]] = {}
        self._next, self._failed = 0, False

    def trainer_of_next(self) -> MixedGroup:
        """Return what trains the next group."""
        place, self._next = self._next, self._next + 1
        return MixedGroup(self, place)

    def take(self, place: int) -> list[TrainedClient] | None:
        """Return what a group's clients trained; None where it is to be trained by itself."""
        if place not in self._ready and not self._failed:
            self._train(place)
        return self._ready.pop(place, None)

    def _train(self, first: int) -> None:
        """Train a group and those behind it that fit into the same call."""
        every = [client for _, clients in self.groups[first:] for client in clients]
        room = self.trainer.group(every, len(every))
        some: list[tuple[RoundInputs, Sequence[int]]] = []
        for inputs, clients in self.groups[first:]:
            room -= len(clients)
            if room < 0:
                break
            some.append((inputs, clients))
        if len(some) < 2:
            return
        try:
            found = self.trainer.train_mixed(some)
        except Exception:
            self._failed = True
            return
        self._ready = dict(enumerate(found, first))


class MixedGroup(GroupTrainer):
    """The clients of one group, trained together with those of others where that works."""

    def __init__(self, mixed: Mixed, place: int) -> None:
        inputs, clients = mixed.groups[place]
        super().__init__(mixed.trainer, inputs, clients, [None] * len(clients))
        self._mixed, self._place = mixed, place

    @override
    def _train(self, end: int, chunk: int) -> None:
        done = None if self._trained else self._mixed.take(self._place)
        if done is None:
            super()._train(end, chunk)
            return
        self._ready.extend(enumerate(done, self._trained))
        self._trained += len(done)
