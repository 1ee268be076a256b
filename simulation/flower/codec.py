"""Models and numbers in Flower messages, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    Message,
    RecordDict,
)

from simulation.flower.client_config import SHARED, config_of
from strategies.spec import Spec, Vector

PROXIMAL = "proximal-mu"
"""Where Flower's FedProx tells its clients mu, in the configuration."""

CLIENT_FAILED = 4
"""Flower's error code for an exception in a ClientApp."""


def arrays_of(content: RecordDict) -> ArrayRecord:
    """Return the model in a message: the record ``arrays``, or the first one."""
    records = content.array_records
    return records["arrays"] if "arrays" in records else next(iter(records.values()))


def to_vector(spec: Spec, arrays: ArrayRecord) -> Vector:
    """Return the flat model of an ArrayRecord that is keyed by weight path."""
    return spec.ravel([arrays[name].numpy() for name in spec.names])


def to_arrays(spec: Spec, vector: Vector) -> ArrayRecord:
    """Return a flat model as an ArrayRecord keyed by weight path."""
    parts = zip(spec.names, spec.unravel(vector), strict=True)
    return ArrayRecord({name: Array(np.ascontiguousarray(part)) for name, part in parts})


def to_record(vectors: Mapping[str, Any]) -> ArrayRecord:
    """Return vectors as an ArrayRecord with their names."""
    return ArrayRecord({k: Array(np.ascontiguousarray(v)) for k, v in vectors.items()})


def shared_of(content: RecordDict) -> dict[str, Any]:
    """Return what the server shares, by name; ``proximal-mu``, Flower's own, is called mu."""
    config = config_of(content)
    numbers = {"mu": float(config[PROXIMAL])} if PROXIMAL in config else {}
    numbers |= {
        key.removeprefix(SHARED): float(value)
        for key, value in config.items()
        if key.startswith(SHARED)
    }
    vectors = content.array_records.get("shared")
    return {**numbers, **({} if vectors is None else {k: a.numpy() for k, a in vectors.items()})}


def bytes_of(message: Message) -> int:
    """Return the size of the arrays in a message."""
    records = message.content.array_records.values()
    return sum(len(array.data) for record in records for array in record.values())
