"""Which worker did what, and when: the rows of ``timeline.parquet``."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

COLUMNS = {
    "round": np.int32,
    "worker": np.int32,
    "node": str,
    "kind": str,
    "start": np.float64,
    "end": np.float64,
    "clients": np.int64,
    "examples": np.int64,
}
"""What a row holds: ``start`` and ``end`` in seconds since the epoch, by the worker's clock."""


class Timeline:
    """Calls that workers have carried out, until they are written.

    Training belongs to its round; other work to the :attr:`round` that was trained last.
    """

    def __init__(self) -> None:
        self.round = 0
        # Another run's thread may hear of this one's calls: a deque bears that.
        self._rows: deque[tuple[Any, ...]] = deque()

    def add(
        self, worker: int, node: str, kind: str, times: tuple[float, float], round: int | None,
        clients: int, examples: int,
    ) -> None:  # fmt: skip
        """Note a call.

        Args:
            worker: its place in the pool.
            node: where that is.
            kind: of work.
            times: when it began and ended, in seconds since the epoch.
            round: that it belongs to; None: the one that was trained last.
            clients: how many it was about.
            examples: how many it was about.
        """
        of_round = self.round if round is None else round
        self._rows.append((of_round, worker, node, kind, *times, clients, examples))

    def take(self, round: int) -> dict[str, np.ndarray[Any, Any]]:
        """Return the rows of rounds up to ``round`` as columns, and forget them."""
        if not self._rows:
            return _NOTHING
        taken: list[tuple[Any, ...]] = []
        later: list[tuple[Any, ...]] = []
        while self._rows:
            row = self._rows.popleft()
            (taken if row[0] <= round else later).append(row)
        self._rows.extend(later)
        return _columns(taken)


def _columns(rows: Sequence[tuple[Any, ...]]) -> dict[str, np.ndarray[Any, Any]]:
    values = zip(*rows, strict=True) if rows else ((),) * len(COLUMNS)
    return {n: np.array(v, kind) for (n, kind), v in zip(COLUMNS.items(), values, strict=True)}


_NOTHING = _columns([])
