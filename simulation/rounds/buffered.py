"""Server steps with clients that are sent out one by one: buffered, asynchronous, semi-synchronous.

Client i got the model of v_i server steps; at the step from version v its staleness is v - v_i and
its weight ``s_i = s(v - v_i)``. With a_i what the strategy weighs it by, the server rule gets::

    sum_i a_i s_i delta_i / sum_i a_i              buffered (FedBuff, arXiv 2106.06639) and
                                                   semi-synchronous
    mixing s_i (x_{v_i} + delta_i - x_v)           asynchronous (FedAsync, arXiv 1903.03934)

The plan of who arrives when needs no training, so it runs ahead: clients with the same model whose
updates go into the same step are folded together, and trained from the moment that the model is
there (see :mod:`simulation.engines.ahead`). What is merged in a step, and in which order, depends
on the plan alone.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace
from typing import Any

import numpy as np
from typing_extensions import override

from simulation.config import scheduling
from simulation.config.experiment import Experiment
from simulation.engines.ahead import Key, TrainingAhead, Version
from simulation.engines.engine import Engine
from simulation.engines.evaluation import Evaluations
from simulation.population.flights import Flight, FlightPlan, Moment, Rules, Step
from simulation.records.checkpoint import Snapshot
from simulation.records.checkpoint_writer import fixed
from simulation.records.rows import Rows, column_means, columns, join
from simulation.rounds.clocked import world_for
from simulation.rounds.driver import RoundResult, zero_weights
from simulation.rounds.events import Events, table
from simulation.rounds.folding import FoldingDriver
from simulation.worker.chunk import Part
from simulation.worker.faults import Lost, check_losses
from strategies import Federated
from strategies.optional_protocols import innermost
from strategies.protocols import Round, State
from strategies.reducing import bound, finish, merge_all
from strategies.spec import Spec, Vector
from strategies.sums import DRIFT
from strategies.updates import Mean

AHEAD = 64
"""Steps that are planned ahead. It decides no bit: only how early a client may be trained."""

NOW, FLIGHTS, MODEL, SHARED = "flights.now", "flights.table", "flights.model.", "flights.shared."
"""Keys in the state: the moment, who is at work, and of each model that they have what they got."""


class BufferedDriver(FoldingDriver):
    """Our strategies, with clients that are sent out one by one."""

    def __init__(
        self, strategy: Federated, engine: Engine, spec: Spec, experiment: Experiment
    ) -> None:
        super().__init__(strategy, engine, spec, experiment)
        self.schedule = experiment.schedule
        self.world = world_for(strategy, engine, spec, experiment)
        self.rules = Rules(
            scheduling.concurrency_of(experiment),
            scheduling.buffer_of(experiment),
            self.schedule.interval,
            self.schedule.max_staleness,
        )
        everybody = np.arange(len(self.world.fleet))
        self.took = self.world.durations(everybody)
        self.tiers = np.array(self.world.fleet.tiers_of(everybody), object)
        self._joules = 0.0
        self._now = Moment(0.0, 0, 0, 0, ())
        self._plan = self._planned_from(self._now)
        self._planned: deque[tuple[int, Step]] = deque()
        self._away: Counter[int] = Counter()  # Clients at work, by the version of their model.
        # Who gets the model of a version, by version and the step that takes the update.
        self._to_send: dict[int, dict[int, list[int]]] = {}
        self._versions: dict[int, Version] = {}
        self._ahead = TrainingAhead(engine, self.rules.concurrency)

    def _planned_from(self, moment: Moment) -> FlightPlan:
        return FlightPlan(self.world, self.rules, self.strategy.cohort, moment)

    @property
    @override
    def state(self) -> State:
        """The server's state, the moment, who is at work, and the models that they have."""
        before: Any = FoldingDriver.state
        now, joules, versions = self._now, self._joules, dict(self._versions)
        server = fixed(before.fget(self))

        def together() -> State:
            found = {
                **server,
                NOW: np.array([now.seconds, now.version, now.number, now.ticks, joules]),
                FLIGHTS: np.array(now.flights, np.float64).reshape(-1, len(Flight.__annotations__)),
            }
            for version in sorted({flight.version for flight in now.flights}):
                kept = versions[version]
                found[f"{MODEL}{version}"] = kept.model
                for name, value in kept.shared.items():
                    found[f"{SHARED}{version}.{name}"] = np.asarray(value)
            return found

        return Snapshot(together)

    @state.setter
    def state(self, state: State) -> None:
        rest = dict(state)
        seconds, version, number, ticks, self._joules = rest.pop(NOW).tolist()
        flights = tuple(
            Flight(arrives, int(order), int(client), int(of), sent)
            for arrives, order, client, of, sent in rest.pop(FLIGHTS).tolist()
        )
        self._now = Moment(seconds, int(version), int(number), int(ticks), flights)
        self._away = Counter(flight.version for flight in flights)
        for name in [name for name in rest if name.startswith(MODEL)]:
            place = name.removeprefix(MODEL)
            shared = {}
            for key in [key for key in rest if key.startswith(f"{SHARED}{place}.")]:
                shared[key.removeprefix(f"{SHARED}{place}.")] = rest.pop(key)
            self._versions[int(place)] = Version(rest.pop(name), shared)
        self._plan = self._planned_from(self._now)
        self._planned.clear()
        self._to_send.clear()
        before: Any = FoldingDriver.state
        before.fset(self, rest)

    @override
    def train(self, round: int, model: Vector) -> RoundResult:
        """Take the updates of the next step, and step the server rule."""
        algorithm, population = self.strategy.algorithm, len(self.engine.partition)
        if self._state is None:
            self._state = algorithm.init(self.spec, model)
        shared = algorithm.share(self._state, round)
        self.engine.begin_round(round)
        self._versions[round - 1] = Version(model, shared)
        self._start(round - 1)
        number, step = self._planned.popleft()
        assert number == round
        partial, rows, lost = self._collect(round, step)
        self._check_losses(round, len(rows["client"]), lost, len(step.arrived))
        measured = Evaluations(self.engine).totals(rows, "train_")
        with zero_weights(round, rows):
            mean = finish(bound(algorithm.reducer, shared), partial, model.size)
        events = _events(self, round, step).without([one.client for one in lost])
        self._joules += float(events.columns["joules"].sum())
        notes = events.notes(step.after.seconds, self._joules)
        after = model
        if mean is not None:
            mean = self._mixed(mean, step, model)
            loss = column_means(rows, ("train_loss",))["train_loss"]
            if loss is not None:
                mean = replace(mean, metrics={"loss": loss, **mean.metrics})
            after, self._state = algorithm.step(
                self.spec, model, self._state, mean, Round(round, population, self.seed)
            )
            drift = {k: v for k, v in mean.metrics.items() if k == DRIFT}
            notes = {**algorithm.notes(shared, round), **drift, **measured, **notes}
        self._forget(round, step)
        self._now = step.after
        sent = len(step.arrived) + len(step.stale)
        up, down = self.world.up * (sent - len(lost)), int(self.world.down) * sent
        return RoundResult(after, rows, up, down, lost, {}, notes, events.columns)

    def _start(self, version: int) -> None:
        """Plan ahead, and start all training whose model is there."""
        last = min(version + AHEAD, self.experiment.rounds)
        while not self._planned or self._planned[-1][0] < last:
            number = self._planned[-1][0] + 1 if self._planned else version + 1
            step = self._plan.next_step()
            self._planned.append((number, step))
            for flight in step.arrived:
                steps = self._to_send.setdefault(flight.version, {})
                steps.setdefault(number, []).append(flight.client)
        for of in [of for of in self._to_send if of <= version]:
            for number, clients in self._to_send.pop(of).items():
                self._ahead.add(Key(number, of + 1), sorted(clients), self._versions[of])
        self._ahead.hand_out(version + 1)

    def _collect(self, round: int, step: Step) -> tuple[Any, Rows, tuple[Lost, ...]]:
        """Return the total of a step, a row for each client, and who was lost."""
        versions = sorted({flight.version for flight in step.arrived})
        parts: list[Part] = [self._ahead.result(Key(round, v + 1)) for v in versions]
        weights = [self.schedule.weight(round - 1 - version) for version in versions]
        reducer = self.strategy.algorithm.reducer
        there = [place for place, part in enumerate(parts) if part.partial is not None]
        totals, weights = [parts[i].partial for i in there], [weights[i] for i in there]
        if self.schedule.kind != "asynchronous" and any(weight != 1.0 for weight in weights):
            total = innermost(reducer).merge_discounted(totals, weights)
        else:
            total = merge_all(reducer, totals)
        rows = join([part.rows for part in parts]) if parts else columns([])
        order = np.argsort(rows["client"], kind="stable")
        lost = [Lost(round, one.client, one.reason) for part in parts for one in part.lost]
        return (
            total,
            {name: column[order] for name, column in rows.items()},
            tuple(sorted(lost, key=lambda one: one.client)),
        )

    def _check_losses(self, round: int, replies: int, lost: tuple[Lost, ...], asked: int) -> None:
        """Raise an error when a step has lost more than the policy allows.

        A fraction is one of the clients at work. Where a single reply is enough, none is, too: a
        step may consist of a client that fails, and then the model stays as it is.
        """
        faults = self.experiment.faults
        enough = asked if faults.min_replies > 1 else 0
        check_losses(faults, round, self.rules.concurrency, replies, lost, enough)

    def _mixed(self, mean: Mean, step: Step, model: Vector) -> Mean:
        """Return what moves the model towards a client's, where the schedule is asynchronous."""
        if self.schedule.kind != "asynchronous":
            return mean
        (flight,) = step.arrived
        cut, started = self.spec.trainable_size, self._versions[flight.version].model
        by = self.schedule.mixing * self.schedule.weight(step.after.version - 1 - flight.version)
        moved = np.subtract(started, model, dtype=np.float64)
        if mean.scale == 1.0:
            moved += mean.delta
        else:
            moved[:cut] += np.multiply(mean.delta[:cut], mean.scale, dtype=np.float64)
            moved[cut:] += mean.delta[cut:]
        moved *= by
        return replace(mean, delta=moved, scale=1.0)

    def _forget(self, round: int, step: Step) -> None:
        """Drop the models that nobody has any more, after a step."""
        # Who was sent out meanwhile got the model before the step.
        self._away[round - 1] += step.after.number - self._now.number
        self._away.subtract(flight.version for flight in (*step.arrived, *step.stale))
        for version in {round - 1, *(flight.version for flight in (*step.arrived, *step.stale))}:
            if not self._away[version]:
                del self._away[version], self._versions[version]


def _events(driver: BufferedDriver, round: int, step: Step) -> Events:
    """Return the events of a step: whose updates it takes, and who came too late for any."""
    flights = [*step.arrived, *step.stale]
    world, took = driver.world, driver.took
    ids = np.array([flight.client for flight in flights], np.int64)
    arrives = np.array([flight.arrives for flight in flights])
    dispatched = np.array([flight.dispatched for flight in flights])
    version = np.array([flight.version for flight in flights], np.int64)
    used = np.arange(len(flights)) < len(step.arrived)
    rows = {
        "round": round,
        "client": ids,
        "tier": driver.tiers[ids],
        "version": version,
        "dispatched": dispatched,
        "arrived": arrives,
        "staleness": round - 1 - version,
        "steps": world.work.steps[ids],
        "bytes_up": world.up,
        "bytes_down": world.down,
        "joules": took.joules[ids],
        "used": used,
        "reason": np.where(used, "", "stale").astype(object) if step.stale else "",
    }
    return Events(table(rows, len(flights)), took.compute[ids], arrives - dispatched)
