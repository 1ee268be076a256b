"""Evaluations of a round: cut into calls, and what they give put together again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.config.experiment import Experiment
from simulation.engines.calls import (
    EvaluateBackdoor,
    EvaluateClients,
    EvaluateTest,
    EvaluateTestOwn,
    MetricResults,
)
from simulation.engines.engine import Engine
from simulation.engines.policy import POLICY
from simulation.population.attackers import backdoor
from simulation.records.rows import Rows, column_means, join, take_states
from simulation.training.measured import Measured
from strategies.client_rule import ClientRule
from strategies.spec import Vector

Metrics = dict[str, float | None]
"""Metrics by name; None where there is none, as the accuracy of a regression."""


@dataclass(frozen=True)
class Pending:
    """An evaluation under way; :meth:`result` waits for it."""

    collect: Callable[[], Any]

    def result(self) -> Any:
        """Wait, and return what was measured."""
        return self.collect()


SUCCESS = "attack_success"
"""Name of a backdoor's attack success rate."""


class Evaluations:
    """Evaluate models on an engine, after all other work that waits there.

    Args:
        engine: what carries the calls out.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def totals(self, rows: Rows, prefix: str) -> dict[str, float]:
        """Take the metrics' variables out of rows; return the values over all their examples."""
        states = take_states(rows)
        return {} if states is None else self._results(states, prefix)

    def _results(self, states: NDArray[np.float64], prefix: str = "") -> dict[str, float]:
        engine = self.engine
        values = engine.do(MetricResults(variables=states))
        return {f"{prefix}{name}": value for name, value in values.items()}

    def on_test(self, model: Vector) -> Pending:
        """Start measuring a model on the server's test set: its metrics by name.

        With a backdoor also how often it works, ``attack_success``.
        """
        handle, total = self.engine.share(model), len(self.engine.data.y_test)
        tickets = self._pieces(EvaluateTest, handle, total)
        patterns = self._pieces(EvaluateBackdoor, handle, self._victims)

        def collect() -> Metrics:
            found: list[Measured] = [self.engine.result(t) for t in tickets]
            loss = sum(float(f.loss[0]) for f in found)
            states = np.stack([f.states[0] for f in found]).sum(axis=0, dtype=np.float64)
            own = self._results(states) if len(states) else {}
            success = {}
            if patterns:
                success[SUCCESS] = _accuracy([self.engine.result(t) for t in patterns])
            return {"loss": loss / total, "accuracy": _accuracy(found), **own, **success}

        return Pending(collect)

    @cached_property
    def _victims(self) -> int:
        """How many test examples a backdoor is tried on; 0 without a backdoor."""
        engine = self.engine
        plan = backdoor(engine.setup.experiment, len(engine.partition), engine.data)
        return 0 if plan is None else len(plan.tested)

    def _pieces(self, call: type[EvaluateTest], model: Any, total: int) -> list[Any]:
        """Queue the evaluation of so many rows."""
        engine = self.engine
        batch = engine.setup.experiment.evaluation.batch_size
        # Whole batches, as in one evaluation of all.
        piece = max(1, POLICY.test_rows // batch) * batch
        return [
            engine.submit(call(start=i, stop=end, model=model, examples=end - i))
            for i in range(0, total, piece)
            if (end := min(i + piece, total))
        ]

    def on_test_own(self, model: Vector) -> Pending:
        """Start measuring every client's own model on the server's test set: their mean."""
        engine, clients = self.engine, self.engine.ledger.known
        if not clients:
            return self.on_test(model)  # Nobody has trained yet: all have this model.
        handle = engine.share(model)
        some = max(1, POLICY.test_rows // max(1, len(engine.data.y_test)))
        groups = [clients[i : i + some] for i in range(0, len(clients), some)]
        tickets = [
            engine.submit(
                EvaluateTestOwn(
                    model=handle,
                    states=[engine.ledger.state_of(client) for client in group],
                    clients=len(group),
                )
            )
            for group in groups
        ]

        def collect() -> Metrics:
            parts = [engine.result(t) for t in tickets]
            return {n: sum(p[n] for p in parts) / len(clients) for n in parts[0]}

        return Pending(collect)

    def on_clients(
        self, clients: Sequence[int], model: Vector, shared: Mapping[str, Any] | None = None
    ) -> Pending:
        """Start measuring a model on clients' validation examples.

        The result is a row per client, and the means over all their examples by name.
        """
        engine = self.engine
        ids = np.sort(np.asarray(clients, np.int64))
        handle = engine.share(model)
        # As many rows a call as in a piece of the test set, whatever the clients' sizes.
        sizes = engine.partition.validation_sizes[ids].astype(np.int64) + 1
        ends = np.searchsorted(np.cumsum(sizes), np.arange(0, sizes.sum(), POLICY.test_rows))
        also = None if shared is None else engine.share(dict(shared))
        tickets = [
            self._submit(part, handle, also)
            for part in np.split(ids, np.unique(ends)[1:])
            if len(part)
        ]

        def collect() -> tuple[Rows, Metrics]:
            rows = join([engine.result(t) for t in tickets])
            own = self.totals(rows, "")
            return rows, {**column_means(rows, ("loss", "accuracy")), **own}

        return Pending(collect)

    def _submit(self, part: NDArray[np.int64], handle: Any, shared: Any) -> Any:
        """Queue the evaluation of some clients: of their personal models, where they have any."""
        engine, ledger = self.engine, self.engine.ledger
        own = engine.setup.rule.personal
        return engine.submit(
            EvaluateClients(
                ids=part,
                model=handle,
                states=[ledger.state_of(client) for client in part.tolist()] if own else None,
                shared=shared,
                clients=len(part),
                examples=int(engine.partition.validation_sizes[part].sum()),
            )
        )


def _accuracy(found: Sequence[Measured]) -> float | None:
    right = sum(float(f.right[0]) for f in found)
    count = sum(float(f.count[0]) for f in found)
    return right / count if count and not np.isnan(right) else None


NOT_TESTED: Metrics = {"loss": None, "accuracy": None}
"""Where the server measures nothing."""

ServerEvaluation = Callable[[Vector], Pending]
"""Starts measuring a model on the server's test set: its metrics by name."""


def on_the_server(experiment: Experiment, rule: ClientRule, engine: Engine) -> ServerEvaluation:
    """Return what measures on the server's test set: the model, or the clients' own models."""
    evaluations = Evaluations(engine)
    if experiment.mode == "local" or (rule.kept and experiment.evaluation.personal):
        return evaluations.on_test_own
    if rule.scattered:  # Layers that stay on clients are there as they were initialised.
        return lambda model: Pending(lambda: NOT_TESTED)
    return evaluations.on_test
