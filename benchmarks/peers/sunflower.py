"""Sunflower itself: an experiment through ``simulate``, every round reported as it ends."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.work import emit, experiment


def main() -> None:
    """Run the experiment given as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", help="the experiment, as JSON")
    parser.add_argument("--memory", action="store_true", help="report resident memory as well")
    given = parser.parse_args()

    from simulation.runs.run import Listener, simulate

    class Reporter(Listener):
        def begin(self, experiment: Any, workers: int, done: int) -> None:
            emit("begin", workers=workers)

        def clients(self, kind: str, clients: int, examples: int) -> None:
            if not self.told:
                self.told = True
                emit("first")

        def line(self, record: Mapping[str, Any]) -> None:
            emit("round", **record, **(memory() if given.memory else {}))

        told = False

    with tempfile.TemporaryDirectory() as folder:
        result = simulate(
            experiment(json.loads(given.experiment)),
            out=Path(folder) / "run",
            listener=Reporter(),
        )
        emit("end", parameters=result.spec.size, sha256=result.summary["weights_sha256"])


def memory() -> dict[str, Any]:
    """Return the resident memory of this driver and of the Ray workers below it [MB].

    ``*_own_mb`` leaves out the pages that are shared: the data in Ray's object store.
    """
    import psutil

    me = psutil.Process()
    workers = {}
    for child in me.children(recursive=True):
        try:
            # Ray renames a worker's process after its actor.
            if child.name().startswith(("ray::Worker", "ray::round")):
                workers[child.pid] = child.memory_info()
        except psutil.Error:
            continue
    driver, everyone = me.memory_info(), [workers[pid] for pid in sorted(workers)]
    mega = 1024**2
    return {
        "pid": os.getpid(),
        "driver_mb": driver.rss / mega,
        "driver_own_mb": (driver.rss - driver.shared) / mega,
        "workers_mb": [m.rss / mega for m in everyone],
        "workers_own_mb": [(m.rss - m.shared) / mega for m in everyone],
    }


if __name__ == "__main__":
    main()
