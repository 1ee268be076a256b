"""Which worker did what, and when: the rows of ``timeline.parquet``."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simulation.worker import tree

if TYPE_CHECKING:
    from simulation.engines.calls import Status
    from simulation.population.partition import AnyPartition


KINDS = {
    "train": "train",
    "merge": "merge",
    "answer": "message",
    "evaluate_clients": "evaluate",
    "evaluate_own": "evaluate",
    "evaluate_test": "test",
    "evaluate_test_own": "test",
}
"""The kind of work of each call; other calls belong to no round and are left out."""


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
        self, worker: int, call: str, args: Sequence[Any], status: Status, partition: AnyPartition
    ) -> None:
        """Note a call.

        Args:
            worker: its place in the pool.
            call: the executor's method.
            args: its arguments.
            status: when and where it ran.
            partition: which examples the clients hold.
        """
        if call not in KINDS or status.error is not None:
            return
        round = args[0] if call == "train" else self.round
        times = (status.started, status.ended)
        done = _amount(call, args, partition)
        self._rows.append((round, worker, status.node, KINDS[call], *times, *done))

    def take(self, round: int) -> dict[str, np.ndarray[Any, Any]]:
        """Return the rows of rounds up to ``round`` as columns, and forget them."""
        taken: list[tuple[Any, ...]] = []
        later: list[tuple[Any, ...]] = []
        while self._rows:
            row = self._rows.popleft()
            (taken if row[0] <= round else later).append(row)
        self._rows.extend(later)
        values = zip(*taken, strict=True) if taken else ((),) * len(COLUMNS)
        return {n: np.array(v, kind) for (n, kind), v in zip(COLUMNS.items(), values, strict=True)}


def _amount(call: str, args: Sequence[Any], partition: AnyPartition) -> tuple[int, int]:
    """Return how many clients and examples a call was about."""
    if call == "train":
        ids = np.concatenate(list(tree.leaves(args[1])))
        return len(ids), int(partition.train_sizes[ids].sum())
    if call in ("evaluate_clients", "evaluate_own"):
        return len(args[0]), int(partition.validation_sizes[args[0]].sum())
    if call == "evaluate_test":
        return 0, args[1] - args[0]
    if call == "evaluate_test_own":
        return len(args[1]), 0
    return (len(args[0]), 0) if call == "answer" else (0, 0)
