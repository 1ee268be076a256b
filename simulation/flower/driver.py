"""Rounds by messages: any Flower strategy on any Flower ``Grid``.

Where a strategy needs no more than the weighted mean of the replies (see
:mod:`simulation.flower.their_strategies`), the workers fold and it gets one reply that holds the
mean.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from simulation.config.experiment import Experiment
from simulation.config.local_work import local_work
from simulation.config.sizes import FLOAT_BYTES
from simulation.engines.cohort import train_cohort
from simulation.engines.engine import Engine
from simulation.engines.evaluation import Evaluations, Pending
from simulation.flower import client_config, their_strategies
from simulation.flower.client_config import config_of
from simulation.flower.codec import bytes_of, shared_of, to_arrays, to_vector
from simulation.flower.colluding import collude
from simulation.flower.replies import usable
from simulation.population import behaviour
from simulation.records.rows import Rows, column_means, join
from simulation.rounds import fairness
from simulation.rounds.driver import RoundError, RoundResult, zero_weights
from simulation.training.client_config import AS_CONFIGURED, ClientConfig
from simulation.worker.faults import Lost, check_losses
from strategies import Federated
from strategies.client_rule import ClientRule
from strategies.personal import travelling
from strategies.protocols import Round, State
from strategies.reducing import bound, during
from strategies.spec import Spec, Vector
from strategies.sums import DRIFT

log = logging.getLogger("sunflower.messaging")

TRAINED = ("steps", "train_loss", "train_accuracy")
"""Columns of training, but for client and examples."""

EVERYTHING = 2**31
"""A batch of more examples than any client has."""

TOLD = {"steps": "num-steps"}
"""What replies call a column."""


class MessagingDriver:
    """Any Flower strategy on any Flower ``Grid``, by messages.

    Args:
        strategy: the strategy.
        grid: what carries messages, and folds where it can.
        spec: layout of the flat model.
        experiment: what runs.
        scheduled: whether the clients' learning rate is a schedule, which no strategy can change.
        engine: whose executors train clients where messages say nothing of their own; None where
            only messages reach them.
    """

    def __init__(
        self,
        strategy: Strategy,
        grid: Grid,
        spec: Spec,
        experiment: Experiment,
        scheduled: bool = False,
        engine: Engine | None = None,
    ) -> None:
        self.strategy, self.grid, self.spec = strategy, grid, spec
        self.experiment, self._scheduled = experiment, scheduled
        self._named: set[str] = set()
        self._engine = engine
        self._only_mean = their_strategies.needs_only_the_mean(strategy)
        self._drift: dict[str, float] = {}
        self._plain_evaluation = their_strategies.evaluates_plainly(strategy)
        rule = strategy.algorithm.client if isinstance(strategy, Federated) else ClientRule()
        self.full_batch = rule.full_batch
        # Bytes that a deployment would leave where they are.
        self._staying = FLOAT_BYTES * (spec.size - travelling(spec, rule))

    @property
    def state(self) -> State:
        """Server state: our strategies' own; of others their numbers and arrays."""
        if isinstance(self.strategy, Federated):
            return self.strategy.state or {}
        return their_strategies.state_of(self.strategy)

    @state.setter
    def state(self, state: State) -> None:
        if isinstance(self.strategy, Federated):
            self.strategy.state = state
        else:
            their_strategies.restore(self.strategy, state)

    def train(self, round: int, model: Vector) -> RoundResult:
        """Let the strategy configure, train the clients, let it aggregate."""
        arrays, seed = to_arrays(self.spec, model), self.experiment.seed
        with their_strategies.seeded(seed, round, their_strategies.CONFIGURE):
            config = ConfigRecord()
            messages = list(self.strategy.configure_train(round, arrays, config, self.grid))
        self._drift = {}
        self._check_cohort(round, len(messages))
        configs = [self._read(round, m) for m in messages]
        told = {m.metadata.dst_node_id: c for m, c in zip(messages, configs, strict=True)}
        asked = [m.metadata.dst_node_id for m in messages]
        down = sum(bytes_of(m) - self._staying for m in messages)
        absent = self._absent(round, asked)
        parts = behaviour.parts_of(self.experiment, round, asked)
        sent = [m for m in messages if m.metadata.dst_node_id not in absent]
        if self._only_mean and sent and self._plain(round, sent, arrays):
            replies, rows, lost = self._fold(round, model, sent, configs[0], parts)
            up = len(rows["client"]) * sum(map(bytes_of, replies))
        else:
            for message in sent:
                if message.metadata.dst_node_id in parts:
                    part = parts[message.metadata.dst_node_id]
                    message.content = client_config.slowed(message.content, part)
            answers = list(self.grid.send_and_receive(sent))
            replies, failed = usable(round, sent, answers, self.spec)
            collude(replies, self.experiment, self._at(round), model, self.spec)
            rows, lost = _rows(replies, *TRAINED), tuple(failed)
            up = sum(bytes_of(m) - self._staying for m in replies)
        check_losses(
            self.experiment.faults, round, len(sent), len(rows["client"]), lost, len(messages)
        )
        with (
            their_strategies.seeded(seed, round, their_strategies.AGGREGATE),
            zero_weights(round, rows),
        ):
            after, _ = self.strategy.aggregate_train(round, replies)
        final = model if after is None else to_vector(self.spec, after)
        own = self.strategy.notes(round) if isinstance(self.strategy, Federated) else {}
        decided = [told.get(int(client), AS_CONFIGURED) for client in rows["client"]]
        if any(config.batch_size for config in decided):
            usual = local_work(self.experiment.training).batch or EVERYTHING
            rows = {**rows, "batch": np.array([c.batch_size or usual for c in decided])}
        own = {**own, **client_config.means(decided, rows["examples"].tolist())}
        return RoundResult(final, rows, up, down, lost, absent, {**self._drift, **own})

    def _check_cohort(self, round: int, asked: int) -> None:
        """Raise RoundError when the strategy did not draw the cohort that the experiment names."""
        plan = self.experiment
        named = plan.cohort is not None and plan.mode == "federated"
        if named and asked != plan.cohort_size and not isinstance(self.strategy, Federated):
            raise RoundError(
                f"cohort must be left out for {type(self.strategy).__name__}, which samples by "
                f"itself ({asked} clients in round {round}), got {plan.cohort!r}"
            )

    def _read(self, round: int, message: Message) -> ClientConfig:
        """Return what a message decides of local training; name keys that no client knows, once.

        Raises:
            RoundError: for a value that is none.
        """
        config = config_of(message.content)
        sender = f"{type(self.strategy).__name__} in round {round}"
        self._name_unknown(config)
        try:
            found = client_config.read(config, sender)
        except ValueError as error:
            raise RoundError(str(error)) from None
        if found.learning_rate is not None and self._scheduled:
            raise RoundError(
                "lr must be left out for a model whose optimizer has a schedule for a learning "
                f"rate, got {found.learning_rate!r} from {sender}"
            )
        training = self.experiment.training
        for name, told, ours in (
            ("lr", found.learning_rate, "decay"),
            ("local_epochs", found.epochs, "local_steps"),
        ):
            if told is not None and getattr(training, ours) is not None:
                raise RoundError(
                    f"training.{ours} must be left out where the strategy tells {name}, "
                    f"got {told!r} from {sender}"
                )
        return found

    def _name_unknown(self, config: Mapping[str, Any]) -> None:
        new = [key for key in client_config.unknown(config) if key not in self._named]
        if new:
            self._named.update(new)
            log.warning(
                "%s tells clients %s, which they do not know and leave aside (they know %s)",
                type(self.strategy).__name__,
                ", ".join(map(repr, new)),
                ", ".join(client_config.NAMES),
            )

    def _plain(self, round: int, sent: Sequence[Message], arrays: ArrayRecord) -> bool:
        """Tell whether the workers can do what the messages say without getting them."""
        if self._engine is None or self._engine.setup.reducer is None:
            return False
        if not their_strategies.alike(sent, arrays):
            return False
        content, rule = sent[0].content, self._engine.setup.rule
        rounds = [config.get("server-round") for config in content.config_records.values()]
        return rounds[:1] == [round] and set(shared_of(content)) == set(rule.uses)

    def _fold(
        self,
        round: int,
        model: Vector,
        sent: Sequence[Message],
        config: ClientConfig,
        parts: Mapping[int, float],
    ) -> tuple[list[Message], Rows, tuple[Lost, ...]]:
        """Train and fold on the workers; return the reply that holds the mean, if there is one."""
        engine = self._engine
        assert engine is not None
        shared = shared_of(sent[0].content)
        cohort = [message.metadata.dst_node_id for message in sent]
        total, rows, lost, measured = train_cohort(
            engine, round, cohort, model, shared, config, parts
        )
        if total is None:
            return [], rows, lost
        with zero_weights(round, rows):
            reducer = during(bound(engine.setup.reducer, shared), self._at(round), {})
            mean = reducer.finish(total)
        self._drift = {k: v for k, v in mean.metrics.items() if k == DRIFT} | measured
        arrays = to_arrays(self.spec, (model + mean.delta).astype(np.float32))
        metrics: dict[str, float] = {their_strategies.WEIGHT: int(mean.weight)}
        metrics |= {
            name: value
            for name, value in column_means(rows, ("train_loss", "train_accuracy")).items()
            if value is not None
        }
        reply = their_strategies.mean_reply(sent[0], arrays, MetricRecord(metrics))
        return [reply], rows, lost

    def _at(self, round: int) -> Round:
        return Round(round, self.experiment.clients, self.experiment.seed)

    def _absent(self, round: int, asked: Sequence[int]) -> dict[int, str]:
        """Return the clients among those asked that the simulated world keeps silent."""
        if not self.experiment.realism.active:
            return {}
        return behaviour.silent(self.experiment, round, asked)

    def evaluate(self, round: int, model: Vector, clients: list[int]) -> Pending:
        """Let the strategy choose who evaluates."""
        arrays = to_arrays(self.spec, model)
        with their_strategies.seeded(self.experiment.seed, round, their_strategies.EVALUATE):
            config = ConfigRecord()
            messages = list(self.strategy.configure_evaluate(round, arrays, config, self.grid))
        for message in messages:
            self._name_unknown(config_of(message.content))
        if self._engine is not None and self._plain_evaluation and messages:
            ids = [m.metadata.dst_node_id for m in messages]
            return Evaluations(self._engine).on_clients(ids, model, self._models(round))
        replies = list(self.grid.send_and_receive(messages))
        rows = _rows(replies, "loss", "accuracy")
        self.strategy.aggregate_evaluate(round, replies)
        return Pending(lambda: (rows, column_means(rows, ("loss", "accuracy"))))

    def evaluate_all(self, model: Vector) -> Pending | None:
        """Measure the model on every client, if the run is to and the workers are ours."""
        engine = self._engine
        if engine is None or not fairness.is_wanted(self.experiment, engine.partition):
            return None
        every = range(len(engine.partition))
        return Evaluations(engine).on_clients(every, model, self._models(1))

    def _models(self, round: int) -> dict[str, Any] | None:
        """Return the models among which clients choose; None where they do not."""
        strategy = self.strategy
        if not isinstance(strategy, Federated) or not strategy.algorithm.client.candidates:
            return None
        return strategy.algorithm.share(self.state, round)


def _rows(replies: list[Message], *names: str) -> Rows:
    """Return a row per reply that has metrics, by client."""
    parts = []
    for reply in replies:
        if reply.has_error() or not reply.content.metric_records:
            continue
        metrics = next(iter(reply.content.metric_records.values()))
        client = metrics.get("partition-id", reply.metadata.src_node_id)
        given = {"client": client, "examples": metrics.get("num-examples", 0)}
        given |= {name: metrics.get(TOLD.get(name, name), float("nan")) for name in names}
        parts.append({k: np.asarray([v]) for k, v in given.items()})
    if not parts:
        return {k: np.zeros(0) for k in ("client", "examples", *names)}
    return join(sorted(parts, key=lambda row: int(row["client"][0])))
