"""The round loop: sample, train, step, evaluate, record, checkpoint. Written once.

Two ways to train a round: :class:`~simulation.rounds.folding.FoldingDriver` (our strategies on our
engines: partials folded on the workers) and :mod:`simulation.flower.driver` (any Flower strategy on
any Flower ``Grid``). The loop is the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.config.experiment import Experiment
from simulation.config.local_work import local_work
from simulation.engines.evaluation import NOT_TESTED, Pending, ServerEvaluation
from simulation.population import attackers
from simulation.records import models
from simulation.records.checkpoint import Position
from simulation.records.rows import Rows, client_table, column_means
from simulation.records.run_folder import RunFolder
from simulation.records.timeline import Timeline
from simulation.rounds import beside, fairness
from simulation.rounds.driver import DivergedError, Driver, RoundResult
from simulation.rounds.processed import examples_seen
from simulation.rounds.watching import Watch
from simulation.training.process import keep_memory
from simulation.training.trainers import rate_in
from simulation.worker.faults import is_divergence
from strategies.spec import Vector
from strategies.stacked import squared_norm

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

AT_ONCE = 100_000
"""Entries of a model whose change is measured without a thread."""

WHO = ("train", "client", "server")
"""What a metric is measured on, as its name begins."""

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
        watch: Watch | None = None,
        rate: float | None = None,
    ) -> None:
        self.rate = rate  # of the clients' optimiser, which may decay
        self.alias = alias  # the model's own name for its accuracy
        self.watch = watch or Watch(experiment)
        self.experiment, self.driver, self.folder = experiment, driver, folder
        self.timeline = timeline
        self.evaluate_server, self.observe = evaluate_server, observe
        self._simulates = experiment.realism.active
        self.attackers = attackers.chosen(experiment, experiment.clients)

    def run(
        self, position: Position, recorded: bool, saved: Callable[[Position], None]
    ) -> Position:
        """Run from ``position`` to the last round, or to the one that says that it is the last.

        Args:
            position: where to begin.
            recorded: whether the line of that round is written already.
            saved: called after every round: a moment for a checkpoint.
        """
        keep_memory()
        measured = self._now(_nothing if recorded else self._measure(position))
        started, last = time.perf_counter(), self.experiment.rounds
        while position.round < last and self.watch.reason is None:
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
            position = self._next(round, now - started, trained, position.model)
            started = now
            self._report(trained)
            measured = self._measure(position)
            saved(position)
            measured = self._now(measured)
        measured()
        return position

    def _now(self, measured: Callable[[], None]) -> Callable[[], None]:
        """Wait for an evaluation at once where the next round depends on it."""
        if not self.watch.waits:
            return measured
        measured()
        return _nothing

    def _next(self, round: int, seconds: float, trained: RoundResult, before: Vector) -> Position:
        cut = self.driver.spec.trainable_size
        vectors = trained.model[:cut], before[:cut]
        # A thread costs more than what is computed at once for a small model.
        norm = beside.start(_distance, *vectors) if cut > AT_ONCE else partial(_distance, *vectors)
        line = self._line(round, seconds, trained)

        def complete() -> None:
            line["update_norm"] = norm()

        return Position(round, trained.model, line, trained.rows, complete)

    def _line(self, round: int, seconds: float, trained: RoundResult) -> dict[str, Any]:
        rows = trained.rows
        return {
            "round": round,
            "seconds": seconds,
            "clients": len(rows["client"]),
            "examples": int(rows["examples"].sum()),
            "examples_seen": examples_seen(rows, self._batch(rows)),
            **column_means(rows, ("train_loss", "train_accuracy")),
            "bytes_up": trained.bytes_up,
            "bytes_down": trained.bytes_down,
            "update_norm": None,  # It is computed beside the next round.
            **self._decayed(round),
            **trained.notes,
            "clients_lost": len(trained.lost),
            **self._absences(trained),
        }

    def _batch(self, rows: Rows) -> int | NDArray[Any] | None:
        """Examples of a local step, of each client where it was told; None: all that it has."""
        if self.driver.full_batch:
            return None
        return rows.get("batch", local_work(self.experiment.training).batch)

    def _decayed(self, round: int) -> dict[str, float]:
        rate = rate_in(self.experiment, self.rate, round)
        return {} if rate is None else {"learning_rate": rate}

    def _absences(self, trained: RoundResult) -> dict[str, int]:
        if not self._simulates:
            return {}
        return {"clients_absent": len(trained.absent)}

    def _report(self, trained: RoundResult) -> None:
        """Record whom a round lost and what came when, before the checkpoint that goes on then."""
        for one in trained.lost:
            log.warning("lost: %s", one)
        self.folder.add_lost([asdict(one) for one in trained.lost])
        if trained.events is not None:
            self.folder.add_part("events.parquet", trained.events)

    def _measure(self, position: Position) -> Callable[[], None]:
        """Start a round's evaluations; return what waits for them and writes the line."""
        plan, round, rows = self.experiment.evaluation, position.round, position.rows
        due = plan.is_due(round, self.experiment.rounds)
        server = self.evaluate_server(position.model) if plan.server and due else None
        clients = None
        if rows is not None and len(rows["client"]) and plan.clients and due:
            clients = self.driver.evaluate(round, position.model, rows["client"].tolist())
        last = round == self.experiment.rounds
        all_clients = self._every_client(position, clients) if last else None

        def finish() -> None:
            tested: Mapping[str, Any] = server.result() if server else NOT_TESTED
            found, means = clients.result() if clients else (None, {})
            position.complete()
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
            if self.watch.see(record):
                models.write_best(self.folder.path, round, position.model)
            ends = not last and self.watch.reason is not None
            every_client = self._every_client(position, clients) if ends else all_clients
            if every_client is not None:
                every = found if found and every_client is clients else every_client.result()[0]
                self.folder.add_all_clients(fairness.table(round, every, self.attackers))
            self.folder.add_round(record)
            self.observe(record)

        return finish

    def _every_client(self, position: Position, clients: Pending | None) -> Pending | None:
        """Start measuring the last model on every client; None where the run is not to."""
        rows = position.rows
        if rows is None:
            return None
        trained = len(np.unique(rows["client"]))
        whole = clients is not None and trained == self.experiment.clients
        # Where all took part they have just been measured.
        wanted = whole and self.experiment.evaluation.all_clients is not False
        return clients if wanted else self.driver.evaluate_all(position.model)


def _distance(after: Vector, before: Vector) -> float:
    """Return ``||after - before||``, in float64."""
    return float(squared_norm(np.subtract(after, before, dtype=np.float64)) ** 0.5)


def _number(value: float | None) -> float | None:
    """Return a number, or None for NaN: where there is no accuracy, none is told."""
    return None if value is None or np.isnan(value) else value


def _nothing() -> None:
    """Stand for an evaluation that is not needed."""
