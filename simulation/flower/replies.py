"""Which of the replies to Flower messages can be used, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from flwr.app import Message

from simulation.flower.codec import arrays_of
from simulation.worker.faults import Lost
from strategies.spec import Spec


def usable(
    round: int, sent: Sequence[Message], replies: Iterable[Message], spec: Spec
) -> tuple[list[Message], list[Lost]]:
    """Return the replies that a strategy may see, and the clients that gave none.

    Args:
        round: the round.
        sent: the messages.
        replies: what came back.
        spec: the model's layout, which a reply's arrays must have.
    """
    good: list[Message] = []
    lost: list[Lost] = []
    missing = {m.metadata.dst_node_id for m in sent}
    for reply in replies:
        node = reply.metadata.src_node_id
        missing.discard(node)
        reason = (
            reply.error.reason.splitlines()[0] if reply.has_error() else reply_flaw(reply, spec)
        )
        if reason is None:
            good.append(reply)
        else:
            lost.append(Lost(round, node, reason.removeprefix(f"client {node}: ")))
    lost += [Lost(round, node, "it sent no reply") for node in missing]
    return good, sorted(lost, key=lambda one: one.client)


def reply_flaw(reply: Message, spec: Spec) -> str | None:
    """Return what is wrong with a reply's arrays; None: nothing."""
    records = reply.content.array_records
    if not records:
        return None  # A strategy of its own kind may want none.
    arrays = arrays_of(reply.content)
    shapes = dict(zip(spec.names, spec.shapes, strict=True))
    for name, array in arrays.items():
        values = array.numpy()
        wanted = shapes.get(name)
        if wanted is not None and values.shape != wanted:
            return f"its {name} must have shape {wanted}, got {values.shape}"
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            return f"its {name} must be finite, got NaN or infinity"
    return None
