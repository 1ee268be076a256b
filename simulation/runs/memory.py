"""Whether a run fits into memory: a lower bound, taken before the first round.

A worker holds TensorFlow, some copies of the model and, while it trains, the sums of the chunks
that it merges. A reducer that keeps the updates one by one (a median, say) holds the cohort's on
the driver's node. What clients keep is in files: see :mod:`simulation.records.client_states`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simulation.config import cohorts, scheduling
from simulation.config.compression import encoding_of
from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment
from simulation.config.sizes import FLOAT_BYTES, gib
from simulation.worker.setup import Setup
from strategies.label_discrepancy import DISCREPANCY, RELATIVE_SIZE
from strategies.protocols import Reducer
from strategies.updates import Update

BASE = 300 * 2**20
"""Bytes of a worker's process without model and data: Python and TensorFlow."""

COPIES, SUMS = 6, 3
"""Models in float32 (weights, received, gradient, delta, ...) and sums in float64 of a worker."""


class MemoryShort(ConfigError):
    """A run that cannot fit into the memory of the nodes."""


def keeps_updates(reducer: Reducer, uploads: Sequence[str] = ()) -> bool:
    """Tell whether a reducer's partial grows with the clients in it."""
    try:
        one, four = (_entries(_folded(reducer, uploads, count)) for count in (1, 4))
    except (ValueError, TypeError, KeyError):
        return False  # It wants updates of its own kind: nothing is known of it.
    return four >= 2 * one


def _folded(reducer: Reducer, uploads: Sequence[str], count: int) -> Any:
    partial = None
    metrics = {"loss": 1.0, "accuracy": 0.0, "initial_loss": 1.0}
    metrics |= {DISCREPANCY: 1.0, RELATIVE_SIZE: 1.0}
    for client in range(count):
        extras = {name: np.ones(64, np.float32) for name in uploads}
        update = Update(client, 1, np.ones(64, np.float32), 1, extras, metrics, 0.1, 64)
        partial = reducer.fold(partial, update)
    return partial


def _entries(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.size
    if isinstance(value, dict):
        return sum(map(_entries, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_entries, value))
    inner = getattr(value, "__dict__", None)
    return 0 if inner is None else _entries(inner)


def worker_bytes(parameters: int) -> int:
    """Return what a worker needs at least for a model of so many parameters."""
    return BASE + parameters * (COPIES * FLOAT_BYTES + SUMS * 8)


def shared_bytes(parameters: int, experiment: Experiment, setup: Setup) -> int:
    """Return what the driver's node holds besides: updates that are kept, models in flight."""
    flying = 0
    if experiment.schedule.one_by_one and experiment.mode == "federated":
        flying = FLOAT_BYTES * parameters * scheduling.concurrency_of(experiment)
    elif experiment.schedule.kind == "hierarchical" and experiment.mode == "federated":
        # Of each edge its model, and the total that becomes its next one.
        edges = experiment.schedule.edges or experiment.cohort_size
        flying = (FLOAT_BYTES + 8) * parameters * edges
    if experiment.compression.download is not None and experiment.mode == "federated":
        flying += FLOAT_BYTES * parameters  # The model that clients have, beside the server's.
    # Of an encoded update the client's own delta is kept beside it.
    uploads = len(setup.rule.uploads) + (encoding_of(experiment) is not None)
    keeps = setup.reducer is not None and keeps_updates(setup.reducer, setup.rule.uploads)
    kept = FLOAT_BYTES * parameters * cohorts.at_most(experiment) * (1 + uploads) if keeps else 0
    return kept + flying


def check(
    parameters: int, workers: int, nodes: Sequence[float], experiment: Experiment, setup: Setup
) -> None:
    """Raise MemoryShort when the run needs more memory than the nodes have.

    Args:
        parameters: P of the model.
        workers: how many there are.
        nodes: memory of each node that holds workers, in bytes, the driver's first.
        experiment: cohort and clients.
        setup: reducer and client rule.
    """
    if not nodes:
        return
    each, besides = worker_bytes(parameters), shared_bytes(parameters, experiment, setup)
    need, have = each * workers + besides, sum(nodes)
    if need > have:
        raise MemoryShort(
            f"memory of the nodes must be at least {gib(need)} ({workers} workers x {gib(each)}"
            + (f", updates and models in flight {gib(besides)}" if besides else "")
            + f"), got {gib(have)}; use fewer workers, a smaller cohort or a smaller model"
        )
