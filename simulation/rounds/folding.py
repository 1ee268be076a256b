"""Rounds of our strategies on our engines: updates are folded where they are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from simulation.config.compression import broadcast_of, encoded_bytes
from simulation.config.experiment import WEIGHTED, Experiment
from simulation.config.scheduling import server_round
from simulation.config.sizes import FLOAT_BYTES
from simulation.engines.calls import TrainOnServer
from simulation.engines.cohort import CohortPlan, costs_of, train_cohort
from simulation.engines.engine import Engine
from simulation.engines.evaluation import Evaluations, Pending
from simulation.population import behaviour
from simulation.population.attackers import attacked
from simulation.population.behaviour import Cast
from simulation.records.rows import Rows, column_means, columns
from simulation.rounds import beside, fairness
from simulation.rounds.download import Download
from simulation.rounds.driver import RoundResult, zero_weights
from simulation.worker.faults import check_losses
from strategies import Federated
from strategies.cohort import TRAIN
from strategies.optional_protocols import wants_server_update
from strategies.personal import travelling
from strategies.protocols import Round, State
from strategies.reducing import bound, during, finish
from strategies.reports import Reports, apart
from strategies.spec import Spec, Vector
from strategies.sums import DRIFT
from strategies.trust import SERVER_UPDATE
from strategies.updates import Mean


class FoldingDriver:
    """Our strategies on our engines: updates are folded where they are made."""

    def __init__(
        self, strategy: Federated, engine: Engine, spec: Spec, experiment: Experiment
    ) -> None:
        self.strategy, self.engine, self.spec = strategy, engine, spec
        self.experiment, self.seed = experiment, experiment.seed
        self._reducer = attacked(strategy.algorithm.reducer, experiment, len(engine.partition))
        self._state: State | None = None
        self._reports = Reports()
        self._coming: tuple[int, Callable[[], tuple[Cast, CohortPlan | None]] | None] = (0, None)
        rule = strategy.algorithm.client
        self.full_batch = rule.full_batch
        self._encoded = encoded_bytes(experiment, spec)
        self._travelling = travelling(spec, rule)
        broadcast = broadcast_of(experiment, spec)
        self._download = None
        if broadcast is not None:
            self._download = Download(broadcast, spec, len(engine.partition))

    @property
    def state(self) -> State:
        """The server rule's state, what clients reported and have; empty before round 1."""
        found = self._reports.beside(self._state or {})
        return found if self._download is None else {**found, **self._download.state}

    @state.setter
    def state(self, state: State) -> None:
        if self._download is not None:
            state = self._download.restore(state)
        self._state, self._reports = apart(state)

    def train(self, round: int, model: Vector) -> RoundResult:
        """Sample a cohort, train and fold it, step the server rule."""
        algorithm, population = self.strategy.algorithm, len(self.engine.partition)
        if self._state is None:
            self._state = algorithm.init(self.spec, model)
        shared = algorithm.share(self._state, round)
        sent = self._sent(model)
        who, plan = self._plan_of(round)
        cohort = who.cohort
        told = self._on_server(round, sent, shared) if cohort else dict
        if cohort:
            partial, rows, lost, measured = train_cohort(
                self.engine, round, cohort, sent, shared, parts=who.parts, plan=plan
            )
            replies = len(rows["client"])
            check_losses(self.experiment.faults, round, len(cohort), replies, lost, who.asked)
        else:
            partial, rows, lost, measured, replies = None, columns([]), (), {}, 0
        at = Round(round, population, self.seed)
        mean = self._mean(partial, rows, shared, {**self._state, **told()}, at)
        if mean is None:  # Everybody is late or away: the server keeps its model.
            return RoundResult(model, rows, 0, self._received(who, {}), lost, who.absent)
        if self.strategy.cohort.kind == "power-of-choice":
            self._reports.add(rows["client"], rows["train_loss"])
        after, self._state = algorithm.step(self.spec, model, self._state, mean, at)
        down, up = self._received(who, shared), self._up(mean)
        notes = algorithm.notes(shared, round)
        notes |= {k: v for k, v in mean.metrics.items() if k == DRIFT}
        notes |= measured
        if self.experiment.mode != "federated":
            up = down = 0  # The pooled data is in one place, and who trains alone sends nothing.
        return RoundResult(after, rows, up * replies, down, lost, who.absent, notes)

    def _sent(self, model: Vector) -> Vector:
        """Return the model that clients have after what the server sends in a round."""
        return model if self._download is None else self._download.send(model)

    def _received(self, who: Cast, shared: Mapping[str, Any]) -> int:
        """Return the bytes that the clients asked receive, all of them together."""
        if self._download is None:
            return self._down(shared) * who.asked
        beside = self._down(shared) - FLOAT_BYTES * self._travelling
        return self._download.deliver([*who.cohort, *who.absent]) + beside * who.asked

    def _on_server(
        self, round: int, model: Vector, shared: Mapping[str, Any]
    ) -> Callable[[], Mapping[str, Vector]]:
        """Let the server train, where the reducer asks for it; return what waits for its update."""
        engine = self.engine
        if not wants_server_update(self._reducer):
            return dict
        held = {"model": engine.share(model), "shared": engine.share(dict(shared))}
        examples = self.experiment.partition.root or 0
        ticket = engine.submit(TrainOnServer(round=round, examples=examples, **held))
        return lambda: {SERVER_UPDATE: engine.result(ticket)}

    def _mean(
        self, partial: Any, rows: Rows, shared: Mapping[str, Any], state: State, at: Round
    ) -> Mean | None:
        """Return the mean of clients that were sent ``shared``; None where there is none."""
        reducer = during(bound(self._reducer, shared), at, state)
        with zero_weights(server_round(self.experiment, at.number), rows):
            mean = finish(reducer, partial, self.spec.size)
        loss = None if mean is None else column_means(rows, ("train_loss",))["train_loss"]
        if mean is None or loss is None:
            return mean
        return replace(mean, metrics={"loss": loss, **mean.metrics})

    def _down(self, shared: Mapping[str, Any]) -> int:
        """Return the bytes that a client receives; layers that stay on the clients travel not."""
        return FLOAT_BYTES * (self._travelling + sum(np.size(v) for v in shared.values()))

    def _up(self, mean: Mean) -> int:
        """Return the bytes that a client sends."""
        if self._encoded is not None:
            return self._encoded
        sent = sum(mean.extras[name].size for name in self.strategy.algorithm.client.uploads)
        return FLOAT_BYTES * (self._travelling + sent)

    def _plan_of(self, round: int) -> tuple[Cast, CohortPlan | None]:
        """Return a round's plan, and make that of the next one beside it where nothing hinders."""
        (known, plan), self._coming = self._coming, (0, None)
        found = self._cast_and_plan(round) if plan is None or known != round else plan()
        if self.plans_ahead and round < self.experiment.rounds:
            self._coming = round + 1, beside.start(self._cast_and_plan, round + 1)
        return found

    def _cast_and_plan(self, round: int) -> tuple[Cast, CohortPlan | None]:
        who = self._cast(round)
        return who, CohortPlan.of(self.engine, who.cohort) if who.cohort else None

    @property
    def plans_ahead(self) -> bool:
        """Whether a round's cohort is known before the round before it is over."""
        return self.strategy.cohort.kind != "power-of-choice"

    def _cast(self, round: int) -> Cast:
        """Decide who takes part: the cohort, and what the simulated world makes of it."""
        return self._cast_of(round)

    def _cast_of(
        self,
        round: int,
        there: Sequence[int] | None = None,
        seconds: Callable[[Sequence[int], Mapping[int, float]], np.ndarray] | None = None,
        wanted: int | None = None,
        purpose: int = TRAIN,
    ) -> Cast:
        """Decide who takes part; for the arguments see :func:`behaviour.cast`, :meth:`_sample`."""

        def sample(clients: int | Sequence[int], size: int | None) -> list[int]:
            return self._sample(round, clients, size, purpose)

        work, population = partial(costs_of, self.engine), len(self.engine.partition)
        return behaviour.cast(
            self.experiment, round, population, sample, work, there, seconds, wanted
        )

    def _sample(
        self, round: int, clients: int | Sequence[int], size: int | None, purpose: int
    ) -> list[int]:
        """Return the cohort of a round.

        Args:
            round: the round.
            clients: who can be asked; a number stands for all.
            size: of the cohort; None: as the strategy wants.
            purpose: of the random stream.
        """
        cohort = self.strategy.cohort
        if size is not None:
            cohort = replace(cohort, size=size, fraction=None)
        sizes = None
        if cohort.kind in WEIGHTED:
            every = self.engine.partition.train_sizes
            sizes = every if isinstance(clients, int) else every[np.sort(np.asarray(clients))]
        there = clients if isinstance(clients, int) else len(clients)
        if cohort.candidates is not None and cohort.candidates > there:
            cohort = replace(cohort, candidates=there)  # Who is away is no candidate.
        losses = self._reports.losses
        return cohort.sample(round, clients, purpose, sizes=sizes, losses=losses)

    def evaluate(self, round: int, model: Vector, clients: list[int]) -> Pending:
        """Measure the model on the cohort's validation examples, while others train."""
        return Evaluations(self.engine).on_clients(clients, model, self._models(round))

    def evaluate_all(self, model: Vector) -> Pending | None:
        """Measure the model on every client, if the run is to."""
        if not fairness.is_wanted(self.experiment, self.engine.partition):
            return None
        every = range(len(self.engine.partition))
        return Evaluations(self.engine).on_clients(every, model, self._models(1))

    def _models(self, round: int) -> dict[str, Any] | None:
        """Return the models among which clients choose; None where they do not."""
        algorithm = self.strategy.algorithm
        if not algorithm.client.candidates:
            return None
        assert self._state is not None
        return algorithm.share(self._state, round)
