"""Clients whose features differ, whatever their labels: noise of their own, turned pictures.

A row belongs to one client, so that the training set is changed once, before anybody trains. The
test set stays as it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.config.errors import ConfigError
from simulation.config.partitioning import PartitionConfig
from simulation.datasets.dataset import Dataset
from simulation.population.partition import Partition
from strategies.random_streams import stream

NOISE = 0x466E
"""Purpose of the random stream of a client's noise."""

BYTE = 255.0
"""Full range of a picture of bytes."""


def skewed(data: Dataset, parts: Partition, plan: PartitionConfig, seed: int) -> Dataset:
    """Return the data with the features of each client's rows changed.

    ::

        noise        x + e,  e ~ N(0, noise * (i + 1) / N)   for client i of N
        rotations    pictures turned by (i mod rotations) * 360 / rotations degrees

    Noise is in the units of the inputs; of pictures of bytes in their full range, to whose ends
    and whole numbers the sum is brought back. Sources: Li et al. (2022), arXiv 2102.02079, section
    IV-C (noise-based feature imbalance, variance ``sigma * i / N``); Ghosh et al. (2020), arXiv
    2006.04088, section 6 (clusters of rotated MNIST).

    Raises:
        ConfigError: for inputs that cannot be changed so.
    """
    x = data.x_train
    if plan.noise is None and plan.rotations is None:
        return data
    name = "noise" if plan.noise is not None else "rotations"
    if not isinstance(x, np.ndarray):
        raise ConfigError(
            f"partition.{name} must be left out for a model of several inputs, "
            f"got {getattr(plan, name)!r}"
        )
    x = x.copy()
    for client in range(len(parts)):
        rows = parts.rows(client)
        if plan.rotations is not None:
            x[rows] = _turned(x[rows], client % plan.rotations, plan.rotations)
        if plan.noise is not None:
            deviation = np.sqrt(plan.noise * (client + 1) / len(parts))
            x[rows] = _noisy(x[rows], deviation, stream(seed, NOISE, client))
    return replace(data, x_train=x)


def _turned(x: NDArray[Any], times: int, of: int) -> NDArray[Any]:
    """Return pictures [n, height, width, ...] turned by some of so many parts of a turn."""
    if x.ndim < 3 or (of == 4 and x.shape[1] != x.shape[2]):
        wanted = "square pictures" if of == 4 else "pictures"
        raise ConfigError(
            f"partition.rotations must be left out unless inputs are {wanted}, "
            f"got {of} and inputs of the shape {x.shape[1:]}"
        )
    return np.rot90(x, times * 4 // of, axes=(1, 2))


def _noisy(x: NDArray[Any], deviation: float, rng: np.random.Generator) -> NDArray[Any]:
    """Return inputs with Gaussian noise, in their own type."""
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise ConfigError(
            "partition.noise must be left out unless inputs are real numbers or pictures of "
            f"bytes, got inputs of the type {x.dtype}"
        )
    noise = rng.standard_normal(x.shape, np.float32) * np.float32(deviation)
    if x.dtype == np.uint8:
        return np.clip(np.rint(x + BYTE * noise), 0, BYTE).astype(np.uint8)
    return (x + noise).astype(x.dtype)
