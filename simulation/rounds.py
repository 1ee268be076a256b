"""The round loop: sample, train, step, evaluate, record, checkpoint. Written once.

Two ways to train a round: :class:`Folding` (our strategies on our engines: partials folded on the
workers) and :mod:`simulation.messaging` (any Flower strategy on any Flower ``Grid``). The loop is
the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from simulation import attack, fairness, realism, schedule
from simulation.engine import EngineGrid
from simulation.evaluation import NOT_TESTED, Pending, ServerEvaluation
from simulation.experiment import WEIGHTED, Experiment
from simulation.faults import Lost, is_divergence, judge
from simulation.leaf import Rows, columns
from simulation.processed import examples_seen
from simulation.realism import Cast
from simulation.results import RunFolder, client_table, column_means
from simulation.timeline import Timeline
from strategies import Federated
from strategies.core import Round, Spec, State, Vector, bound, finish
from strategies.personal import local_entries
from strategies.reports import Reports, apart
from strategies.sums import DRIFT, squared_norm

log = logging.getLogger("sunflower.rounds")

EMPTY_LINE: dict[str, Any] = {
    "round": 0,
    "seconds": 0.0,
    **dict.fromkeys(("clients", "examples", "examples_seen", "train_loss", "train_accuracy")),
    "bytes_up": 0,
    "bytes_down": 0,
    "update_norm": None,
    "drift": None,
    "clients_lost": 0,
    "clients_evaluated": None,
}
"""Round 0: the initial model, nothing trained yet."""

WHO = ("train", "client", "server")
"""What a metric is measured on, as its name begins."""

FLOAT = 4
"""Bytes of a weight on the wire."""


class RoundError(RuntimeError):
    """A round that could not be completed."""


@contextmanager
def zero_weights(round: int, rows: Rows) -> Iterator[None]:
    """Turn a division by the weights of clients without examples into a RoundError that says so."""
    try:
        yield
    except (ValueError, ZeroDivisionError) as error:
        if np.any(rows["examples"]) or not len(rows["examples"]):
            raise
        raise RoundError(
            f"round {round}: all weights are 0, as none of its {len(rows['examples'])} clients "
            "has examples"
        ) from error


class DivergedError(RoundError):
    """A round after which the model is no longer finite."""


@dataclass(frozen=True)
class Trained:
    """A trained round.

    Args:
        model: the next model [P].
        rows: a row per client that contributed.
        bytes_up: bytes that clients sent.
        bytes_down: bytes that they received.
        lost: clients that failed, with reasons.
        absent: clients that were asked and whose work does not count, as simulated.
        notes: numbers of the strategy's own, for the round's record.
    """

    model: Vector
    rows: Rows
    bytes_up: int
    bytes_down: int
    lost: tuple[Lost, ...] = ()
    absent: Mapping[int, str] = field(default_factory=dict)
    notes: Mapping[str, float] = field(default_factory=dict)


class Driver(Protocol):
    """How one kind of strategy trains and evaluates clients."""

    spec: Spec
    full_batch: bool

    def train(self, round: int, model: Vector) -> Trained:
        """Train one round from ``model``."""

    def evaluate(self, round: int, model: Vector, clients: list[int]) -> Pending:
        """Start measuring ``model`` on clients: ``(a row per client, means by name)``."""

    def evaluate_all(self, model: Vector) -> Pending | None:
        """Start measuring the final model on every client; None where the run is not to."""

    @property
    def state(self) -> State:
        """The strategy's server state."""


class Folding:
    """Our strategies on our engines: updates are folded where they are made."""

    def __init__(
        self, strategy: Federated, grid: EngineGrid, spec: Spec, experiment: Experiment
    ) -> None:
        self.strategy, self.grid, self.spec = strategy, grid, spec
        self.experiment, self.seed = experiment, experiment.seed
        self._state: State | None = None
        self._reports = Reports()
        rule = strategy.algorithm.client
        self.full_batch = rule.full_batch
        self._travelling = spec.size - len(local_entries(spec, rule.local) if rule.local else ())

    @property
    def state(self) -> State:
        """The server rule's state and what clients reported; empty before round 1."""
        return self._reports.beside(self._state or {})

    @state.setter
    def state(self, state: State) -> None:
        self._state, self._reports = apart(state)

    def train(self, round: int, model: Vector) -> Trained:
        """Sample a cohort, train and fold it, step the server rule."""
        algorithm, population = self.strategy.algorithm, len(self.grid.partition)
        if self._state is None:
            self._state = algorithm.init(self.spec, model)
        who = self._cast(round)
        cohort = who.cohort
        shared = algorithm.share(self._state, round)
        if cohort:
            partial, rows = self.grid.train(round, cohort, model, shared, parts=who.parts)
            lost, replies = self.grid.lost, len(rows["client"])
            judge(self.experiment.faults, round, len(cohort), replies, lost, who.asked)
        else:
            partial, rows, lost, replies = None, columns([]), (), 0
        with zero_weights(round, rows):
            mean = finish(bound(algorithm.reducer, shared), partial, model.size)
        if mean is None:  # Everybody is late or away: the server keeps its model.
            down = FLOAT * self._travelling * who.asked
            return Trained(model, rows, 0, down, lost, who.absent)
        measured = column_means(rows, ("train_loss",))["train_loss"]
        if measured is not None:
            mean = replace(mean, metrics={"loss": measured, **mean.metrics})
        if self.strategy.cohort.kind == "power-of-choice":
            self._reports.add(rows["client"], rows["train_loss"])
        after, self._state = algorithm.step(
            self.spec, model, self._state, mean, Round(round, population, self.seed)
        )
        # Layers that stay on the clients travel neither way.
        down = FLOAT * (self._travelling + sum(np.size(v) for v in shared.values()))
        up = FLOAT * (self._travelling + sum(v.size for v in mean.extras.values()))
        notes = algorithm.notes(shared, round)
        notes |= {k: v for k, v in mean.metrics.items() if k == DRIFT}
        notes |= self.grid.measured if cohort else {}
        if self.experiment.mode != "federated":
            up = down = 0  # The pooled data is in one place, and who trains alone sends nothing.
        return Trained(after, rows, up * replies, down * who.asked, lost, who.absent, notes)

    def _cast(self, round: int) -> Cast:
        """Decide who takes part: the cohort, and what the simulated world makes of it."""

        def sample(clients: int | Sequence[int], size: int | None) -> list[int]:
            cohort = self.strategy.cohort
            if size is not None:
                cohort = replace(cohort, size=size, fraction=None)
            sizes = None
            if cohort.kind in WEIGHTED:
                every = self.grid.partition.train_sizes
                sizes = every if isinstance(clients, int) else every[np.sort(np.asarray(clients))]
            there = clients if isinstance(clients, int) else len(clients)
            if cohort.candidates is not None and cohort.candidates > there:
                cohort = replace(cohort, candidates=there)  # Who is away is no candidate.
            return cohort.sample(round, clients, sizes=sizes, losses=self._reports.losses)

        def work(clients: Sequence[int]) -> np.ndarray:
            sizes = self.grid.partition.train_sizes[np.asarray(clients, np.int64)]
            epochs = self.experiment.training.local_epochs
            return schedule.weights(sizes.astype(np.int64), epochs)

        population = len(self.grid.partition)
        return realism.cast(self.experiment, round, population, sample, work)

    def evaluate(self, round: int, model: Vector, clients: list[int]) -> Pending:
        """Measure the model on the cohort's validation examples, while others train."""
        return self.grid.evaluate_clients(clients, model)

    def evaluate_all(self, model: Vector) -> Pending | None:
        """Measure the model on every client, if the run is to."""
        if not fairness.is_wanted(self.experiment, self.grid.partition):
            return None
        return self.grid.evaluate_clients(range(len(self.grid.partition)), model)


@dataclass(frozen=True)
class Position:
    """Where a run stands: after ``round`` rounds, with this model.

    ``line`` and ``rows`` are what the round's training gave: the evaluation that completes them
    may still be under way when the position is saved.
    """

    round: int
    model: Vector
    line: Mapping[str, Any] = field(default_factory=dict)
    rows: Rows | None = None


Observer = Callable[[Mapping[str, Any]], None]
"""Called with every line of ``rounds.jsonl``."""


class Loop:
    """Run rounds and record them.

    The evaluation of a round overlaps the training of the next where the engine can do so; its
    line is written when both are done.
    """

    def __init__(
        self,
        experiment: Experiment,
        driver: Driver,
        evaluate_server: ServerEvaluation,
        folder: RunFolder,
        observe: Observer,
        timeline: Timeline,
        alias: str = "",
    ) -> None:
        self.alias = alias  # the model's own name for its accuracy
        self.experiment, self.driver, self.folder = experiment, driver, folder
        self.timeline = timeline
        self.evaluate_server, self.observe = evaluate_server, observe
        self.attackers = attack.chosen(experiment, experiment.clients)

    def run(
        self, position: Position, recorded: bool, saved: Callable[[Position], None]
    ) -> Position:
        """Run from ``position`` to the last round.

        Args:
            position: where to begin.
            recorded: whether the line of that round is written already.
            saved: called after every round: the moment for a checkpoint.
        """
        measured = _nothing if recorded else self._measure(position)
        started, last = time.perf_counter(), self.experiment.rounds
        while position.round < last:
            round = position.round + 1
            self.timeline.round = round
            try:
                trained = self.driver.train(round, position.model)
            except RuntimeError as error:
                if is_divergence(error):
                    measured()  # Where the numbers were last finite belongs to the result.
                raise
            measured()
            if not np.isfinite(trained.model).all():
                raise DivergedError(
                    f"round {round}: the model is no longer finite; "
                    "the learning rate may be too high"
                )
            now = time.perf_counter()
            line = self._line(round, now - started, trained, position.model)
            started = now
            position = Position(round, trained.model, line, trained.rows)
            self._report(trained.lost)
            measured = self._measure(position)
            if round % self.experiment.faults.checkpoint_every == 0 or round == last:
                saved(position)
        measured()
        return position

    def _line(self, round: int, seconds: float, trained: Trained, before: Vector) -> dict[str, Any]:
        rows, cut = trained.rows, self.driver.spec.trainable_size
        change = np.subtract(trained.model[:cut], before[:cut], dtype=np.float64)
        return {
            "round": round,
            "seconds": seconds,
            "clients": len(rows["client"]),
            "examples": int(rows["examples"].sum()),
            "examples_seen": examples_seen(rows, self._batch(rows)),
            **column_means(rows, ("train_loss", "train_accuracy")),
            "bytes_up": trained.bytes_up,
            "bytes_down": trained.bytes_down,
            "update_norm": squared_norm(change) ** 0.5,
            **trained.notes,
            "clients_lost": len(trained.lost),
            **self._absences(trained),
        }

    def _batch(self, rows: Rows) -> int | NDArray[Any] | None:
        """Examples of a local step, of each client where it was told; None: all that it has."""
        if self.driver.full_batch:
            return None
        return rows.get("batch", self.experiment.training.batch_size)

    def _absences(self, trained: Trained) -> dict[str, int]:
        if not self.experiment.realism.active:
            return {}
        return {"clients_absent": len(trained.absent)}

    def _report(self, lost: Sequence[Lost]) -> None:
        """Record the clients that a round lost, before the checkpoint that goes on without them."""
        for one in lost:
            log.warning("lost: %s", one)
        self.folder.add_lost([asdict(one) for one in lost])

    def _measure(self, position: Position) -> Callable[[], None]:
        """Start a round's evaluations; return what waits for them and writes the line."""
        plan, round, rows = self.experiment.evaluation, position.round, position.rows
        due = plan.is_due(round, self.experiment.rounds)
        server = self.evaluate_server(position.model) if plan.server and due else None
        clients = None
        if rows is not None and len(rows["client"]) and plan.clients and due:
            clients = self.driver.evaluate(round, position.model, rows["client"].tolist())
        all_clients = None
        if rows is not None and round == self.experiment.rounds:
            whole = clients is not None and len(rows["client"]) == self.experiment.clients
            # Where all took part they have just been measured.
            wanted = whole and self.experiment.evaluation.all_clients is not False
            all_clients = clients if wanted else self.driver.evaluate_all(position.model)

        def finish() -> None:
            tested: Mapping[str, Any] = server.result() if server else NOT_TESTED
            found, means = clients.result() if clients else (None, {})
            record = {
                **EMPTY_LINE,
                **position.line,
                **{f"server_{name}": _number(value) for name, value in tested.items()},
                **{f"client_{name}": means.get(name) for name in ("loss", "accuracy", *means)},
                "clients_evaluated": None if found is None else int(np.sum(found["examples"] > 0)),
            }
            if self.alias:
                record |= {f"{w}_{self.alias}": record[f"{w}_accuracy"] for w in WHO}
            if rows is not None:
                part = client_table(round, rows, found, self.attackers)
                self.folder.add_part("clients.parquet", part)
                self.folder.add_part("timeline.parquet", self.timeline.take(round))
            if all_clients is not None:
                every = found if found and all_clients is clients else all_clients.result()[0]
                self.folder.add_all_clients(fairness.table(round, every, self.attackers))
            self.folder.add_round(record)
            self.observe(record)

        return finish


def _number(value: float | None) -> float | None:
    """Return a number, or None for NaN: where there is no accuracy, none is told."""
    return None if value is None or np.isnan(value) else value


def _nothing() -> None:
    """Stand for an evaluation that is not needed."""
