"""Sunflower's Ray engine with clients that sleep: how busy are its workers?"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from benchmarks import work
from benchmarks.sleeper import SECONDS, most_at_once


def main() -> None:
    """Run rounds over all clients and report how busy the workers were in each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", type=Path, help="JSON list: examples of each client")
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parameters", type=int, default=1_000)
    given = parser.parse_args()

    from simulation.config.experiment import parse
    from simulation.config.sections import Resources
    from simulation.datasets.dataset import Dataset
    from simulation.engines.calls import Train
    from simulation.engines.cohort import train_cohort
    from simulation.engines.ray.engine import RayEngine
    from simulation.population.partition import Partition
    from simulation.worker.setup import Setup
    from strategies import catalog

    sizes = np.array(json.loads(given.sizes.read_text()), np.int32)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    total, clients = int(offsets[-1]), list(range(len(sizes)))
    x, y = np.zeros((1, 1), np.uint8), np.zeros(1, np.int64)
    data = Dataset("asleep", x, y, x, y, classes=1, scale=1.0, source="made here")
    experiment = parse({"clients": len(sizes)})
    setup = Setup(experiment, reducer=catalog.build("fedavg").reducer)
    engine = RayEngine(Resources(workers=given.workers), executor="benchmarks.sleeper:Sleeper")
    try:
        engine.start(setup, data, Partition(np.zeros(total, np.int32), offsets, sizes))
        # A call for every worker, so that none is still starting when the clock runs.
        model, slots = np.zeros(given.parameters, np.float32), range(given.workers)
        first = Train(round=0, node=np.array([0]), model=model, shared={}, states=[None])
        for ticket in [engine.submit(first) for _ in slots]:
            engine.result(ticket)
        work.emit("begin", workers=engine.workers)
        for number in range(1, given.rounds + 1):
            cpu, start = time.process_time(), time.perf_counter()
            rows = train_cohort(engine, number, clients, model, {}).rows
            seconds = time.perf_counter() - start
            asleep = float((rows["ended"] - rows["started"]).sum())
            work.emit(
                "round",
                round=number,
                seconds=seconds,
                busy=asleep / (seconds * engine.workers),
                in_flight=most_at_once(zip(rows["started"], rows["ended"], strict=True)),
                ideal=SECONDS * total / engine.workers,
                driver_cpu=time.process_time() - cpu,
            )
    finally:
        engine.close()


if __name__ == "__main__":
    main()
