"""Sunflower itself: an experiment through ``simulate`` on the backend jax, in this process.

The seconds of a round are those that Sunflower records: from the end of a round to the end of the
next, with all that belongs to it (sampling, dealing, the fold, checkpoint, files).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import gpu_work
from benchmarks.gpu_work import Data, Workload
from benchmarks.peers import gpu_contestant
from benchmarks.peers.gpu_contestant import Rounds, emit


def main() -> None:
    """Run the workloads."""
    gpu_contestant.run(__doc__, ("jax", "keras", "numpy"), start, device)


def device() -> str:
    """Return what JAX computes on."""
    import jax

    return str(jax.devices()[0].device_kind)


def start() -> Any:
    """Import Sunflower, then JAX as it prepares it; return what runs a workload."""
    from simulation.config.experiment import parse
    from simulation.runs.run import Listener, simulate
    from simulation.training.backend import backend

    gpus = 0.0 if os.environ.get("JAX_PLATFORMS") == "cpu" else 1.0
    threads = len(os.sched_getaffinity(0))
    backend("jax").prepare(threads, gpus)

    def runs(workload: Workload, data: Data, rounds: Rounds) -> None:
        os.environ[gpu_work.FOLDER] = str(rounds.folder)

        class Reporter(Listener):
            def line(self, record: Mapping[str, Any]) -> None:
                if record["round"] > 0:
                    numbers = record["round"], record["seconds"]
                    rounds.tell(*numbers, record["examples"], record["clients"])

        settings = gpu_work.settings(workload, rounds.rounds + 1, gpus)
        settings["resources"]["client_cpus"] = threads
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run"
            result = simulate(parse(settings), out=path, listener=Reporter())
            lanes = json.loads((path / "config.json").read_text())["lanes"]
        assert result.spec.size == gpu_work.PARAMETERS[workload.model]
        emit("lanes", work=workload.name, lanes=lanes)

    return runs


if __name__ == "__main__":
    main()
