"""An executor whose clients sleep: it shows what the engine costs, and imports no TensorFlow."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.datasets.dataset import Dataset
from simulation.population.partition import AnyPartition
from simulation.records.rows import Rows, join
from simulation.worker import tree
from simulation.worker.setup import Setup
from strategies.spec import Vector
from strategies.updates import Update

SECONDS = 0.005
"""How long a client sleeps for each of its examples."""


class Sleeper:
    """Does what :class:`simulation.worker.executor.Executor` does, asleep.

    Its rows also say when each client began and ended (seconds since the epoch).
    """

    def __init__(self, setup: Setup, data: Dataset, partition: AnyPartition) -> None:
        self.setup, self.partition = setup, partition

    @staticmethod
    def prepare(threads: int, gpus: float, library: str) -> None:
        """Do nothing: there is no TensorFlow to import."""

    def train(
        self,
        round: int,
        node: tree.Tree[NDArray[np.int64]],
        model: Vector,
        shared: Mapping[str, Any],
        states: Sequence[Vector | None],
        *more: Any,
    ) -> tuple[tuple[Any, Rows], None]:
        """Sleep for every client below a node of the merge tree; fold their empty updates."""
        assert self.setup.reducer is not None
        reducer, rows = self.setup.reducer, []

        def partial(node: tree.Tree[NDArray[np.int64]]) -> Any:
            if isinstance(node, tuple):
                return tree.fold((partial(child) for child in node), reducer.merge)
            total = None
            for client in node.tolist():
                examples = len(self.partition.train_rows(client))
                start = time.time()
                time.sleep(SECONDS * examples)
                rows.append((client, examples, start, time.time()))
                total = reducer.fold(total, Update(client, examples, np.zeros_like(model)))
            return total

        found = partial(node)
        names = ("client", "examples", "started", "ended")
        columns = zip(names, zip(*rows, strict=True), strict=True)
        return (found, {name: np.asarray(column) for name, column in columns}), None

    def merge(self, *results: tuple[Any, Rows]) -> tuple[Any, Rows]:
        """Merge the results of a node's children, from the left."""
        assert self.setup.reducer is not None
        total = tree.fold((result[0] for result in results), self.setup.reducer.merge)
        return total, join([result[1] for result in results])


def most_at_once(intervals: Iterable[tuple[float, float]]) -> int:
    """Return how many of some intervals ``(start, end)`` overlap, at most."""
    marks = sorted(mark for start, end in intervals for mark in ((start, 1), (end, -1)))
    return int(np.cumsum([step for _, step in marks]).max(initial=0))
