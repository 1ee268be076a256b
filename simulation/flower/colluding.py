"""Attackers that send one update together, where clients answer by messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flwr.app import Message

from simulation.config.experiment import Experiment
from simulation.flower.codec import arrays_of, to_arrays, to_vector
from simulation.population.attackers import attacked
from simulation.population.collusion import Colluding
from strategies import WeightedMean
from strategies.spec import Spec, Vector
from strategies.updates import Update


def client_of(reply: Message) -> int:
    """Return the number of the client that a reply is from."""
    metrics: Mapping[str, Any] = next(iter(reply.content.metric_records.values()), {})
    return int(metrics.get("partition-id", reply.metadata.src_node_id))


def collude(
    replies: Sequence[Message], experiment: Experiment, clients: int, model: Vector, spec: Spec
) -> None:
    """Put what attackers send together into their replies, which is made of the others'.

    Args:
        replies: of a round; those of attackers are changed.
        experiment: the experiment.
        clients: how many there are.
        model: what they were sent [P].
        spec: its layout.
    """
    reducer = attacked(WeightedMean("uniform"), experiment, clients)
    if not isinstance(reducer, Colluding):
        return
    theirs = [reply for reply in replies if client_of(reply) in reducer.attackers]
    if not theirs:
        return
    seen = None
    for reply in sorted(replies, key=client_of):
        delta = to_vector(spec, arrays_of(reply.content)) - model
        seen = reducer.fold(seen, Update(client_of(reply), 1, delta))
    assert seen is not None
    sent = (model + reducer.sent(seen)).astype(np.float32)
    for reply in theirs:
        records = reply.content.array_records
        name = "arrays" if "arrays" in records else next(iter(records))
        reply.content[name] = to_arrays(spec, sent)
