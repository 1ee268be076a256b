"""Sunflower, one of whose workers is killed in the middle of some rounds."""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from benchmarks.work import emit, experiment


def main() -> None:
    """Run the experiment given as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", help="the experiment, as JSON")
    parser.add_argument("--kill", default="", help="rounds in which to kill, by commas")
    parser.add_argument("--every", type=int, default=0, help="kill in every n-th round instead")
    parser.add_argument("--memory", action="store_true", help="report resident memory as well")
    given = parser.parse_args()
    chosen = experiment(json.loads(given.experiment))
    rounds = {int(r) for r in given.kill.split(",") if r}
    if given.every:
        rounds = set(range(given.every, chosen.rounds + 1, given.every))

    from benchmarks.peers.sunflower import memory
    from simulation.runs.run import Listener, simulate

    class Killer(Listener):
        """Kill a worker when a quarter of a round's clients have trained."""

        trained, left = 0, sorted(rounds)

        def begin(self, experiment: Any, workers: int, done: int) -> None:
            emit("begin", workers=workers)

        def clients(self, kind: str, clients: int, examples: int) -> None:
            if kind != "train":
                return
            self.trained += clients
            cohort = chosen.cohort_size
            if self.left and self.trained >= (self.left[0] - 1) * cohort + cohort // 4:
                emit("kill", round=self.left.pop(0), pid=kill_one())

        def line(self, record: Mapping[str, Any]) -> None:
            emit("round", **record, **(memory() if given.memory else {}))

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        result = simulate(chosen, out=Path(folder) / "run", listener=Killer())
        emit(
            "end",
            sha256=result.summary["weights_sha256"],
            lost=result.summary["clients_lost"],
            run_seconds=time.perf_counter() - began,
        )


def kill_one() -> int:
    """Kill a Ray worker below this process that trains; return its process id."""
    for child in psutil.Process().children(recursive=True):
        try:
            # Ray renames a worker's process after its actor and the call that it runs.
            if (
                child.name().startswith(("ray::Worker", "ray::round"))
                and child.cpu_times().user > 2
            ):
                os.kill(child.pid, signal.SIGKILL)
                return int(child.pid)
        except (psutil.Error, ProcessLookupError):
            continue
    return 0


if __name__ == "__main__":
    main()
