"""What clients compute on: how long a client takes for its work, and what energy that costs.

With s steps on e examples, a client that is sent b bytes and sends c back takes::

    (latency + b / down) + (s * step_seconds + e * example_seconds) + (latency + c / up)

seconds, and as many joules as its power in each part says: network_watts while bytes travel,
compute_watts while it computes, idle_watts during the latency. All arrays are float64 [N]; draws
come from ``stream(seed, PURPOSE)``, so that all strategies and schedules meet the same clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulation.config.devices import SPREADS, STEP_SECONDS, TIERS, Devices
from simulation.config.local_work import LocalWork
from simulation.population import device_file
from simulation.population.profiles import FIELDS, TABLE
from strategies.random_streams import stream

SPEED, LINK, WHICH = 0x5370, 0x4C6B, 0x5770
"""Purposes of the random streams: slowness, bytes a second, who has which profile."""

Column = NDArray[np.float64]

COLUMNS = ("step_seconds", "example_seconds", *FIELDS[1:])
"""Properties of a fleet, each an array [N]."""

THIRDS = ("fast", "medium", "slow")
"""Tiers of devices that have none of their own: by the time for a step, equally many in each."""


class Durations(NamedTuple):
    """How long clients take, in seconds, and what energy that costs, in joules: arrays [K]."""

    total: Column
    compute: Column
    joules: Column


@dataclass(frozen=True)
class Fleet:
    """The devices of all clients, an entry of each array [N] for one.

    Args:
        step_seconds: of a local step.
        example_seconds: of an example in a local step; one of the two is 0.
        up: bytes a second that it sends; infinite where nothing limits them.
        down: bytes a second that it receives.
        latency: seconds that a message takes besides.
        idle_watts: power while it waits for a message.
        compute_watts: power while it trains.
        network_watts: power while it sends or receives.
        names: of the tiers.
        tier: which of them each has.
    """

    step_seconds: Column
    example_seconds: Column
    up: Column
    down: Column
    latency: Column
    idle_watts: Column
    compute_watts: Column
    network_watts: Column
    names: tuple[str, ...]
    tier: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.step_seconds)

    def durations(
        self,
        clients: Sequence[int] | NDArray[np.int64],
        steps: Column | NDArray[np.int64],
        examples: Column | NDArray[np.int64],
        down: float | NDArray[np.int64],
        up: float,
    ) -> Durations:
        """Return how long clients take.

        Args:
            clients: their numbers [K].
            steps: local steps of each.
            examples: that each trains on, every epoch counted.
            down: bytes that each is sent; [K] where they are unlike.
            up: bytes that each sends.
        """
        at = np.asarray(clients, np.int64)
        compute = steps * self.step_seconds[at] + examples * self.example_seconds[at]
        receive, send = down / self.down[at], up / self.up[at]
        wait = self.latency[at]
        total = (wait + receive) + compute + (wait + send)
        joules = compute * self.compute_watts[at] + (receive + send) * self.network_watts[at]
        return Durations(total, compute, joules + 2 * wait * self.idle_watts[at])

    def tiers_of(self, clients: Sequence[int] | NDArray[np.int64]) -> list[str]:
        """Return the names of clients' tiers."""
        return [self.names[place] for place in self.tier[np.asarray(clients, np.int64)].tolist()]


class Work(NamedTuple):
    """Local work: steps, and examples trained on, of each client: arrays [N]."""

    steps: NDArray[np.int64]
    examples: NDArray[np.int64]


def work_of(
    sizes: NDArray[np.integer], epochs: float, batch: int | None, count: int | None = None
) -> Work:
    """Return the whole local work of clients.

    Args:
        sizes: examples of each.
        epochs: local epochs.
        batch: examples of a step; None: all of them.
        count: steps of each client, in the place of epochs.
    """
    work = LocalWork(epochs, batch, count)
    return Work(work.steps(sizes), work.examples(sizes))


def fleet_of(devices: Devices, clients: int, seed: int) -> Fleet:
    """Return the devices of an experiment's clients.

    Raises:
        ConfigError: for a file that cannot be used.
    """
    if devices.kind == "file":
        assert devices.path is not None
        given = device_file.read(devices.path, devices.path_sha256, clients, seed)
        return _complete(given.columns, clients, given.tiers)
    if devices.kind == "tiers":
        return _tiers(devices, clients, seed)
    slow = _slowness(devices, clients, seed)
    columns = {name: np.full(clients, value) for name, value in _plain(devices).items()}
    unit = "step_seconds" if devices.examples_per_second is None else "example_seconds"
    columns[unit] = columns[unit] * slow
    return _complete(_spread_links(devices, columns, seed), clients, None)


def _plain(devices: Devices) -> dict[str, float]:
    """Return the properties that are said for all clients."""
    names = ("up", "down", "latency", "idle_watts", "compute_watts", "network_watts")
    said = {name: value for name in names if (value := getattr(devices, name)) is not None}
    if devices.examples_per_second is not None:
        return said | {"example_seconds": 1 / devices.examples_per_second}
    return said | {"step_seconds": devices.step_seconds or STEP_SECONDS}


def _slowness(devices: Devices, clients: int, seed: int) -> Column:
    """Return how many times as long as said each client takes."""
    rng, kind = stream(seed, SPEED), devices.kind
    if kind == "equal":
        return np.ones(clients)
    spread = devices.spread or SPREADS[kind]
    if kind == "lognormal":
        return np.exp(rng.normal(0.0, spread, clients))
    if kind == "uniform":
        return rng.uniform(1.0, 1.0 + spread, clients)
    return rng.zipf(spread, clients).astype(np.float64)


def _spread_links(devices: Devices, columns: dict[str, Column], seed: int) -> dict[str, Column]:
    if devices.network_spread:
        there = [name for name in ("up", "down") if name in columns]
        for place, name in enumerate(there):
            rng = stream(seed, LINK, place)
            factor = np.exp(rng.normal(0.0, devices.network_spread, len(columns[name])))
            columns[name] = columns[name] * factor
    return columns


def _tiers(devices: Devices, clients: int, seed: int) -> Fleet:
    names = devices.profiles or TIERS
    shares = np.asarray(devices.shares or (1.0,) * len(names))
    # As many clients of each profile as its share says, dealt at random.
    ends = np.rint(np.cumsum(shares) / shares.sum() * clients).astype(np.int64)
    which = np.searchsorted(ends, np.arange(clients), side="right")
    dealt: NDArray[np.int16] = stream(seed, WHICH).permutation(which).astype(np.int16)
    table = np.array([TABLE[name] for name in names], np.float64)[dealt]
    columns = {name: table[:, place] for place, name in enumerate(FIELDS)}
    columns["example_seconds"] = 1 / columns.pop("examples_per_second")
    return _complete(_spread_links(devices, columns, seed), clients, (tuple(names), dealt))


def _complete(
    columns: dict[str, Column],
    clients: int,
    tiers: tuple[tuple[str, ...], NDArray[np.int16]] | None,
) -> Fleet:
    """Return a fleet, with what is not said as it does not matter: no limit, no wait, no power."""
    nothing, endless = np.zeros(clients), np.full(clients, np.inf)
    usual = {"up": endless, "down": endless}
    whole = {name: columns.get(name, usual.get(name, nothing)) for name in COLUMNS}
    if tiers is None:
        tiers = _thirds(whole["step_seconds"] + whole["example_seconds"])
    return Fleet(**whole, names=tiers[0], tier=tiers[1])


def _thirds(slowness: Column) -> tuple[tuple[str, ...], NDArray[np.int16]]:
    if np.all(slowness == slowness[0]):
        return ("all",), np.zeros(len(slowness), np.int16)
    order = np.argsort(slowness, kind="stable")
    tier = np.empty(len(slowness), np.int16)
    tier[order] = np.arange(len(slowness)) * len(THIRDS) // len(slowness)
    return THIRDS, tier
