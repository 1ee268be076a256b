"""Stock Flower: FedAvg on its own Simulation Runtime, with the clients of ``flower_app``."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from benchmarks import work


def main() -> None:
    """Run ``--rounds`` rounds of FedAvg over all clients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("quickstart", "cached", "sleep"))
    parser.add_argument("--data", type=Path, help="folder written by benchmarks.work.write")
    parser.add_argument("--sleep", type=Path, help="JSON list: how long each client sleeps [s]")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cpus", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--untuned", action="store_true", help="Flower's and TensorFlow's defaults")
    parser.add_argument("--progress", type=Path, required=True, help="clients note themselves here")
    given = parser.parse_args()
    os.environ |= {
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        "KERAS_BACKEND": "tensorflow",
    }
    backend: dict[str, Any] = {"init_args": {"num_cpus": given.cpus, "log_to_driver": False}}
    if not given.untuned:
        # Flower gives every client two CPUs unless told otherwise, and TensorFlow takes all cores
        # in every actor. One CPU and one thread each is faster.
        backend["client_resources"] = {"num_cpus": 1, "num_gpus": 0.0}
        os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
    from flwr.app import ArrayRecord, ConfigRecord, Context
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    from benchmarks.peers import flower_app

    config: dict[str, Any] = {"kind": given.kind, "progress": str(given.progress.absolute())}
    if given.kind == "sleep":
        config["seconds"] = json.loads(given.sleep.read_text())
        clients, images = len(config["seconds"]), len(config["seconds"])
    else:
        config["data"] = str(given.data.absolute())
        data = work.read(given.data)
        clients, images = len(data), len(data.rows)
    server = ServerApp()

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        initial = ArrayRecord(_initial(given.kind))
        last = [0.0]

        def evaluate(round: int, arrays: Any) -> None:
            # Flower calls this before round 1 and after every round: the clock, nothing else.
            now = time.perf_counter()
            if round == 0:
                work.emit("begin")
            else:
                work.emit("round", round=round, seconds=now - last[0], examples=images)
            last[0] = now

        strategy = FedAvg(
            fraction_train=1.0,
            fraction_evaluate=0.0,
            min_train_nodes=clients,
            min_available_nodes=clients,
        )
        strategy.start(
            grid,
            initial,
            num_rounds=given.rounds,
            train_config=ConfigRecord(config),
            evaluate_fn=evaluate,
        )

    run_simulation(
        server,
        flower_app.app,
        num_supernodes=clients,
        backend_config=backend,
    )


def _initial(kind: str) -> list[Any]:
    import numpy as np

    if kind == "sleep":
        return [np.zeros(10, np.float32)]
    from benchmarks.peers.flower_app import load_model

    model = load_model()
    assert model.count_params() == work.PARAMETERS
    return list(model.get_weights())


if __name__ == "__main__":
    main()
