"""Sunflower's clients as a Flower ``ClientApp``: for any Flower runtime, ours or Flower's own."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from flwr.app import Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from simulation.flower import client_config
from simulation.flower.client_config import config_of
from simulation.flower.codec import (
    CLIENT_FAILED,
    PROXIMAL,
    arrays_of,
    shared_of,
    to_arrays,
    to_record,
    to_vector,
)
from simulation.training.backend import Trainer
from simulation.training.measured import TrainedClient
from simulation.training.trainers import trainer_for
from simulation.worker.apart import own_model
from simulation.worker.client_state import ClientState, state_after
from simulation.worker.executor import Executor
from simulation.worker.group_trainer import RoundInputs
from strategies.adaptive import proximal_as_told
from strategies.clustered import CLUSTER
from strategies.encodings.reading import ENCODED, record_of
from strategies.label_discrepancy import DISCREPANCY, RELATIVE_SIZE

NUMBERS = ("partition-id", "num-partitions")
"""What a node's configuration tells of its client."""

OWN = "sunflower.own"
"""Record of a client's state, in its context."""

LOCAL = ".local"
"""Name of the weights that stay on a client, in that record."""

ERROR = ".error"
"""Name of what it has not sent of its updates."""

_proximal: WeakKeyDictionary[Executor, Trainer] = WeakKeyDictionary()
"""Trainers for messages that ask for Flower's proximal term, by executor."""


def client_app(executor: Callable[[Context], Executor]) -> ClientApp:
    """Return a ``ClientApp`` that trains and evaluates with an executor.

    Args:
        executor: returns this process's executor for a context; called with every message.
    """
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        here = executor(context)
        client = int(context.node_config["partition-id"])
        model = to_vector(here.trainer.spec, arrays_of(message.content))
        trained = _train(here, client, model, message.content, _kept(context))
        keeps = state_after(trained)
        beside = {LOCAL: keeps.local, ERROR: keeps.error}
        kept = {**keeps.own} | {k: v for k, v in beside.items() if v is not None}
        if kept:
            context.state[OWN] = to_record(kept)
        content = RecordDict({"metrics": _told(here, client, trained)})
        delta, cut = trained.update.delta, here.trainer.spec.trainable_size
        encoded = None if here.encoder is None else here.encoder.message(trained)
        if encoded is None:
            content["arrays"] = to_arrays(here.trainer.spec, model + delta)
        else:
            content[ENCODED] = record_of(encoded, delta[cut:])
        if trained.update.extras:
            content["extras"] = to_record(trained.update.extras)
        return Message(content, reply_to=message)

    @app.query()
    def who(message: Message, context: Context) -> Message:
        numbers = {name: int(context.node_config[name]) for name in NUMBERS}
        return Message(RecordDict({"metrics": MetricRecord({**numbers})}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        here = executor(context)
        client = int(context.node_config["partition-id"])
        model = to_vector(here.trainer.spec, arrays_of(message.content))
        own = own_model(here, client, model, _kept(context), shared_of(message.content))
        rows = here.evaluate_clients(np.array([client]), own)
        size = int(rows["examples"][0])
        metrics = MetricRecord({"num-examples": size, "partition-id": client})
        names = here.trainer.metrics.names
        if size:
            metrics["loss"] = float(rows["loss"][0])
            metrics["accuracy"] = float(rows["accuracy"][0])
            metrics.update({name: float(rows[name][0]) for name in names})
        else:
            # Flower averages need every key from every client; weight 0 makes these count nothing.
            metrics.update(dict.fromkeys(("loss", "accuracy", *names), 0.0))
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def _train(
    here: Executor, client: int, model: Any, content: RecordDict, state: ClientState | None
) -> TrainedClient:
    """Train a client as a message asks."""
    config = config_of(content)
    if "server-round" not in config and here.setup.experiment.training.decay is not None:
        raise ValueError(
            "training.decay must be left out for a strategy that does not tell its clients the "
            "round ('server-round')"
        )
    inputs = RoundInputs(
        int(float(config.get("server-round", 1))),
        model,
        shared_of(content),
        client_config.read(config),
        client_config.parts(client, config),
    )
    trainer = None
    if PROXIMAL in config and here.setup.rule.hook is None:
        if here not in _proximal:
            setup = here.setup
            rule = proximal_as_told()
            _proximal[here] = trainer_for(setup.experiment, rule, setup.reducer, here.data)
        trainer = _proximal[here]
    (trained,) = here.train_clients([client], inputs, [state], trainer)
    return trained


def _told(here: Executor, client: int, trained: TrainedClient) -> MetricRecord:
    """Return the metrics of a reply."""
    update = trained.update
    metrics = MetricRecord(
        {
            "num-examples": update.examples,
            "num-steps": update.steps,
            "partition-id": client,
            "learning-rate": update.learning_rate,
            "train_loss": update.metrics["loss"],
            "train_accuracy": update.metrics["accuracy"],
        }
    )
    if update.momentum:
        metrics["momentum"], metrics["nesterov"] = update.momentum, int(update.nesterov)
    if trained.states is not None and trained.states.size:
        found = here.metric_results(trained.states)
        metrics.update({f"train_{name}": value for name, value in found.items()})
    for name in ("initial_loss", DISCREPANCY, RELATIVE_SIZE, CLUSTER):
        if name in update.metrics:
            metrics[name] = update.metrics[name]
    return metrics


def _kept(context: Context) -> ClientState | None:
    """Return what a client keeps; None before its first training."""
    found = context.state.array_records.get(OWN)
    if found is None:
        return None
    own = {name: array.numpy() for name, array in found.items()}
    local, error = own.pop(LOCAL, None), own.pop(ERROR, None)
    return ClientState(own, local, error=error)


def answer(
    app: ClientApp,
    message: Message,
    state: RecordDict | None,
    population: int,
    run_config: Mapping[str, Any] | None = None,
) -> tuple[Message, RecordDict | None]:
    """Run an app on one message, as a SuperNode would; an exception becomes an error reply."""
    client = message.metadata.dst_node_id
    context = Context(
        run_id=message.metadata.run_id,
        node_id=client,
        node_config={"partition-id": client, "num-partitions": population},
        state=state or RecordDict(),
        run_config=dict(run_config or {}),
    )
    try:
        reply = app(message, context)
    except Exception as error:
        reason = f"client {client}: {type(error).__name__}: {error}\n{traceback.format_exc()}"
        return Message(Error(CLIENT_FAILED, reason), reply_to=message), state
    return reply, context.state if len(context.state) else None
