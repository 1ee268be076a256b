"""When clients can be asked, on the simulated clock: always, by chance, by the hour, or by a trace.

A draw holds for a period: in the period w = floor(t / period) client i is there with probability

::

    p                                                                     a probability
    lowest + (highest - lowest) (1 + cos(2 pi (h_i - peak_hour) / 24)) / 2        diurnal

with ``h_i = (w period / 3600 + time zone of i) mod 24`` its local hour. Who has begun to work ends
it, whether the client could be asked again then or not.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulation.config.devices import Devices
from simulation.config.errors import ConfigError
from simulation.population import device_file
from strategies.random_streams import stream

THERE, ZONE = 0x5468, 0x5A6F
"""Purposes of the random streams: who is there in a period, and who lives in which time zone."""

Mask = NDArray[np.bool_]


class Always:
    """Everybody can be asked at any moment."""

    def at(self, seconds: float) -> Mask | None:
        """Return None: all are there."""
        return None

    def next_change(self, seconds: float) -> float:
        """Return infinity: nothing changes."""
        return np.inf


class ByChance:
    """Clients are there with a probability, drawn anew for each period.

    Args:
        devices: the section of the configuration.
        clients: how many there are.
        seed: of the experiment.
    """

    def __init__(self, devices: Devices, clients: int, seed: int) -> None:
        self.devices, self.clients, self.seed = devices, clients, seed
        self.zones = zones_of(devices, clients, seed)
        self._drawn = lru_cache(2)(self._draw)

    def at(self, seconds: float) -> Mask | None:
        """Return who is there [N]."""
        return self._drawn(int(seconds // self.devices.period))

    def next_change(self, seconds: float) -> float:
        """Return the beginning of the next period."""
        period = self.devices.period
        return float((seconds // period + 1) * period)

    def chance(self, period: int) -> NDArray[np.float64] | float:
        """Return the probability of each client in a period."""
        plan = self.devices
        if not isinstance(plan.availability, str):
            return plan.availability
        hour = period * plan.period / 3600 + self.zones - plan.peak_hour
        wave = (1 + np.cos(2 * np.pi * hour / 24)) / 2
        return np.asarray(plan.lowest + (plan.highest - plan.lowest) * wave)

    def _draw(self, period: int) -> Mask:
        drawn = stream(self.seed, THERE, period).random(self.clients)
        return np.asarray(drawn < self.chance(period))


def zones_of(devices: Devices, clients: int, seed: int) -> NDArray[np.float64]:
    """Return the time zone of each client, in hours from the clock's [N]."""
    zones = np.asarray(devices.time_zones)
    return zones[stream(seed, ZONE).integers(0, len(zones), clients)]


class ByTrace:
    """Clients are there in the intervals of a trace, which repeats itself after its last end.

    Args:
        client: of each interval.
        start: its first second.
        end: the second after its last.
        clients: how many there are.
    """

    def __init__(
        self,
        client: NDArray[np.int64],
        start: NDArray[np.float64],
        end: NDArray[np.float64],
        clients: int,
    ) -> None:
        self.client, self.start, self.end, self.clients = client, start, end, clients
        self.length = float(end.max())
        self.changes = np.unique(np.concatenate([start, end]))
        self._between = lru_cache(2)(self._mask)

    def at(self, seconds: float) -> Mask | None:
        """Return who is there [N]."""
        place = np.searchsorted(self.changes, seconds % self.length, side="right")
        return self._between(int(place))

    def next_change(self, seconds: float) -> float:
        """Return the moment of the next start or end."""
        turns, now = divmod(seconds, self.length)
        place = int(np.searchsorted(self.changes, now, side="right"))
        later = self.changes[place] if place < len(self.changes) else self.length + self.changes[0]
        moment = turns * self.length + float(later)
        return moment if moment > seconds else float(np.nextafter(seconds, np.inf))

    def _mask(self, place: int) -> Mask:
        there = np.zeros(self.clients, bool)
        if place:
            now = self.changes[place - 1]
            there[self.client[(self.start <= now) & (now < self.end)]] = True
        return there


Availability = Always | ByChance | ByTrace


def availability_of(devices: Devices, clients: int, seed: int) -> Availability:
    """Return when an experiment's clients can be asked.

    Raises:
        ConfigError: for a trace that cannot be used, or never lets anyone in.
    """
    if devices.availability in ("always", 1.0):
        return Always()
    if devices.availability != "trace":
        return ByChance(devices, clients, seed)
    assert devices.trace is not None
    return _trace(devices.trace, devices.trace_sha256, clients)


def _trace(path: Path, sha256: str, clients: int) -> ByTrace:
    key = "devices.trace"
    table = device_file.table_of(key, path, sha256)
    columns = {name: device_file.numbers(key, table, name, path) for name in ("client", "start")}
    end = device_file.numbers(key, table, "end", path, above=True)
    who, start = columns["client"].astype(np.int64), columns["start"]
    if (end < start).any():
        row = int(np.flatnonzero(end < start)[0])
        raise ConfigError(
            f"{key}: the column end must not be before start ({start[row]:g}), got {end[row]:g} "
            f"in row {row} ({path})"
        )
    ours = (who < clients) & (end > start)
    if not ours.any():
        raise ConfigError(
            f"{key} must let one of {clients} clients in at some moment, got none ({path})"
        )
    return ByTrace(who[ours], start[ours], end[ours], clients)
