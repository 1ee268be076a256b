"""Sunflower on virtual time with clients that do nothing: what an event costs the driver."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.sunflower import memory
from benchmarks.work import emit, experiment


def main() -> None:
    """Run the experiment given as JSON on the inline engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", help="the experiment, as JSON")
    parser.add_argument("--every", type=int, default=100, help="steps between reports")
    given = parser.parse_args()

    from simulation.records.rows import Row, columns
    from simulation.runs.run import Listener, simulate
    from simulation.worker import tree
    from simulation.worker.chunk import Part
    from simulation.worker.executor import Executor
    from strategies.updates import Update

    def asleep(
        self: Executor, round: int, node: Any, model: Any, shared: Any, states: Sequence[Any],
        *more: Any,
    ) -> tuple[Part, None]:  # fmt: skip
        """Fold updates of zero: a worker's part, which is none of the driver's."""
        began = time.perf_counter()
        assert self.setup.reducer is not None
        total, rows = None, []
        for client in np.concatenate(list(tree.leaves(node))).tolist():
            size = int(self.partition.train_sizes[client])
            total = self.setup.reducer.fold(total, Update(client, size, np.zeros_like(model)))
            rows.append(Row((client, size, 1, 1.0, 1.0, float(size)), None))
        part = Part(total, columns(rows, self.trainer.metrics))
        slept.append(time.perf_counter() - began)
        return part, None

    slept: list[float] = []
    Executor.train = asleep  # type: ignore[method-assign, assignment]

    class Reporter(Listener):
        events = 0

        def line(self, record: Mapping[str, Any]) -> None:
            self.events += record["clients"] or 0
            if record["round"] % given.every == 0:
                now, away = time.perf_counter(), sum(slept)
                emit("step", events=self.events, clock=now, slept=away, **memory())
                slept[:] = [away]

    with tempfile.TemporaryDirectory() as folder:
        wanted = experiment(json.loads(given.experiment))
        simulate(wanted, out=Path(folder) / "run", listener=Reporter())
    emit("end")


if __name__ == "__main__":
    main()
