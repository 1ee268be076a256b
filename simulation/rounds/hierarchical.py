"""Rounds with edges between clients and cloud (HierFAVG).

In a round of the cloud every edge l gets its model x and makes ``edge_rounds`` rounds with clients
of its own, each as a server without edges makes it: by the experiment's strategy, whose state the
edge keeps. Then it sends its model x_l. With n_l the training examples of all its clients::

    x <- sum_l n_l x_l / sum_l n_l                                  by default (HierFAVG)
    x <- the cloud's strategy, of the updates x_l - x with weights n_l

over the edges of which some client counted. An edge whose clients are all away sits a round of its
own out. The cloud's round takes as long as the slowest edge that asked somebody: model and answer
on its link, and its own rounds between.

Rounds of edges are counted through, k = (r - 1) edge_rounds + e: they decide what is drawn at
random, and are the rounds that the edges' strategy counts. All else goes by the cloud's round r.

Source: Liu et al. (2020), arXiv 1905.06641, Algorithm 1, with kappa_2 = edge_rounds and local work
as the experiment says in the place of kappa_1 steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from typing_extensions import override

from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment
from simulation.config.sizes import FLOAT_BYTES
from simulation.engines.cohort import CohortTraining
from simulation.engines.engine import Engine
from simulation.engines.evaluation import Evaluations, Pending
from simulation.population import partition
from simulation.population.edges import edges_of, purpose_of
from simulation.records.rows import Rows, columns, join
from simulation.rounds.clocked import JOULES, SECONDS, ClockedDriver, RoundPlan
from simulation.rounds.driver import RoundResult
from simulation.rounds.events import KINDS, Events, joined, table
from simulation.worker.chunk import Part
from simulation.worker.faults import Lost, check_losses
from strategies import Federated, catalog
from strategies.algorithm import Algorithm
from strategies.protocols import Round, State
from strategies.reducing import bound, during, finish, fold_all
from strategies.spec import Spec, Vector
from strategies.sums import DRIFT
from strategies.updates import Mean, Update

EDGE, CLOUD = "edges.", "cloud."
"""How the keys of an edge's state begin, before its number, and those of the cloud's."""


@dataclass(frozen=True)
class EdgePlan:
    """What an edge does in a round of the cloud.

    Args:
        rounds: its own; None where its clients are all away.
        end: the clock when its model has reached the cloud.
    """

    rounds: tuple[RoundPlan | None, ...]
    end: float

    @property
    def asks(self) -> bool:
        """Whether it asks anybody."""
        return any(plan is not None and plan.cast.asked for plan in self.rounds)


class HierarchicalDriver(ClockedDriver):
    """Our strategies at edges, whose models become the cloud's."""

    def __init__(
        self, strategy: Federated, engine: Engine, spec: Spec, experiment: Experiment
    ) -> None:
        super().__init__(strategy, engine, spec, experiment)
        self.plan = experiment.schedule
        self.edges = edges_of(experiment, self.world.fleet, _main_labels(experiment, engine))
        sizes = self.world.sizes
        self.examples = [int(sizes[members].sum()) for members in self.edges.members]
        cloud = self.plan.cloud
        self.cloud = None if cloud is None else catalog.build(cloud.name, **cloud.options)
        self._states: list[State] = []
        self._cloud_state: State = {}

    @property
    @override
    def state(self) -> State:
        """The state of each edge and of the cloud, the clock and the energy spent."""
        found: dict[str, Any] = {SECONDS: self._seconds, JOULES: self._joules}
        for place, state in enumerate(self._states):
            found |= {f"{EDGE}{place}.{name}": value for name, value in state.items()}
        return found | {f"{CLOUD}{name}": value for name, value in self._cloud_state.items()}

    @state.setter
    def state(self, state: State) -> None:
        self._seconds, self._joules = float(state[SECONDS]), float(state[JOULES])
        self._states = [_within(state, f"{EDGE}{place}.") for place in range(len(self.edges))]
        self._cloud_state = _within(state, CLOUD)

    @override
    def train(self, round: int, model: Vector) -> RoundResult:
        """Let the edges train, and make the cloud's next model of theirs."""
        if not self._states:
            self._states = [self.strategy.algorithm.init(self.spec, model) for _ in self.examples]
            if self.cloud is not None:
                self._cloud_state = self.cloud.init(self.spec, model)
        plans, end = self._plans(round)
        self.engine.begin_round(round)
        work = _Work(round, [model] * len(self.edges))
        for turn in range(self.plan.edge_rounds):
            self._train_edges(work, turn, [plan.rounds[turn] for plan in plans])
        heard = sorted(work.heard)
        after = self._merged(round, model, work.models, heard)
        rows = join(work.rows) if work.rows else columns([])
        measured = Evaluations(self.engine).totals(rows, "train_")
        events = joined(work.events or [NOTHING])
        self._seconds = end
        self._joules += float(events.columns["joules"].sum())
        each = FLOAT_BYTES * self._travelling
        notes = {
            **work.means(),
            **measured,
            **events.notes(end, self._joules),
            "cloud_bytes_up": each * len(heard),
            "cloud_bytes_down": each * len(self.edges),
        }
        lost, absent = tuple(work.lost), work.absent
        return RoundResult(after, rows, work.up, work.down, lost, absent, notes, events.columns)

    def _plans(self, round: int) -> tuple[list[EdgePlan], float]:
        """Return what each edge does in a round of the cloud, and the clock at its end."""
        start, _ = self.world.opening(self._seconds)
        plans = [self._edge_plan(round, place, start) for place in range(len(self.edges))]
        ends = [plan.end for plan in plans if plan.asks] or [plan.end for plan in plans]
        return plans, max(ends)

    def _edge_plan(self, round: int, place: int, start: float) -> EdgePlan:
        size = FLOAT_BYTES * self._travelling
        now = start + self.edges.receiving(size)
        rounds: list[RoundPlan | None] = []
        for turn in range(self.plan.edge_rounds):
            mask, members = self.world.availability.at(now), self.edges.members[place]
            there = (members if mask is None else members[mask[members]]).tolist()
            plan = None
            if there:
                plan = self._planned(
                    self._count(round, turn), now, there, self.edges.asked[place], purpose_of(place)
                )
                now = plan.end
            rounds.append(plan)
        return EdgePlan(tuple(rounds), now + self.edges.sending(size))

    def _count(self, round: int, turn: int) -> int:
        """Return the number of an edge's round, counted through."""
        return (round - 1) * self.plan.edge_rounds + turn + 1

    def _train_edges(self, work: _Work, turn: int, plans: Sequence[RoundPlan | None]) -> None:
        """Train a round of all edges, and step each."""
        algorithm, number = self.strategy.algorithm, self._count(work.round, turn)
        shared = [algorithm.share(state, number) for state in self._states]
        under_way = {}
        for place, plan in enumerate(plans):
            if plan is not None and plan.cast.cohort:
                under_way[place] = CohortTraining(
                    self.engine, number, plan.cast.cohort, work.models[place], shared[place],
                    parts=plan.cast.parts,
                )  # fmt: skip
        found = {place: training.result() for place, training in under_way.items()}
        self._check_losses(work.round, plans, list(found.values()))
        for place, plan in enumerate(plans):
            if plan is None:
                continue
            part = found.get(place, Part(None, columns([]), ()))
            work.note(place, turn, plan, part)
            at = Round(number, len(self.edges.members[place]), self.seed)
            mean = self._mean(part.partial, part.rows, shared[place], self._states[place], at)
            if mean is None:  # Everybody is late or away: the edge keeps its model.
                work.down += FLOAT_BYTES * self._travelling * plan.cast.asked
                continue
            work.down += self._down(shared[place]) * plan.cast.asked
            work.up += self._up(mean) * len(part.rows["client"])
            work.told.append(algorithm.notes(shared[place], number) | _drift(mean))
            work.models[place], self._states[place] = algorithm.step(
                self.spec, work.models[place], self._states[place], mean, at
            )
            work.heard.add(place)

    def _check_losses(
        self, round: int, plans: Sequence[RoundPlan | None], parts: Sequence[Part]
    ) -> None:
        """Raise an error when a round of the edges has lost more than the policy allows."""
        there = [plan.cast for plan in plans if plan is not None]
        check_losses(
            self.experiment.faults,
            round,
            sum(len(cast.cohort) for cast in there),
            sum(len(part.rows["client"]) for part in parts),
            [lost for part in parts for lost in part.lost],
            sum(cast.asked for cast in there),
        )

    def _merged(
        self, round: int, model: Vector, models: Sequence[Vector], heard: Sequence[int]
    ) -> Vector:
        """Return the cloud's next model."""
        weights = [self.examples[place] for place in heard]
        if not sum(weights):
            return model
        if self.cloud is None:
            total = np.zeros(model.size)
            for place, weight in zip(heard, weights, strict=True):
                total += weight * models[place].astype(np.float64)
            return np.asarray(total / sum(weights), model.dtype)
        updates = [
            Update(
                place,
                weight,
                np.subtract(models[place], model, dtype=np.float64),
                steps=self.plan.edge_rounds,
                trainable=self.spec.trainable_size,
            )
            for place, weight in zip(heard, weights, strict=True)
        ]
        return self._moved(self.cloud, Round(round, len(self.edges), self.seed), model, updates)

    def _moved(
        self, cloud: Algorithm, at: Round, model: Vector, updates: Sequence[Update]
    ) -> Vector:
        """Step the cloud's strategy."""
        shared = cloud.share(self._cloud_state, at.number)
        reducer = during(bound(cloud.reducer, shared), at, self._cloud_state)
        mean = finish(reducer, fold_all(reducer, None, updates), model.size)
        assert mean is not None
        after, self._cloud_state = cloud.step(self.spec, model, self._cloud_state, mean, at)
        return after

    @override
    def evaluate(self, round: int, model: Vector, clients: list[int]) -> Pending:
        """Measure the model once on each client that trained."""
        return super().evaluate(round, model, sorted(set(clients)))


class _Work:
    """What a round of the cloud has come to so far."""

    def __init__(self, round: int, models: list[Vector]) -> None:
        self.round, self.models = round, models
        self.heard: set[int] = set()
        self.rows: list[Rows] = []
        self.events: list[Events] = []
        self.lost: list[Lost] = []
        self.absent: dict[int, str] = {}
        self.told: list[Mapping[str, float]] = []
        self.up = self.down = 0

    def note(self, place: int, turn: int, plan: RoundPlan, part: Part) -> None:
        """Keep what is recorded of an edge's round."""
        order = np.argsort(part.rows["client"], kind="stable")
        if len(order):
            self.rows.append({name: column[order] for name, column in part.rows.items()})
        lost = sorted(part.lost, key=lambda one: one.client)
        self.lost += lost
        self.absent |= plan.cast.absent
        events = plan.events.without([one.client for one in lost])
        self.events.append(_at_edge(events, self.round, place, turn + 1))

    def means(self) -> dict[str, float]:
        """Return the means of what the edges' strategies tell, over edges and their rounds."""
        names = dict.fromkeys(name for told in self.told for name in told)
        values = {name: [told[name] for told in self.told if name in told] for name in names}
        return {name: sum(found) / len(found) for name, found in values.items()}


def _at_edge(events: Events, round: int, place: int, turn: int) -> Events:
    """Return the events of an edge's round with what tells it from others."""
    said = {"round": round, "version": round - 1, "edge": place, "edge_round": turn}
    count = len(events.flight)
    also: dict[str, Any] = {
        name: np.full(count, value, KINDS.get(name, np.int32)) for name, value in said.items()
    }
    return replace(events, columns={**events.columns, **also})


NOTHING = _at_edge(Events(table(dict.fromkeys(KINDS, 0), 0), np.zeros(0), np.zeros(0)), 0, 0, 0)
"""The events of a round in which nobody is asked."""


def _main_labels(experiment: Experiment, engine: Engine) -> np.ndarray[Any, Any] | None:
    """Return the label that most examples of each client have, where clients are grouped by it."""
    if experiment.schedule.group_by != "labels":
        return None
    data = engine.data
    if data.labels is None or data.classes is None:
        raise ConfigError(
            "schedule.group_by must be another than 'labels' for targets that are no classes, "
            "got 'labels'"
        )
    who = range(len(engine.partition))
    counts = partition.label_counts(engine.partition, who, data.labels, data.classes)
    return np.argmax(counts, axis=1)


def _drift(mean: Mean) -> dict[str, float]:
    return {name: value for name, value in mean.metrics.items() if name == DRIFT}


def _within(state: State, prefix: str) -> dict[str, Any]:
    """Return the part of a state whose keys begin so, without the beginning."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
