"""Sunflower's clients as a Flower ``ClientApp``: for any Flower runtime, ours or Flower's own."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import (
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp

from simulation.datasets import inputs
from simulation.flower import client_config
from simulation.flower.client_config import config_of
from strategies.core import Vector

if TYPE_CHECKING:
    from simulation.worker.executor import Executor
from simulation.flower.codec import (
    CLIENT_FAILED,
    PROXIMAL,
    _number,
    _record,
    arrays_of,
    shared_of,
    to_arrays,
    to_vector,
)
from simulation.worker.client_state import LOCAL

NUMBERS = ("partition-id", "num-partitions")
"""What a node's configuration tells of its client."""


OWN = "sunflower.own"
"""Record of a client's state, in its context."""


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
        config = config_of(message.content)
        decided = client_config.read(config)
        model = to_vector(here.trainer.spec, arrays_of(message.content))
        own = _kept(context)
        start = model if own is None else here.personal(model.copy(), own.get(LOCAL))
        at = here.partition.train_rows(client)
        number = int(_number(config.get("server-round", 1)))
        y = here.data.y_train[at]
        if here.attackers is not None:
            y = here.attackers.labels([client], [len(at)], y)
        shared = shared_of(message.content)
        asked = PROXIMAL in config and here.setup.rule.hook is None
        trainer = here.proximal if asked else here.trainer
        (trained,) = trainer.train_many(
            [client],
            [len(at)],
            number,
            start,
            inputs.rows(here.data.x_train, at),
            y,
            epochs=decided.epochs or here.setup.experiment.training.local_epochs,
            shared=shared,
            own=None if own is None else [own],
            steps=here.limits([client], [len(at)], client_config.parts(client, config), decided),
            learning_rate=decided.learning_rate,
            batch_size=decided.batch_size,
            weights=None if here.weights is None else here.weights[at],
        )
        if here.local is not None:
            trained = here.keep_local(trained, start)
        update = trained.update
        if here.attackers is not None:
            update = here.attackers.sent(update, number)
        if trained.own:
            context.state[OWN] = _record(trained.own)
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
        if "initial_loss" in update.metrics:
            metrics["initial_loss"] = update.metrics["initial_loss"]
        arrays = to_arrays(here.trainer.spec, model + update.delta)
        content = RecordDict({"arrays": arrays, "metrics": metrics})
        if update.extras:
            content["extras"] = _record(update.extras)
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
        model = here.personal(model, (_kept(context) or {}).get(LOCAL))
        rows = here.evaluate_clients(np.array([client]), model)
        size = int(rows["examples"][0])
        metrics = MetricRecord({"num-examples": size, "partition-id": client})
        names = here.trainer.measures.metrics.names
        if size:
            metrics["loss"] = float(rows["loss"][0])
            metrics["accuracy"] = float(rows["accuracy"][0])
            metrics.update({name: float(rows[name][0]) for name in names})
        else:
            # Flower averages need every key from every client; weight 0 makes these count nothing.
            metrics.update(dict.fromkeys(("loss", "accuracy", *names), 0.0))
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


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


def _kept(context: Context) -> dict[str, Vector] | None:
    """Return what a client keeps; None before its first training."""
    found = context.state.array_records.get(OWN)
    return None if found is None else {k: a.numpy() for k, a in found.items()}
