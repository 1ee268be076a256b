"""What the strategy tests share: random updates, and a Flower grid in this process."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from strategies.algorithm import Algorithm
from strategies.client_rule import GRADIENT, ClientRule, Local
from strategies.objective import KNOWN, MEANS
from strategies.spec import Vector
from strategies.updates import Update

Client = Callable[[Message], RecordDict]


def measured_uploads(
    rule: ClientRule, gradient: Vector, client: int = 0, classes: int = 2
) -> dict[str, Vector]:
    """Return what a client uploads that is measured on its examples: 2 numbers of each class."""
    rng, found = np.random.default_rng(client), {}
    if rule.gradient:
        found[GRADIENT] = gradient
    if rule.objective is not None and rule.objective.means:
        known = (np.arange(classes) != client % (classes + 1)).astype(gradient.dtype)
        means = rng.normal(size=(classes, 2)) * known[:, None]
        found |= {MEANS: means.ravel().astype(gradient.dtype), KNOWN: known}
    return found


def random_updates(
    algorithm: Algorithm, clients: int, size: int, seed: int = 0, dtype: type = np.float32
) -> list[Update]:
    """Return updates as clients of ``algorithm`` would send them in round 1."""
    rng = np.random.default_rng(seed)
    shared = algorithm.share(algorithm.server.init(np.zeros(size, dtype)), 1)
    own = {name: np.zeros(size, dtype) for name in algorithm.client.own}
    updates = []
    for client in range(clients):
        delta = rng.normal(size=size).astype(dtype)
        steps = int(rng.integers(1, 9))
        extras = {}
        if algorithm.client.after is not None:
            extras, _ = algorithm.client.after(delta, shared, own, Local(steps, 0.1))
        extras = {**extras, **measured_uploads(algorithm.client, -delta, client)}
        metrics = {"initial_loss": float(rng.uniform(0.5, 2.0))}
        if algorithm.client.discrepancy is not None:
            metrics |= {"discrepancy": float(rng.uniform(0, 4)), "relative_size": 1.0}
        if algorithm.client.candidates:
            metrics["cluster"] = float(rng.integers(1 + len(algorithm.client.candidates)))
        examples = int(rng.integers(1, 50))
        updates.append(Update(client, examples, delta, steps, extras, metrics, learning_rate=0.1))
    return updates


class FakeGrid(Grid):
    """A grid whose nodes are plain functions; replies arrive in a shuffled order."""

    def __init__(self, nodes: dict[int, Client], arrival_seed: int = 0) -> None:
        self.nodes = nodes
        self.requests: list[Message] = []
        self._arrival = np.random.default_rng(arrival_seed)

    def set_run(self, run: object) -> None:
        raise NotImplementedError

    @property
    def run(self) -> object:
        raise NotImplementedError

    def create_message(self, *args: object, **kwargs: object) -> Message:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def get_node_ids(self) -> list[int]:
        return list(self.nodes)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        sent = list(messages)
        self.requests += sent
        replies = []
        for number, message in enumerate(sent):
            # As Flower's own in-memory grid does: the property has no setter.
            message.metadata.__dict__["_message_id"] = str(number + 1)
            try:
                content = self.nodes[message.metadata.dst_node_id](message)
                replies.append(Message(content, reply_to=message))
            except ArithmeticError as failure:
                replies.append(Message(Error(1, str(failure)), reply_to=message))
        return [replies[i] for i in self._arrival.permutation(len(replies))]


@pytest.fixture(autouse=True)
def task_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Flower messages be made outside a running Flower app."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture(scope="session")
def updates() -> Callable[..., list[Update]]:
    return random_updates


@pytest.fixture
def grid() -> Callable[..., FakeGrid]:
    return FakeGrid


def pulled_towards(target: float, examples: int) -> Client:
    """Return a client that moves every weight a tenth of the way to ``target``."""

    def client(message: Message) -> RecordDict:
        if message.metadata.message_type == "evaluate":
            metrics = {"num-examples": examples, "accuracy": target}
            return RecordDict({"metrics": MetricRecord(metrics)})
        weights = message.content.array_records["arrays"]
        trained = {
            k: v.numpy() + np.float32(0.1) * (target - v.numpy()) for k, v in weights.items()
        }
        metrics = {"num-examples": examples, "num-steps": 3, "loss": target**2}
        return RecordDict(
            {
                "arrays": ArrayRecord(
                    {k: Array(v.astype(weights[k].dtype)) for k, v in trained.items()}
                ),
                "metrics": MetricRecord(metrics),
            }
        )

    return client


@pytest.fixture
def client() -> Callable[[float, int], Client]:
    return pulled_towards
