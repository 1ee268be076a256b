"""Load an experiment's data and deal it to its clients."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from simulation.config.errors import ConfigError
from simulation.config.experiment import MODELS, Experiment
from simulation.config.partitioning import BETA
from simulation.config.sections import Data
from simulation.datasets import registry, targets
from simulation.datasets.dataset import Dataset
from simulation.population import partition, partition_file
from simulation.population.attackers import attackers, backdoor
from simulation.population.features import skewed
from simulation.population.pachinko import groups_of
from simulation.population.partition import AnyPartition
from simulation.population.root import among, rows_for_clients


def check_targets(experiment: Experiment, data: Dataset) -> None:
    """Raise ConfigError when a built-in model, which classifies, cannot learn what is to be learnt.

    Args:
        experiment: the experiment.
        data: its data.
    """
    if experiment.model not in MODELS or data.labels is not None:
        return
    y = data.y_train
    whole = y.dtype.kind != "f" or bool((y == np.floor(y)).all() and (y >= 0).all())
    if not whole or y.shape[1:] not in ((), (1,)):
        hint = "a model of yours, module:function, may learn it"
    elif data.target == "y_train":
        hint = "cast to integers, its whole numbers are classes"
    else:
        hint = "data.label_type = 'classes' takes its whole numbers as classes"
    raise ConfigError(
        f"model {experiment.model!r} tells one class for each example, but {data.target} holds "
        f"{targets.looks(y)}: {hint}"
    )


_ONE_AT_A_TIME = threading.Lock()
"""NumPy parses the headers of its files by ``ast``, of which CPython 3.11 keeps one recursion
depth for all threads: two that read at a time can end in a SystemError."""

Load = Callable[[str, Path | None, Data | None], Dataset]
"""Loads a dataset: :func:`simulation.datasets.registry.load`."""


def prepare(experiment: Experiment, load: Load = registry.load) -> tuple[Dataset, AnyPartition]:
    """Load an experiment's data and deal it to the clients; one thread at a time does so.

    The centralised baseline is one client that holds the training rows of all.
    """
    with _ONE_AT_A_TIME:
        return _prepare(experiment, load)


def _prepare(experiment: Experiment, load: Load) -> tuple[Dataset, AnyPartition]:
    data = load(experiment.dataset, experiment.data_dir, experiment.data)
    check_targets(experiment, data)
    plan, labels = experiment.partition, data.labels
    attackers(experiment, experiment.clients, None if labels is None else data.classes)
    bad = backdoor(experiment, experiment.clients, data)
    groups = None
    if plan.kind == "pachinko" and labels is not None:
        groups = groups_of(experiment.dataset, data.classes or 0, plan.groups)
    owners = data.owners
    if plan.kind == "file" and plan.path is not None:
        owners = partition_file.owners(
            plan.path, plan.path_sha256, len(data.y_train), experiment.clients
        )
    y = data.y_train if labels is None else labels
    rows = rows_for_clients(experiment, len(y), None if bad is None else bad.withheld)
    if rows is not None:
        y, owners = y[rows], None if owners is None else owners[rows]
    parts = partition.make(
        plan.kind,
        y,
        experiment.clients,
        experiment.seed,
        alpha=plan.alpha,
        beta=plan.beta or BETA,
        groups=groups,
        classes_per_client=plan.classes_per_client,
        shards_per_client=plan.shards_per_client,
        examples_per_client=plan.examples_per_client,
        law=plan.law,
        validation=plan.validation,
        owners=owners,
    )
    parts = among(parts, rows)
    if isinstance(parts, partition.Partition):
        data = skewed(data, parts, plan, experiment.seed)
    if experiment.mode == "centralised":
        pooled = np.sort(np.concatenate([parts.train_rows(c) for c in range(len(parts))]))
        rows = np.unique(pooled).astype(np.int32)
        size = np.array([0, len(rows)], np.int64)
        parts = partition.Partition(rows, size, np.array([len(rows)], np.int32))
    return data, parts
