"""The one class that knows Flower: an algorithm and a cohort, as a Flower strategy.

Messages to a client hold ``arrays`` (the weights by path), ``config`` (``server-round`` and
``shared.<name>`` for each shared number) and, if the server shares vectors, ``shared`` (a flat
[T] vector by name). Replies hold ``arrays`` (the weights after training), ``metrics`` (with
``num-examples`` and, where the algorithm needs them, ``num-steps``,
``learning-rate``, ``momentum``, ``nesterov``, ``initial_loss``, ``discrepancy`` and
``relative_size``) and, if the client rule uploads any, ``extras``. Clients that encode their
updates send ``encoded`` in the place of ``arrays`` (:mod:`strategies.encodings.reading`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from logging import INFO, WARNING
from time import sleep
from typing import Any, Protocol, runtime_checkable

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.supercore import log

from strategies.accounting import Account, check_sampling
from strategies.algorithm import Algorithm
from strategies.cohort import EVALUATE, TRAIN, Cohort
from strategies.encodings.reading import ENCODED, Reader
from strategies.optional_protocols import wants_server_update
from strategies.privacy import GaussianNoise, check_model
from strategies.protocols import Round, State
from strategies.reducing import bound, during, finish
from strategies.reports import Reports, apart
from strategies.spec import Spec, Vector
from strategies.sums import DRIFT
from strategies.trust import SERVER_UPDATE
from strategies.updates import Update

__all__ = ["Cohort", "Federated"]

_COUNTS = ("num-examples", "num-steps", "learning-rate", "momentum", "nesterov")
_NOT_AVERAGED = (*_COUNTS, "partition-id")


@runtime_checkable
class SimulatedGrid(Protocol):
    """A Flower ``Grid`` that says whether its clients are simulated."""

    simulated: bool


class Federated(Strategy):
    """An algorithm as a Flower strategy, for any ``ServerApp`` and any ``Grid``.

    Replies are folded in the order of their node ids, never in that of their arrival, and a run
    that starts at round 1 starts afresh: running one object twice gives the same bits, except for
    noise for differential privacy outside simulations.

    With noise the cohort is a Poisson sample unless its sampling is given, and the mean is over a
    fixed number of clients: see :class:`~strategies.GaussianNoise`. For a target epsilon, and to
    have the epsilon spent told, call :meth:`prepare` first.

    Args:
        algorithm: client rule, reducer and server rule.
        cohort: who trains in a round.
        evaluate: who evaluates in a round; None skips evaluation on clients.
        spec: order, shapes and trainable part of the weights; None takes them from the initial
            arrays, all of them trainable.
        seeded_noise: whether noise for differential privacy, and who takes part then, come from
            the cohort's seed, which anybody could draw again, or from the operating system's
            entropy. None: seeded where the grid says that it simulates clients
            (:class:`SimulatedGrid`), else the operating system's.

    Raises:
        ValueError: for a cohort whose privacy cannot be accounted for.

    Example:
        >>> from strategies import Algorithm, Federated, WeightedMean, adam, proximal
        >>> Federated(Algorithm("mine", proximal(0.1), WeightedMean(), adam(0.01)))
        Federated('mine')
    """

    def __init__(
        self,
        algorithm: Algorithm,
        cohort: Cohort | None = None,
        evaluate: Cohort | None = Cohort(),  # noqa: B008 - a frozen value
        spec: Spec | None = None,
        seeded_noise: bool | None = None,
    ) -> None:
        self.algorithm = algorithm
        self.cohort = Cohort() if cohort is None else cohort
        if self.cohort.sampling is None:
            usual = "uniform" if algorithm.noise is None else "poisson"
            self.cohort = replace(self.cohort, sampling=usual)
        if algorithm.noise is not None:
            check_sampling(self.cohort.kind)
        self.evaluate = evaluate
        self.spec = spec
        self.seeded_noise = seeded_noise
        self.reader: Reader | None = None
        """Reads updates of clients that encode them; None: they send whole arrays."""
        self.server_update: Callable[[int, Vector, Mapping[str, Any]], Vector] | None = None
        """Trains on the server's own examples, for a reducer that :class:`ComparesWithServer`: from
        round, model [P] and what is shared to the update [P]."""
        self._seed: int | None = self.cohort.seed
        self._now = algorithm
        self._state: State | None = None
        self._shared: Mapping[str, Any] = {}
        self._reports = Reports()
        self._model: Vector | None = None
        self._layout: _Layout | None = None
        self._population = 0
        self._measured: dict[str, float] = {}

    def __repr__(self) -> str:
        """Show the algorithm's name."""
        return f"Federated({self.algorithm.name!r})"

    @property
    def state(self) -> State | None:
        """Server state after the last round; set it, before a round > 1, to resume a run."""
        return None if self._state is None else self._reports.beside(self._state)

    @state.setter
    def state(self, state: State) -> None:
        self._state, self._reports = apart(state)

    def prepare(self, rounds: int, population: int) -> None:
        """Get noise ready for so many rounds with so many registered clients.

        Raises:
            ValueError: if dp-accounting is not installed, or no noise keeps the target epsilon.
        """
        size = self.cohort.count(population)
        self.algorithm = self.algorithm.prepared(rounds, population, size, self.cohort.kind)

    def summary(self) -> None:
        """Log the algorithm and who takes part."""
        parts = (self.algorithm.client.name, self.algorithm.reducer, self.algorithm.server)
        log(INFO, "\t├──> Algorithm: %s", self.algorithm.name)
        log(INFO, "\t│\t├── Client rule: %s", parts[0])
        log(INFO, "\t│\t├── Reducer: %s", parts[1])
        log(INFO, "\t│\t└── Server rule: %s", parts[2])
        log(INFO, "\t└──> Sampling: train %s | evaluate %s", self.cohort, self.evaluate)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the round's training messages: the model and what the server shares."""
        nodes = _wait_for_nodes(grid, self.cohort)
        if server_round == 1 or self._layout is None:
            self._layout = _Layout(self.spec or infer_spec(arrays), arrays)
            check_model(self.algorithm, self._layout.spec)
        self._seed = self.cohort.seed if self._is_seeded(grid) else None
        spec = self._layout.spec
        self._model = self._layout.ravel(arrays)
        self._population = len(nodes)
        if server_round == 1 or self._state is None:
            self._state, self._reports = self.algorithm.init(spec, self._model), Reports()
        self._shared = shared = self.algorithm.share(self._state, server_round)
        vectors = {k: Array(np.asarray(v)) for k, v in shared.items() if np.ndim(v)}
        numbers = {f"shared.{k}": float(v) for k, v in shared.items() if not np.ndim(v)}
        record = _request(server_round, arrays, config, numbers)
        if vectors:
            record["shared"] = ArrayRecord(vectors)
        return _messages(record, self._sample(server_round, nodes), len(nodes), MessageType.TRAIN)

    def _is_seeded(self, grid: Grid) -> bool:
        """Tell whether randomness that privacy rests on is that of the seed."""
        if self.algorithm.noise is None:
            return True
        if self.seeded_noise is not None:
            return self.seeded_noise
        return isinstance(grid, SimulatedGrid) and grid.simulated

    def _sample(self, server_round: int, nodes: list[int]) -> list[int]:
        """Draw the round's cohort, and fix what its mean is over if there is noise."""
        cohort, account = self.cohort, self._account()
        self._now = self.algorithm
        if account is None:
            self._now = self.algorithm.over(cohort.count(len(nodes)))
        if self._seed is None:
            cohort = replace(cohort, seed=secrets.randbits(128))
        if account is None or cohort.kind != "poisson":
            if account is not None and len(nodes) < account.population:
                raise ValueError(
                    f"clients must be the {account.population} that privacy is accounted for with "
                    f"the sampling 'uniform', got {len(nodes)}"
                )
            return cohort.sample(server_round, nodes, TRAIN, losses=self._reports.losses)
        # A node that is not connected stands for a client that sends nothing: all others take part
        # with the probability that is accounted for.
        places = cohort.sample(server_round, max(account.population, len(nodes)), TRAIN)
        return [nodes[place] for place in places if place < len(nodes)]

    def _account(self) -> Account | None:
        noise = self.algorithm.noise
        return noise.account if isinstance(noise, GaussianNoise) else None

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Fold the replies, move the model; return it and the mean of the clients' metrics."""
        if self._model is None or self._layout is None or self._state is None:
            raise ValueError(
                "aggregate_train must follow configure_train, "
                f"got round {server_round} without a model"
            )
        valid = _valid(replies, "aggregate_train")
        spec, reducer = self._layout.spec, bound(self._now.reducer, self._shared)
        partial = None
        for reply in valid:
            update = self._layout.update(reply, self._model, self.reader, server_round)
            partial = reducer.fold(partial, update)
            if self.cohort.kind == "power-of-choice":
                self._reports.add([update.client], [update.metrics.get("loss", np.nan)])
        at = Round(server_round, self._population, self._seed)
        told = self._on_server(server_round)
        mean = finish(during(reducer, at, {**self._state, **told}), partial, spec.size)
        if mean is None:
            return None, None
        metrics = mean_metrics(valid)
        self._measured = {k: v for k, v in mean.metrics.items() if k == DRIFT}
        mean = replace(mean, metrics={**_measured(metrics), **mean.metrics})
        model, self._state = self.algorithm.step(spec, self._model, self._state, mean, at)
        return self._layout.record(model), metrics

    def _on_server(self, server_round: int) -> dict[str, Vector]:
        """Let the server train, where the reducer asks for it; return its update by its name."""
        if not wants_server_update(self._now.reducer):
            return {}
        assert self._model is not None
        if self.server_update is None:
            raise ValueError(
                f"server_update must be given with {self.algorithm.name}, whose server trains on "
                "examples of its own, got none"
            )
        return {SERVER_UPDATE: self.server_update(server_round, self._model, self._shared)}

    def notes(self, server_round: int) -> dict[str, float]:
        """Return numbers for the record of the round just trained; see :meth:`Algorithm.notes`."""
        return {**self._measured, **self.algorithm.notes(self._shared, server_round)}

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the round's evaluation messages: the model."""
        if self.evaluate is None:
            return []
        nodes = _wait_for_nodes(grid, self.evaluate)
        cohort = self.evaluate.sample(server_round, nodes, EVALUATE)
        record = _request(server_round, arrays, config, {})
        if self.algorithm.client.candidates and self._state is not None:
            shared = self.algorithm.share(self._state, server_round)
            record["shared"] = ArrayRecord({k: Array(np.asarray(v)) for k, v in shared.items()})
        return _messages(record, cohort, len(nodes), MessageType.EVALUATE)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Return the mean of the clients' metrics, weighted by their examples."""
        valid = _valid(replies, "aggregate_evaluate")
        return mean_metrics(valid) if valid else None


class _Layout:
    """How a model travels in an ArrayRecord: the spec, and the dtypes to give back."""

    def __init__(self, spec: Spec, arrays: ArrayRecord) -> None:
        if set(arrays) != set(spec.names):
            raise ValueError(f"arrays must be named {sorted(spec.names)}, got {sorted(arrays)}")
        self.spec = spec
        self.keys = list(arrays)
        self.dtypes = {name: arrays[name].dtype for name in spec.names}

    def ravel(self, arrays: ArrayRecord) -> Vector:
        """Return the flat float32 model."""
        return self.spec.ravel([arrays[name].numpy() for name in self.spec.names])

    def record(self, model: Vector) -> ArrayRecord:
        """Return the model as it came: same keys in the same order, same dtypes."""
        weights = dict(zip(self.spec.names, self.spec.unravel(model), strict=True))
        return ArrayRecord(
            {k: Array(np.asarray(weights[k]).astype(self.dtypes[k])) for k in self.keys}
        )

    def update(
        self, reply: Message, model: Vector, reader: Reader | None, server_round: int
    ) -> Update:
        """Return what a client's reply says, as an update of ``model``."""
        metrics, delta = _metrics(reply), None
        if reader is not None:
            client = int(_number(metrics.get("partition-id", reply.metadata.src_node_id)))
            delta = reader.delta(reply, self.spec, server_round, client)
        if delta is None and ENCODED in reply.content.array_records:
            raise ValueError(
                "replies must hold 'arrays' for a strategy that reads no encoded updates, got "
                f"{ENCODED!r} from client {reply.metadata.src_node_id}: set the server's "
                "compression as the clients'"
            )
        if delta is None:
            delta = self.ravel(reply.content.array_records["arrays"]) - model
        extras = reply.content.array_records.get("extras", ArrayRecord())
        return Update(
            client=reply.metadata.src_node_id,
            examples=int(_number(metrics["num-examples"])),
            delta=delta,
            steps=int(_number(metrics.get("num-steps", 1))),
            extras={name: array.numpy() for name, array in extras.items()},
            metrics=_measured(metrics),
            learning_rate=_number(metrics.get("learning-rate", 0.0)),
            trainable=self.spec.trainable_size,
            momentum=_number(metrics.get("momentum", 0.0)),
            nesterov=bool(_number(metrics.get("nesterov", 0))),
        )


def infer_spec(arrays: ArrayRecord) -> Spec:
    """Return the spec of an ArrayRecord, taking every weight as trainable."""
    shapes = tuple(tuple(array.shape) for array in arrays.values())
    return Spec(tuple(arrays), shapes, len(shapes))


def mean_metrics(replies: Sequence[Message]) -> MetricRecord:
    """Return the mean of every metric, weighted by ``num-examples``.

    A metric that some clients lack is averaged over those that have it; counts and ids are left
    out.
    """
    sums: dict[str, Any] = {}
    weights: dict[str, float] = {}
    for reply in replies:
        metrics = _metrics(reply)
        weight = float(_number(metrics["num-examples"]))
        for name, value in metrics.items():
            if name not in _NOT_AVERAGED:
                sums[name] = sums.get(name, 0.0) + weight * np.asarray(value, np.float64)
                weights[name] = weights.get(name, 0.0) + weight
    return MetricRecord(
        {name: (sums[name] / weights[name]).tolist() for name in sums if weights[name] > 0}
    )


def _request(
    server_round: int, arrays: ArrayRecord, config: ConfigRecord, numbers: Mapping[str, float]
) -> RecordDict:
    # A new record: the caller's config is sent every round and must not collect our keys.
    merged = ConfigRecord({**config, "server-round": server_round, **numbers})
    return RecordDict({"arrays": arrays, "config": merged})


def _messages(record: RecordDict, nodes: Sequence[int], of: int, kind: str) -> list[Message]:
    log(INFO, "%s: sampled %s nodes (out of %s)", kind, len(nodes), of)
    return [Message(content=record, message_type=kind, dst_node_id=node) for node in nodes]


def _wait_for_nodes(grid: Grid, cohort: Cohort) -> list[int]:
    """Return the connected nodes once there are as many as the cohort needs."""
    needed = cohort.size or 1
    while len(nodes := sorted(grid.get_node_ids())) < needed:
        log(INFO, "Waiting for nodes to connect: %d of %d", len(nodes), needed)
        sleep(1)
    return nodes


def _valid(replies: Iterable[Message], where: str) -> list[Message]:
    """Return the usable replies in the order of node ids; log the others."""
    valid = []
    for reply in replies:
        node = reply.metadata.src_node_id
        if reply.has_error():
            log(WARNING, "%s: node %d failed: %s", where, node, reply.error.reason)
        elif "num-examples" not in _metrics(reply):
            log(WARNING, "%s: node %d sent no 'num-examples', left out", where, node)
        else:
            valid.append(reply)
    return sorted(valid, key=lambda reply: reply.metadata.src_node_id)


def _metrics(reply: Message) -> MetricRecord:
    """Return a reply's metrics: the record of that name, or the only one."""
    records = reply.content.metric_records
    if "metrics" in records:
        return records["metrics"]
    return next(iter(records.values()), MetricRecord())


def _measured(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the single numbers; Sunflower's clients call the training loss ``train_loss``."""
    numbers = {k: float(v) for k, v in metrics.items() if not isinstance(v, list)}
    if "train_loss" in numbers:
        numbers.setdefault("loss", numbers["train_loss"])
    return numbers


def _number(value: Any) -> float:
    if isinstance(value, list):
        raise ValueError(f"{', '.join(_COUNTS)} must be single numbers, got {value!r}")
    return float(value)
