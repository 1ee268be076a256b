"""Groups of clients that are trained ahead of the server step that takes their updates.

A group is the clients with one model whose updates go into one step; it is folded by itself. Groups
may be single clients, and a call of a worker costs as much as training some: so one call trains
several groups, whatever their models. What a step needs goes first, cut so that all workers have a
part of it, and filled up with others. Of the rest, workers are given equal parts, as much as keeps
them busy: what waits meanwhile goes out in larger portions. Which groups share a call is a matter
of time, and decides no bit.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulation.engines.calls import Poisoned, Train, TrainGroups, TrainGroupsFirst
from simulation.engines.cohort import CohortPlan, CohortTraining, costs_of
from simulation.engines.engine import Engine
from simulation.engines.policy import POLICY
from simulation.worker.chunk import Part
from strategies.spec import Vector

log = logging.getLogger("sunflower.folding")


CALLS_EACH = POLICY.depth + 1
"""Calls under way for each worker at most, beside those that are needed: one more than it has in
its line, so that the next one is there while the driver steps."""


class Key(NamedTuple):
    """A group: the step that takes its updates, and the round whose model it has."""

    step: int
    round: int


class Version:
    """A model that clients are sent, and what the server shares with it.

    Args:
        model: the weights [P], which must not be written over.
        shared: what the server shares, by name.
    """

    def __init__(self, model: Vector, shared: Mapping[str, Any]) -> None:
        self.model, self.shared = model.view(), shared
        self.model.flags.writeable = False  # Checkpoints need no copy of it.
        self._handles: tuple[Any, Any] | None = None

    def handles(self, engine: Engine) -> tuple[Any, Any]:
        """Return what stands for both in calls: shared once, unless it travels with each."""
        if self._handles is None:
            small = self.model.nbytes <= POLICY.piece_bytes
            model = self.model if small else engine.share(self.model)
            self._handles = model, engine.share(dict(self.shared))
        return self._handles


@dataclass
class Group:
    """A group that waits or is being trained.

    Args:
        clients: in order.
        version: what they are sent.
        plan: in which order and groups they are trained.
        call: that trains it; None while it waits.
    """

    clients: list[int]
    version: Version
    plan: CohortPlan
    call: GroupCall | None = None

    @cached_property
    def cost(self) -> float:
        """Cost of all of them."""
        return sum(self.plan.costs.values())


@dataclass
class GroupCall:
    """A call under way, and what came of it."""

    keys: tuple[Key, ...]
    ticket: Any = None
    over: bool = False
    parts: dict[Key, Part] = field(default_factory=dict)


class TrainingAhead:
    """Train groups, of which those that are needed first go first.

    Args:
        engine: what trains; its clients keep nothing from round to round.
        clients: how many are at work at a time.
    """

    def __init__(self, engine: Engine, clients: int) -> None:
        self.engine, self.clients = engine, clients
        self._groups: dict[Key, Group] = {}
        self._waiting: list[Key] = []  # In order, so that those that are needed come first.
        self._idle = 0.0  # Cost of those that wait.
        self._known = [0.0, 0.0]  # Cost and number of clients in all groups.
        self._large: dict[Key, CohortTraining] = {}
        self._calls: list[GroupCall] = []

    @cached_property
    def _of_everybody(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Costs and examples of all clients: groups are many, and small."""
        sizes = self.engine.partition.train_sizes.astype(np.int64)
        return costs_of(self.engine, range(len(sizes))), sizes

    def __contains__(self, key: Key) -> bool:
        return key in self._groups

    def add(self, key: Key, clients: Sequence[int], version: Version) -> None:
        """Let a group wait to be trained."""
        costs, sizes = self._of_everybody
        at = np.asarray(clients, np.int64)
        plan = CohortPlan.made(self.engine, clients, costs[at], sizes[at])
        group = self._groups[key] = Group(list(clients), version, plan)
        insort(self._waiting, key)
        self._idle += group.cost
        self._count(group, 1)

    def hand_out(self, step: int) -> None:
        """Hand out the groups of a step, and as many others as keep workers busy."""
        first = bisect_left(self._waiting, Key(step + 1, 0))
        needed = self._waiting[:first]
        del self._waiting[:first]
        self._idle -= self._cost(needed)
        workers = max(1, self.engine.effective_workers)
        piece, portion = self._cost_of_calls(workers)
        small = []
        for key in needed:
            group = self._groups[key]
            if group.cost > piece and len(group.clients) > 1:
                # It is cut by itself, and its parts go to several workers.
                self._large[key] = self._training(key, group)
            else:
                small.append(key)
        # A call costs as much as some clients, so others go with those that are needed. But half of
        # all come after them: while the server steps, workers have nothing else to do.
        cost = self._cost(small)
        room = min(portion, (cost + self._idle) / (2 * workers))
        for keys in self._cut(small, min(portion, cost / workers)):
            self._submit(keys + self._taken(room - self._cost(keys)), TrainGroupsFirst)
        self._calls = [call for call in self._calls if not call.over]
        part = max(portion, self._idle / workers)
        while len(self._calls) < CALLS_EACH * workers and self._waiting:
            if len(self._calls) >= workers and self._idle < portion / 2:
                return  # All have something to do: it goes out with what comes next.
            self._submit(self._taken(part), TrainGroups)

    def _taken(self, room: float) -> list[Key]:
        """Take groups that wait, in order, until no more room is left."""
        found: list[Key] = []
        for key in self._waiting:
            if room <= 0:
                break
            found.append(key)
            room -= self._groups[key].cost
        del self._waiting[: len(found)]
        self._idle -= self._cost(found)
        return found

    def result(self, key: Key) -> Part:
        """Wait for a group that was handed out, and forget it."""
        group = self._groups.pop(key)
        self._count(group, -1)
        if key in self._large:
            return self._large.pop(key).result()
        call = group.call
        assert call is not None
        if not call.over:
            self._finish(call)
        if key in call.parts:
            return call.parts.pop(key)
        # It took its workers down together with others: by itself it is cut until that is found.
        return self._training(key, group).result()

    def _training(self, key: Key, group: Group) -> CohortTraining:
        version = group.version
        return CohortTraining(
            self.engine, key.round, group.clients, version.model, version.shared, plan=group.plan
        )

    def _finish(self, call: GroupCall) -> None:
        try:
            parts = self.engine.result(call.ticket)
            call.parts = {key: Part(*part) for key, part in zip(call.keys, parts, strict=True)}
        except Poisoned as error:
            log.warning("%d groups of clients are trained one by one: %s", len(call.keys), error)
        call.ticket, call.over = None, True

    def _cost_of_calls(self, workers: int) -> tuple[float, float]:
        """Return the cost above which a group is cut, and that of a call with several groups.

        Groups are cut as where all who are at work were one cohort. Neither is ever more than a
        part of what is at work: the next step is waited for.
        """
        cost, known = self._known
        total = self.clients * (cost / known if known else 0.0)
        most = total / (workers * POLICY.units_each)
        piece = min(self.engine.min_cost(total) or most, most)
        return piece, total / (workers * POLICY.units_ahead)

    def _count(self, group: Group, sign: int) -> None:
        self._known[0] += sign * group.cost
        self._known[1] += sign * len(group.clients)

    def _cost(self, keys: Sequence[Key]) -> float:
        return sum(self._groups[key].cost for key in keys)

    def _cut(self, keys: Sequence[Key], portion: float) -> list[list[Key]]:
        """Cut groups into portions, in order; the last one of a portion may be more than fits."""
        found: list[list[Key]] = []
        room = 0.0
        for key in keys:
            if not found or room <= 1e-9 * portion:
                found.append([])
                room = portion
            found[-1].append(key)
            room -= self._groups[key].cost
        return found

    def _submit(self, keys: Sequence[Key], kind: type[TrainGroups]) -> None:
        engine, trainings = self.engine, []
        for key in keys:
            group = self._groups[key]
            model, shared = group.version.handles(engine)
            training = Train(
                round=key.round,
                node=group.plan.root,
                model=model,
                shared=shared,
                states=[None] * len(group.clients),
                cost=group.cost,
                clients=len(group.clients),
                examples=sum(group.plan.examples.values()),
                lanes=engine.lanes if engine.lanes > 1 else None,
            )
            trainings.append(training)
        call = kind(
            groups=tuple(trainings),
            cost=sum(one.cost for one in trainings),
            clients=sum(one.clients for one in trainings),
            examples=sum(one.examples for one in trainings),
        )
        mine = GroupCall(tuple(keys))
        mine.ticket = engine.submit(call, partial(self._done, mine, call))
        for key in keys:
            self._groups[key].call = mine
        self._calls.append(mine)

    def _done(self, mine: GroupCall, call: TrainGroups) -> None:
        self._calls = [one for one in self._calls if one is not mine]
        self.engine.progress("train", call.clients, call.examples)
