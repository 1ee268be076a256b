"""Edges between clients and cloud: which clients each has, how many of them it asks, and its link.

A message of b bytes between edge and cloud takes ``edge_latency + b / edge_up`` seconds, or
``b / edge_down`` in the place of it. Which edge a client belongs to stays the same for a whole run,
and is the same for all strategies.

Source: Liu et al. (2020), arXiv 1905.06641 (HierFAVG), where each client has one edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulation.config.devices import Devices
from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment
from simulation.config.scheduling import Schedule
from simulation.population import device_file
from simulation.population.availability import zones_of
from simulation.population.devices import Fleet
from strategies.cohort import TRAIN
from strategies.random_streams import stream

DEALT, SAMPLED = 0x4564, 0x4573
"""Purposes of the random streams: who belongs to which edge, whom an edge asks."""

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Edges:
    """The edges of a run, an entry of each tuple for one.

    Args:
        names: what they are called.
        members: the numbers of their clients, ascending.
        asked: how many of these each asks in a round of its own.
        up: bytes a second to the cloud.
        down: bytes a second from there.
        latency: seconds that a message takes besides.
    """

    names: tuple[str, ...]
    members: tuple[Places, ...]
    asked: tuple[int, ...]
    up: float
    down: float
    latency: float

    def __len__(self) -> int:
        return len(self.members)

    def sending(self, size: float) -> float:
        """Return the seconds that so many bytes take from an edge to the cloud."""
        return self.latency + size / self.up

    def receiving(self, size: float) -> float:
        """Return the seconds that so many bytes take from the cloud to an edge."""
        return self.latency + size / self.down


def purpose_of(edge: int) -> int:
    """Return the purpose of the random stream of whom an edge asks.

    That of the first is a cohort's, so that a single edge asks whom a server without edges asks.
    """
    return TRAIN if edge == 0 else (SAMPLED << 32) + edge


def edges_of(
    experiment: Experiment, fleet: Fleet, labels: NDArray[np.int64] | None = None
) -> Edges:
    """Return the edges of an experiment.

    Args:
        experiment: says how clients are grouped.
        fleet: their devices.
        labels: the label that most examples of each client have [N], to group by that.

    Raises:
        ConfigError: for an edge without clients, more edges than clients of a cohort, or a file
            without the column.
    """
    plan, count = experiment.schedule, experiment.clients
    names, edge = _groups(experiment, fleet, labels)
    sizes = np.bincount(edge, minlength=len(names))
    if not sizes.all():
        empty = names[int(np.flatnonzero(sizes == 0)[0])]
        raise ConfigError(
            f"schedule.group_by must give every edge clients, got none of {count} for {empty!r} "
            f"({plan.group_by})"
        )
    if len(names) > experiment.cohort_size:
        raise ConfigError(
            f"schedule.group_by must give at most as many edges as the cohort has clients "
            f"({experiment.cohort_size}), got {len(names)} ({plan.group_by})"
        )
    members = tuple(np.flatnonzero(edge == place) for place in range(len(names)))
    endless = float("inf")
    return Edges(
        names,
        members,
        tuple(shares(experiment.cohort_size, sizes.tolist())),
        plan.edge_up or endless,
        plan.edge_down or endless,
        plan.edge_latency,
    )


def shares(cohort: int, sizes: Sequence[int]) -> list[int]:
    """Return how many of a cohort each of some groups gives: in proportion, at least one each.

    The largest remainders are rounded up, as with seats in a parliament.

    Args:
        cohort: of all groups, from their number to the clients'.
        sizes: clients of each group.
    """
    whole = np.asarray(sizes, np.int64)
    quota = cohort * whole / whole.sum()
    found = np.maximum(np.floor(quota).astype(np.int64), 1)
    while found.sum() < cohort:
        short = np.where(found < whole, quota - found, -np.inf)
        found[int(np.argmax(short))] += 1
    while found.sum() > cohort:
        over = np.where(found > 1, found - quota, -np.inf)
        found[int(np.argmax(over))] -= 1
    result: list[int] = found.tolist()
    return result


def _groups(
    experiment: Experiment, fleet: Fleet, labels: NDArray[np.int64] | None
) -> tuple[tuple[str, ...], Places]:
    """Return the edges' names, and the edge of each client [N]."""
    plan, devices, clients = experiment.schedule, experiment.devices, experiment.clients
    assert devices is not None
    if plan.group_by == "tier":
        return fleet.names, fleet.tier.astype(np.int64)
    if plan.group_by == "time-zone":
        return _zones(devices, clients, experiment.seed)
    if plan.group_by == "column":
        assert devices.path is not None
        return device_file.edges(devices.path, devices.path_sha256, clients, experiment.seed)
    assert plan.edges is not None
    order = _order(plan, fleet, labels, experiment.seed)
    edge = np.empty(clients, np.int64)
    edge[order] = np.arange(clients) * plan.edges // clients
    return tuple(f"edge {place}" for place in range(plan.edges)), edge


def _order(
    plan: Schedule, fleet: Fleet, labels: NDArray[np.int64] | None, seed: int
) -> NDArray[np.int64]:
    """Return the clients in the order in which they are cut into equally large groups."""
    if plan.group_by == "random":
        return stream(seed, DEALT).permutation(len(fleet))
    if plan.group_by == "speed":
        return np.argsort(fleet.step_seconds + fleet.example_seconds, kind="stable")
    if plan.group_by == "labels" and labels is not None:
        return np.argsort(labels, kind="stable")
    return np.arange(len(fleet))


def _zones(devices: Devices, clients: int, seed: int) -> tuple[tuple[str, ...], Places]:
    known = sorted(set(devices.time_zones))
    return tuple(f"{zone:+g} h" for zone in known), np.searchsorted(
        known, zones_of(devices, clients, seed)
    )
