"""What happened on a run's clock: the rows of ``events.parquet``, and figures of a server step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = {
    "round": np.int32,
    "client": np.int64,
    "tier": object,
    "version": np.int64,
    "dispatched": np.float64,
    "arrived": np.float64,
    "staleness": np.int64,
    "steps": np.int64,
    "bytes_up": np.int64,
    "bytes_down": np.int64,
    "joules": np.float64,
    "used": np.bool_,
    "reason": object,
}
"""The columns, with what they hold."""

START = {
    "virtual_seconds": 0.0,
    "staleness_mean": None,
    "staleness_max": None,
    "energy_joules": 0.0,
    "utilisation": None,
}
"""What the line of round 0 says: nothing has happened yet."""

FAILED = "failed"
"""The reason of a client that arrived without an update, as it was lost."""


@dataclass(frozen=True)
class Events:
    """What the server decided in a step: of every client whose answer it had, or gave up.

    Args:
        columns: those of :data:`KINDS`.
        compute: seconds that each computed.
        flight: seconds that each was away.
    """

    columns: Mapping[str, NDArray[Any]]
    compute: NDArray[np.float64]
    flight: NDArray[np.float64]

    def without(self, lost: Sequence[int]) -> Events:
        """Return the events where some of the clients that arrived had no update."""
        if not lost:
            return self
        gone = np.isin(self.columns["client"], lost) & self.columns["used"]
        reason = np.where(gone, FAILED, self.columns["reason"]).astype(object)
        used = self.columns["used"] & ~gone
        return Events({**self.columns, "used": used, "reason": reason}, self.compute, self.flight)

    def notes(self, seconds: float, joules: float) -> dict[str, Any]:
        """Return what the line of the step says.

        Args:
            seconds: the clock at its end.
            joules: of all clients up to it.
        """
        stale, away = self.columns["staleness"][self.columns["used"]], float(self.flight.sum())
        return {
            "virtual_seconds": seconds,
            "staleness_mean": float(stale.mean()) if len(stale) else None,
            "staleness_max": int(stale.max()) if len(stale) else None,
            "energy_joules": joules,
            "utilisation": float(self.compute.sum()) / away if away > 0 else None,
        }


def joined(parts: Sequence[Events]) -> Events:
    """Return the events of several groups of clients, one after the other."""
    names = parts[0].columns
    return Events(
        {name: np.concatenate([part.columns[name] for part in parts]) for name in names},
        np.concatenate([part.compute for part in parts]),
        np.concatenate([part.flight for part in parts]),
    )


def table(rows: Mapping[str, Any], count: int) -> dict[str, NDArray[Any]]:
    """Return columns of :data:`KINDS`; a single value stands for all ``count`` rows."""
    found = {}
    for name, kind in KINDS.items():
        value = rows[name]
        if isinstance(value, np.ndarray) and value.dtype == kind:
            found[name] = value
            continue
        column: NDArray[Any] = np.empty(count, kind)
        column[:] = value
        found[name] = column
    return found
