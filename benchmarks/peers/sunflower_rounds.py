"""Sunflower with a watch on its executor: how much of a round is training, and how much is not."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.work import emit, experiment


def main() -> None:
    """Run the experiment given as JSON on the inline engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", help="the experiment, as JSON")
    given = parser.parse_args()

    from simulation.runs.run import Listener, simulate
    from simulation.worker.executor import Executor

    busy = 0.0

    def watched(method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            nonlocal busy
            began = time.perf_counter()
            try:
                return method(*arguments, **options)
            finally:
                busy += time.perf_counter() - began

        return run

    for name in ("train", "evaluate_clients", "evaluate_test"):
        setattr(Executor, name, watched(getattr(Executor, name)))

    class Reporter(Listener):
        def line(self, record: Mapping[str, Any]) -> None:
            nonlocal busy
            emit("round", round=record["round"], clock=time.perf_counter(), busy=busy)
            busy = 0.0

    with tempfile.TemporaryDirectory() as folder:
        wanted = experiment(json.loads(given.experiment))
        simulate(wanted, out=Path(folder) / "run", listener=Reporter())
    emit("end")


if __name__ == "__main__":
    main()
