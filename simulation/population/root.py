"""Examples that the server keeps, out of all clients' data, for strategies that train on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment
from simulation.population.on_demand import OnDemand
from simulation.population.partition import AnyPartition
from strategies.random_streams import stream

ROOT = 0x526F
"""Purpose of the random stream that draws the server's examples."""


def root_rows(experiment: Experiment, total: int) -> NDArray[np.int32] | None:
    """Return the training rows that the server keeps, drawn uniformly; None where it keeps none.

    Args:
        experiment: the experiment.
        total: how many training rows there are.

    Raises:
        ConfigError: where no row would be left for clients.
    """
    count = experiment.partition.root
    if count is None:
        return None
    if count >= total:
        raise ConfigError(
            f"partition.root must be less than the {total} training examples, got {count}"
        )
    rows = stream(experiment.seed, ROOT).choice(total, count, replace=False)
    return np.sort(rows).astype(np.int32)


def rows_for_clients(
    experiment: Experiment, total: int, withheld: NDArray[np.int32] | None = None
) -> NDArray[np.int32] | None:
    """Return the training rows that clients may hold; None: all.

    Args:
        experiment: the experiment.
        total: how many training rows there are.
        withheld: others that they may not.
    """
    held = [rows for rows in (root_rows(experiment, total), withheld) if rows is not None]
    if not held:
        return None
    return np.setdiff1d(np.arange(total, dtype=np.int32), np.concatenate(held))


def among(parts: AnyPartition, rows: NDArray[np.int32] | None) -> AnyPartition:
    """Return a partition of some rows as one of all.

    Args:
        parts: who holds which of ``rows``, by their places.
        rows: of all; None: these are all.
    """
    if rows is None:
        return parts
    if isinstance(parts, OnDemand):
        return replace(parts, by_class=rows[parts.by_class])
    return replace(parts, indices=rows[parts.indices])
