"""What Flower's own loops know and messages do not tell.

The arrays that a run ends with, what the server measures and what a strategy makes of the clients'
metrics: heard in :meth:`flwr.serverapp.strategy.Strategy.start` (also where an app overrides it)
and, for apps of the old style, in ``Server.fit``, ``DefaultWorkflow`` and ``History``. A wait for
more clients than there are, which would last for ever, ends in one line.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from flwr.app import ArrayRecord, MetricRecord
from flwr.server import History, Server, SimpleClientManager
from flwr.server.workflow import DefaultWorkflow
from flwr.serverapp.strategy import Strategy

from simulation.config.flower_sampling import impossible
from simulation.flower import private
from simulation.flower.recorder import Recorder

AGGREGATES = {"aggregate_train": "train", "aggregate_evaluate": "evaluate"}
"""Methods of a strategy, and the kind of metrics that they return."""

HISTORY = {
    "add_metrics_distributed_fit": "train",
    "add_metrics_distributed": "evaluate",
    "add_metrics_centralized": "server",
    "add_loss_distributed": "evaluate",
    "add_loss_centralized": "server",
}
"""The same of an old server's history."""


class AppError(RuntimeError):
    """An app that cannot go on, in one line."""


class Hooks:
    """Listen to the loops of one run.

    Args:
        hearing: hears metrics.
        clients: how many there are.
    """

    def __init__(self, hearing: Recorder, clients: int) -> None:
        self.hearing, self.clients = hearing, clients
        self.final: list[ArrayRecord] = []
        self._started: list[Any] = []

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Listen meanwhile; what an app has imported so far is listened to."""
        with ExitStack() as stack:
            for owner, name, make in self._places():
                stack.enter_context(replaced(owner, name, make(getattr(owner, name))))
            yield

    def _places(self) -> Iterator[tuple[Any, str, Callable[[Any], Any]]]:
        for kind in with_subclasses(Strategy):
            if "start" in vars(kind):
                yield kind, "start", self._start
        for server in with_subclasses(Server):
            if "fit" in vars(server):
                yield server, "fit", self._fit
        # Replies come in a set there: sums of floats, and with them the bits, would go by chance.
        module, asking = private.asking_functions()
        for name in asking:
            yield module, name, in_order
        yield DefaultWorkflow, "__call__", self._workflow
        yield SimpleClientManager, "wait_for", self._wait_for
        for name, measured in HISTORY.items():
            yield History, name, functools.partial(self._history, measured)

    def _start(self, original: Any) -> Any:
        signature = inspect.signature(original)

        @functools.wraps(original)
        def start(strategy: Any, *args: Any, **options: Any) -> Any:
            self._check(strategy)
            given = signature.bind(strategy, *args, **options)
            evaluate = given.arguments.get("evaluate_fn")
            if evaluate is not None and not getattr(evaluate, "_is_heard", False):
                given.arguments["evaluate_fn"] = self._evaluate(evaluate)
            if any(one is strategy for one in self._started):  # an app's own start calls Flower's
                return original(*given.args, **given.kwargs)
            self._started.append(strategy)
            try:
                with self._aggregates(strategy):
                    result = original(*given.args, **given.kwargs)
            finally:
                self._started.pop()
            arrays = getattr(result, "arrays", None)
            if isinstance(arrays, ArrayRecord):
                self.final.append(arrays)
            return result

        return start

    def _evaluate(self, original: Any) -> Any:
        @functools.wraps(original)
        def evaluate(round: int, arrays: ArrayRecord) -> MetricRecord | None:
            metrics: MetricRecord | None = original(round, arrays)
            if metrics is not None:
                self.hearing.aggregated("server", round, metrics)
            return metrics

        evaluate.__dict__["_is_heard"] = True
        return evaluate

    @contextmanager
    def _aggregates(self, strategy: Any) -> Iterator[None]:
        """Hear what a strategy object makes of the clients' metrics."""

        def listening(original: Any, kind: str) -> Any:
            @functools.wraps(original)
            def aggregate(server_round: int, replies: Any) -> Any:
                found = original(server_round, replies)
                metrics = found[1] if kind == "train" and isinstance(found, tuple) else found
                if isinstance(metrics, MetricRecord):
                    self.hearing.aggregated(kind, server_round, metrics)
                return found

            return aggregate

        with ExitStack() as stack:
            for name, kind in AGGREGATES.items():
                heard = listening(getattr(strategy, name), kind)
                stack.enter_context(replaced(strategy, name, heard))
            yield

    def _fit(self, original: Any) -> Any:
        @functools.wraps(original)
        def fit(server: Any, *args: Any, **options: Any) -> Any:
            self._check(server.strategy)
            result = original(server, *args, **options)
            self.final.append(private.arrays_of_parameters(server.parameters))
            return result

        return fit

    def _workflow(self, original: Any) -> Any:
        @functools.wraps(original)
        def run(workflow: Any, grid: Any, context: Any) -> None:
            self._check(getattr(context, "strategy", None))
            original(workflow, grid, context)
            self.final.append(context.state.array_records[private.name_of_model()])

        return run

    def _wait_for(self, original: Any) -> Any:
        @functools.wraps(original)
        def wait_for(manager: Any, num_clients: int, *args: Any, **options: Any) -> Any:
            if num_clients > self.clients:
                raise AppError(
                    f"clients must be at least {num_clients}, for which the app waits, "
                    f"got {self.clients}"
                )
            return original(manager, num_clients, *args, **options)

        return wait_for

    def _history(self, kind: str, original: Any) -> Any:
        @functools.wraps(original)
        def add(history: Any, server_round: int, *given: Any, **named: Any) -> None:
            original(history, server_round, *given, **named)
            (value,) = [*given, *named.values()]
            metrics = value if isinstance(value, dict) else {"loss": value}
            self.hearing.aggregated(kind, server_round, metrics)

        return add

    def _check(self, strategy: Any) -> None:
        reason = impossible(strategy, self.clients)
        if reason is not None:
            raise AppError(reason)


def in_order(original: Any) -> Any:
    """Let a function of Flower's old server return the clients' results by their numbers."""

    @functools.wraps(original)
    def ask(*args: Any, **options: Any) -> Any:
        results, failures = original(*args, **options)
        return sorted(results, key=lambda result: int(result[0].cid)), failures

    return ask


def with_subclasses(kind: type) -> list[type]:
    """Return a class and all that are derived from it, each once."""
    found: list[type] = [kind]
    for one in found:
        below: list[type] = one.__subclasses__()
        found += [kind for kind in below if kind not in found]
    return found


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give a class or an object another attribute meanwhile."""
    own = name in vars(owner)
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)
