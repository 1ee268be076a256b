"""Measuring every client at the end of a run: how evenly the final model serves them.

The clients of the last cohort alone would be a lottery: they are few, and those that happened to
train last.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from simulation.config import scheduling
from simulation.config.experiment import Experiment
from simulation.config.local_work import local_work
from simulation.population.partition import AnyPartition
from simulation.records.rows import metrics_in

SHARE = 0.1
"""Of the run's cost: what the measurement of all clients may take unless it is asked for."""

FORWARD = 1 / 3
"""Cost of measuring an example, compared with training on it: one pass of three."""


def is_wanted(experiment: Experiment, partition: AnyPartition) -> bool:
    """Tell whether a run ends with the measurement of all clients.

    ``evaluation.all_clients`` says so; ``"auto"`` where it costs less than a tenth of the run,
    counted in examples::

        1/3 * validation examples of all clients < 1/10 * rounds * cohort * mean examples * epochs
    """
    wanted = experiment.evaluation.all_clients
    if experiment.mode == "centralised" or not partition.validation_sizes.any():
        return False
    if wanted != "auto":
        return bool(wanted)
    measured = FORWARD * float(partition.validation_sizes.sum(dtype=np.int64))
    mean = float(partition.train_sizes.mean(dtype=np.float64))
    each = local_work(experiment.training).about(mean)
    return measured < SHARE * experiment.rounds * scheduling.updates_of(experiment) * each


def table(round: int, found: Mapping[str, Any], attackers: Collection[int]) -> dict[str, Any]:
    """Return the rows of ``all_clients.parquet``.

    Args:
        round: the last round.
        found: a row per client: client, examples (for validation) and its metrics.
        attackers: clients that attack; a figure of fairness leaves them out.
    """
    clients = np.asarray(found["client"], np.int64)
    rows = np.asarray(found["examples"], np.int64)
    names = ("loss", "accuracy", *metrics_in(found))
    metrics = {n: np.where(rows > 0, np.asarray(found[n], np.float64), np.nan) for n in names}
    return {
        "round": np.full(len(clients), round, np.int32),
        "client": clients,
        "validation": rows,
        **metrics,
        "attacker": np.isin(clients, sorted(attackers)),
    }
