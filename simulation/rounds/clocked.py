"""Rounds on a simulated clock: how long one takes, who is late, and what that costs.

With ``d_i`` the time that client i takes (see :mod:`simulation.population.devices`), a round that
asks the clients A and counts the clients C takes ``max_{i in C} d_i`` seconds; with a deadline D at
most D, which is what it takes where somebody is late. A percentile makes D that of all ``d_i`` of
A. All of this is known before anybody trains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from simulation.config.compression import encoded_bytes
from simulation.config.experiment import Experiment
from simulation.config.local_work import LocalWork, local_work
from simulation.config.scheduling import percentile_of
from simulation.config.sizes import FLOAT_BYTES
from simulation.engines.engine import Engine
from simulation.population.behaviour import Cast
from simulation.population.clock import World, world_of
from simulation.population.guided import PREFIX, guided
from simulation.rounds.driver import RoundResult
from simulation.rounds.events import Events, table
from simulation.rounds.folding import FoldingDriver
from simulation.training.client_config import AS_CONFIGURED
from strategies import Federated
from strategies.cohort import TRAIN
from strategies.personal import travelling
from strategies.protocols import State
from strategies.spec import Spec, Vector

SECONDS, JOULES = "clock.seconds", "clock.joules"
"""Keys in the state: the clock at the end of a round, and the energy spent up to it."""

REASONS = {
    "dropped out": "dropped",
    "straggler, dropped": "dropped",
    "too slow": "late",
    "late": "late",
}
"""What ``events.parquet`` calls the reasons for which a client does not count."""


def world_for(strategy: Federated, engine: Engine, spec: Spec, experiment: Experiment) -> World:
    """Return the world of a run: what its strategy sends decides how long messages travel."""
    algorithm, rule = strategy.algorithm, strategy.algorithm.client
    sent = travelling(spec, rule)
    nothing = np.zeros(spec.size, np.float32)
    shared = algorithm.share(algorithm.init(spec, nothing), 1)
    down = FLOAT_BYTES * (sent + sum(np.size(v) for v in shared.values()))
    up = encoded_bytes(experiment, spec)
    if up is None:
        up = FLOAT_BYTES * (sent + rule.sent(spec))
    sizes = engine.partition.train_sizes
    phases = AS_CONFIGURED.works(experiment.training, rule.phases) if rule.phases else []
    if rule.gradient:
        phases = [LocalWork(1, None), local_work(experiment.training)]
    gradients = 1 if rule.direction is None else rule.direction.gradients
    return world_of(experiment, sizes, rule.full_batch, down, up, phases, gradients)


@dataclass(frozen=True)
class RoundPlan:
    """A round on the clock, decided before anybody trains.

    Args:
        cast: who does what.
        end: the clock at its end.
        events: of all clients asked.
    """

    cast: Cast
    end: float
    events: Events


class ClockedDriver(FoldingDriver):
    """Our strategies, in rounds that take as long as the clients' devices need."""

    def __init__(
        self, strategy: Federated, engine: Engine, spec: Spec, experiment: Experiment
    ) -> None:
        super().__init__(strategy, engine, spec, experiment)
        self.world = world_for(strategy, engine, spec, experiment)
        self._beside = int(self.world.down) - FLOAT_BYTES * self._travelling
        self.guided = guided(experiment, self.world)
        self._seconds, self._joules = 0.0, 0.0
        self._under_way: RoundPlan | None = None

    @property
    @override
    def state(self) -> State:
        """The state of the rounds, the clock, the energy spent, and what clients reported."""
        before: Any = FoldingDriver.state
        told = {} if self.guided is None else self.guided.state
        return {**before.fget(self), **told, SECONDS: self._seconds, JOULES: self._joules}

    @state.setter
    def state(self, state: State) -> None:
        rest = dict(state)
        self._seconds, self._joules = float(rest.pop(SECONDS)), float(rest.pop(JOULES))
        if self.guided is not None:
            self.guided.state = rest
            rest = {name: value for name, value in rest.items() if not name.startswith(PREFIX)}
        before: Any = FoldingDriver.state
        before.fset(self, rest)

    @override
    def train(self, round: int, model: Vector) -> RoundResult:
        """Train a round, and put the clock forward."""
        result = super().train(round, model)
        plan = self._under_way
        assert plan is not None
        events = plan.events.without([lost.client for lost in result.lost])
        if self.guided is not None:
            self.guided.hear(round, result.rows["client"], result.rows["train_loss"])
        self._seconds = plan.end
        self._joules += float(plan.events.columns["joules"].sum())
        notes = {**result.notes, **events.notes(self._seconds, self._joules)}
        return replace(result, notes=notes, events=events.columns)

    @override
    def _sent(self, model: Vector) -> Vector:
        """Return the model that clients have, and let the clock know how long it travels."""
        sent = super()._sent(model)
        if self._download is not None:
            every = np.arange(len(self.engine.partition))
            self.world = replace(self.world, down=self._download.bytes_for(every) + self._beside)
        return sent

    @property
    @override
    def plans_ahead(self) -> bool:
        return False  # Who is there, and who is late, depends on the clock.

    @override
    def _cast(self, round: int) -> Cast:
        """Decide who takes part, of those who are there; who is late does not count."""
        self._under_way = self._plan(round)
        return self._under_way.cast

    @override
    def _sample(
        self, round: int, clients: int | Sequence[int], size: int | None, purpose: int
    ) -> list[int]:
        if self.guided is None:
            return super()._sample(round, clients, size, purpose)
        there = np.arange(clients) if isinstance(clients, int) else np.asarray(clients, np.int64)
        wanted = self.experiment.cohort_size if size is None else size
        return sorted(self.guided.choose(round, np.sort(there), wanted).tolist())

    def _plan(self, round: int) -> RoundPlan:
        start, mask = self.world.opening(self._seconds)
        return self._planned(round, start, None if mask is None else np.flatnonzero(mask).tolist())

    def _planned(
        self,
        round: int,
        start: float,
        there: Sequence[int] | None,
        wanted: int | None = None,
        purpose: int = TRAIN,
    ) -> RoundPlan:
        """Plan a round; arguments as those of :meth:`_cast_of`."""
        cast = self._cast_of(round, there, self._seconds_of, wanted, purpose)
        asked = sorted([*cast.cohort, *cast.absent])
        if not asked:  # A cohort of poisson sampling may be empty: that takes no time.
            return RoundPlan(cast, start, _events(self.world, round, cast, start, start))
        whole = self.world.durations(asked, cast.parts)
        cast, late = self._in_time(cast, asked, whole.total)
        counted = np.isin(asked, cast.cohort)
        if late is not None:
            length = late
        else:
            length = float(whole.total[counted].max() if counted.any() else whole.total.max())
        return RoundPlan(
            cast, start + length, _events(self.world, round, cast, start, start + length)
        )

    def _seconds_of(
        self, clients: Sequence[int], parts: Mapping[int, float]
    ) -> NDArray[np.float64]:
        return self.world.durations(clients, dict(parts)).total

    def _in_time(
        self, cast: Cast, asked: list[int], seconds: NDArray[np.float64]
    ) -> tuple[Cast, float | None]:
        """Return the cast without who is late, and the deadline if anybody is."""
        plan = self.experiment.schedule
        if plan.deadline is None:
            return cast, None
        share = percentile_of(plan.deadline)
        deadline = plan.deadline if share is None else np.percentile(seconds, share)
        limit = float(deadline)
        took = dict(zip(asked, seconds.tolist(), strict=True))
        late = [client for client in cast.cohort if took[client] > limit]
        if not late:
            return cast, None
        some = self._done_by(late, limit, cast.parts) if plan.late == "partial" else {}
        gone = {client: "late" for client in late if client not in some}
        cohort = [client for client in cast.cohort if client not in gone]
        parts = {c: p for c, p in (cast.parts | some).items() if c not in gone}
        return replace(cast, cohort=cohort, absent=cast.absent | gone, parts=parts), limit

    def _done_by(
        self, late: list[int], limit: float, parts: Mapping[int, float]
    ) -> dict[int, float]:
        """Return which part of its work each client has done so that it arrives at the deadline."""
        found = {}
        took = self.world.durations(late, dict(parts))
        steps, _ = self.world.done(late, dict(parts))
        for client, total, compute, count in zip(
            late, took.total, took.compute, steps, strict=True
        ):
            left = limit - (total - compute)
            done = int(count * left / compute) if compute > 0 else 0
            if done >= 1:
                # Half a step less, so that rounding up gives this number of steps.
                found[client] = (done - 0.5) / int(self.world.work.steps[client])
        return found


def _events(world: World, round: int, cast: Cast, start: float, end: float) -> Events:
    """Return the events of a round's clients."""
    asked = np.array(sorted([*cast.cohort, *cast.absent]), np.int64)
    took = world.durations(asked, cast.parts)
    steps, _ = world.done(asked, cast.parts)
    used = np.isin(asked, cast.cohort)
    # Who is late or too slow is told at the end of the round that it need not go on.
    flight = np.minimum(took.total, end - start)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(took.total > 0, flight / took.total, 1.0)
    reasons = [REASONS[cast.absent[c]] if c in cast.absent else "" for c in asked.tolist()]
    never = np.array([reason == "dropped" for reason in reasons], bool)
    rows = {
        "round": round,
        "client": asked,
        "tier": np.array(world.fleet.tiers_of(asked), object),
        "version": round - 1,
        "dispatched": start,
        "arrived": np.where(never, np.nan, start + took.total),
        "staleness": 0,
        "steps": steps,
        "bytes_up": np.where(used, world.up, 0),
        "bytes_down": world.down_to(asked),
        "joules": took.joules * share,
        "used": used,
        "reason": np.array(reasons, object),
    }
    return Events(table(rows, len(asked)), took.compute * share, flight)
