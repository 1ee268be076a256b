"""Flower's strategies on our engines: which of them need only a weighted mean, what they keep.

A strategy of :data:`WEIGHTED_MEANS` looks at its replies through nothing but their weighted mean.
So the workers fold, as for our own strategies, and the strategy gets one reply that holds the
mean. All other strategies see every reply.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy

from simulation.flower import private
from strategies import proximal_as_told
from strategies.client_rule import ClientRule
from strategies.random_streams import stream

WEIGHTED_MEANS: tuple[type[Strategy], ...] = (
    flower.FedAvg,
    flower.FedAvgM,
    flower.FedProx,
    flower.FedAdagrad,
    flower.FedAdam,
    flower.FedYogi,
)
"""Strategies whose ``aggregate_train`` uses replies only through the mean by ``num-examples``."""

TRAINING = ("aggregate_train", private.checking_method())

EVALUATION = ("configure_evaluate", "aggregate_evaluate", private.checking_method())

WEIGHT = "num-examples"

GLOBALS = 0x464C
"""Purpose of the stream that seeds the global generators, which Flower's strategies draw from."""

CONFIGURE, AGGREGATE, EVALUATE = 1, 2, 3
"""What they are seeded for."""


def needs_only_the_mean(strategy: Strategy) -> bool:
    """Tell whether a strategy of the list aggregates, its subclasses being as they are there.

    A metric function of the user's own must see every reply, and so must other weights.
    """
    return (
        _untouched(strategy, TRAINING)
        and getattr(strategy, "weighted_by_key", None) == WEIGHT
        and getattr(strategy, "train_metrics_aggr_fn", None) is private.mean_of_metrics()
    )


def evaluates_plainly(strategy: Strategy) -> bool:
    """Tell whether a strategy does nothing with what clients measure but to average it."""
    return (
        _untouched(strategy, EVALUATION)
        and getattr(strategy, "evaluate_metrics_aggr_fn", None) is private.mean_of_metrics()
    )


def _untouched(strategy: Strategy, methods: Sequence[str]) -> bool:
    """Tell whether methods are those of the class in the list that is nearest."""
    kind = type(strategy)
    listed = next((base for base in kind.__mro__ if base in WEIGHTED_MEANS), None)
    return listed is not None and all(
        getattr(kind, name, None) is getattr(listed, name) and name not in vars(strategy)
        for name in methods
    )


def alike(messages: Sequence[Message], arrays: ArrayRecord) -> bool:
    """Tell whether all messages are one: the model as it was given to the strategy."""
    content = messages[0].content
    same = all(message.content is content for message in messages)
    return same and any(record is arrays for record in content.array_records.values())


def client_rule(strategy: Strategy) -> ClientRule:
    """Return what clients do for a strategy: FedProx tells them a mu."""
    inner = getattr(strategy, "strategy", strategy)  # a wrapper's
    return proximal_as_told() if hasattr(inner, "proximal_mu") else ClientRule()


_GENERATORS = threading.RLock()
"""The process has one of each: runs in threads beside each other use them in turn."""


@contextmanager
def seeded(seed: int, round: int, purpose: int) -> Iterator[None]:
    """Seed Python's and NumPy's global generators meanwhile, and give them back as they were.

    Flower's strategies sample clients and draw noise from them.
    """
    number = int(stream(seed, GLOBALS, purpose, round).integers(2**32))
    with _GENERATORS:
        python, numpy = random.getstate(), np.random.get_state()
        random.seed(number)
        np.random.seed(number)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def state_of(strategy: Strategy) -> dict[str, Any]:
    """Return the numbers and arrays among a strategy's attributes, flat, for a checkpoint.

    Lists and dictionaries of arrays and ``ArrayRecord``s are taken apart; a wrapped strategy's
    attributes come along.
    """
    found: dict[str, Any] = {}
    for name, value in vars(strategy).items():
        if isinstance(value, bool | int | float | np.ndarray | np.number):
            found[name] = value
        elif isinstance(value, Strategy):
            found |= {f"{name}/of//{key}": inner for key, inner in state_of(value).items()}
        else:
            kind, items = _items(value)
            found |= {f"{name}/{kind}/{i}/{key}": v for i, (key, v) in enumerate(items)}
    return found


def _items(value: Any) -> tuple[str, list[tuple[str, Any]]]:
    if isinstance(value, ArrayRecord):
        return "record", [(key, array.numpy()) for key, array in value.items()]
    if isinstance(value, dict) and all(isinstance(v, np.ndarray) for v in value.values()):
        return "dict", [(str(key), array) for key, array in value.items()]
    if isinstance(value, list) and all(isinstance(v, np.ndarray) for v in value):
        return "list", [("", array) for array in value]
    return "other", []


def restore(strategy: Strategy, state: Mapping[str, Any]) -> None:
    """Give a strategy back what :func:`state_of` returned."""
    groups: dict[tuple[str, str], dict[tuple[int, str], Any]] = {}
    for key, value in state.items():
        name, kind, number, inner = (*key.split("/", 3), "", "", "")[:4]
        if not kind:
            setattr(strategy, name, value)
        else:
            groups.setdefault((name, kind), {})[int(number or 0), inner] = value
    for (name, kind), members in groups.items():
        items = {inner: value for (_, inner), value in sorted(members.items(), key=_place)}
        if kind == "of":
            restore(getattr(strategy, name), items)
        elif kind == "list":
            setattr(strategy, name, [value for _, value in sorted(members.items(), key=_place)])
        elif kind == "dict":
            setattr(strategy, name, items)
        else:
            setattr(strategy, name, ArrayRecord({k: Array(v) for k, v in items.items()}))


def _place(item: tuple[tuple[int, str], Any]) -> int:
    return item[0][0]


def mean_reply(request: Message, arrays: ArrayRecord, metrics: Any) -> Message:
    """Return the one reply that stands for all of a round."""
    private.set_message_id(request, "folded")
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=request)
