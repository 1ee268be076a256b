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
from strategies.protocols import Round
from strategies.reducing import during
from strategies.spec import Spec, Vector
from strategies.updates import Update


def client_of(reply: Message) -> int:
    """Return the number of the client that a reply is from."""
    metrics: Mapping[str, Any] = next(iter(reply.content.metric_records.values()), {})
    return int(metrics.get("partition-id", reply.metadata.src_node_id))


def collude(
    replies: Sequence[Message], experiment: Experiment, at: Round, model: Vector, spec: Spec
) -> None:
    """Put what attackers send together into their replies, which is made of the others'.

    Args:
        replies: of a round; those of attackers are changed.
        experiment: the experiment.
        at: the round.
        model: what they were sent [P].
        spec: its layout.
    """
    reducer: Any = during(attacked(WeightedMean("uniform"), experiment, at.population), at, {})
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
    sent = {update.client: update.delta for update in reducer.theirs(seen)}
    for reply in theirs:
        records = reply.content.array_records
        name = "arrays" if "arrays" in records else next(iter(records))
        after = (model + sent[client_of(reply)]).astype(np.float32)
        reply.content[name] = to_arrays(spec, after)
