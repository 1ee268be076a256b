"""What a round costs the driver, for cohorts of up to 100,000 clients and 1,000 workers.

The workers are a double that answers at once: what is left is the driver's own work of a round, to
cut the cohort, to hand out its parts and to merge what comes back. Ray's share comes on top of it:
some milliseconds for each call.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.common import ROOT, Report, python, say
from benchmarks.utilisation import draw

COHORTS = (1_000, 10_000, 100_000)
WORKERS = (8, 100, 1_000)

CALL_SECONDS = 0.003
"""What a call costs the driver in Ray: see ``engines/ray/engine.py``."""


def main() -> None:
    """Measure, print, and write ``results/scale``; or measure one of them, for the others."""
    parser = common.parser(__doc__, repeats=1)
    parser.add_argument("--parameters", type=int, default=225_034)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", type=int, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        clients, workers = given.one
        print(json.dumps(measure(clients, workers, given.parameters, given.rounds)))
        return
    report = Report("scale", "The driver's cost of a round", given.small)
    found = []
    for clients in COHORTS[:1] if given.small else COHORTS:
        for workers in WORKERS:
            say(f"{clients:,} clients, {workers} workers")
            size = ("--parameters", given.parameters, "--rounds", given.rounds)
            command = python("benchmarks.scale", "--one", clients, workers, *size)
            ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            if ran.returncode:
                raise SystemExit(ran.stderr)
            found.append(json.loads(ran.stdout.splitlines()[-1]))
    report.data["cohorts"] = found
    report.text(
        f"Log-normal sizes, mean 60; {given.parameters:,} parameters. Seconds of the processor are "
        f"the driver's own, the least of {given.rounds} rounds; Ray's share is some "
        f"{1000 * CALL_SECONDS:g} ms a call."
    )
    header = ("clients", "workers", "calls", "s a round", "us a client", "with Ray, s", "peak, MB")
    report.table(
        header,
        [
            [
                f"{one['clients']:,}",
                f"{one['workers']:,}",
                f"{one['calls']:,}",
                f"{one['seconds']:.3f}",
                f"{1e6 * one['seconds'] / one['clients']:.1f}",
                f"{one['seconds'] + CALL_SECONDS * one['calls']:.1f}",
                f"{one['peak_mb']:.0f}",
            ]
            for one in found
        ],
    )
    report.show()


def measure(clients: int, workers: int, parameters: int, rounds: int) -> dict[str, Any]:
    """Train a cohort some times on workers that answer at once; return what it costs."""
    from simulation.engines.cohort import train_cohort

    engine = answering(clients, workers, parameters)
    model, seconds, calls = np.zeros(parameters, np.float32), [], 0
    for number in range(1, rounds + 1):
        engine.away, engine.calls = 0.0, 0
        began = time.process_time()
        rows = train_cohort(engine, number, range(clients), model, {}).rows
        seconds.append(time.process_time() - began - engine.away)
        calls = engine.calls
        if len(rows["client"]) != clients:
            raise RuntimeError(f"{len(rows['client'])} of {clients} clients came back")
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = kilobytes / (1024 if sys.platform == "linux" else 1024**2)
    return {
        "clients": clients,
        "workers": workers,
        "calls": calls,
        "seconds": min(seconds),
        "peak_mb": peak,
    }


def answering(clients: int, workers: int, parameters: int) -> Any:
    """Return an engine whose workers answer at once, started with clients of unlike sizes."""
    from simulation.config.experiment import parse
    from simulation.datasets.dataset import Dataset
    from simulation.engines.calls import Train
    from simulation.engines.client_ledger import ClientLedger
    from simulation.engines.cohort import clients_of
    from simulation.engines.engine import Engine
    from simulation.engines.policy import POLICY
    from simulation.population.partition import AnyPartition, Partition
    from simulation.worker.chunk import Part
    from simulation.worker.setup import Setup
    from strategies import catalog
    from strategies.updates import Update

    class Answering(Engine):
        """Calls are answered when their results are asked for, which ``away`` counts the time of.

        A value that stays with a worker is stood for by its ticket, which is its call.
        """

        away, calls = 0.0, 0

        @property
        def workers(self) -> int:
            return workers

        def min_cost(self, total: float) -> float:
            """As the engine with Ray does it, for workers that train 1,000 examples a second."""
            piece = max(POLICY.unit_seconds, POLICY.driver_seconds * workers)
            return min(1000.0 * piece, total / (workers * POLICY.units_each))

        def seconds(self, total: float) -> float:
            return total / (1000.0 * workers)

        def start(self, setup: Setup, data: Dataset, partition: AnyPartition) -> None:
            self.setup, self.data, self.partition = setup, data, partition
            self.ledger = ClientLedger(None, lambda ticket: None)

        def share(self, value: Any) -> Any:
            return value

        def submit(
            self, call: Any, done: Callable[[], None] | None = None, attempts: int | None = None
        ) -> Any:
            self.calls += 1
            return call

        def result(self, ticket: Any, timeout: float | None = None) -> Any:
            began = time.process_time()
            ids = np.asarray(self.below(ticket))
            assert self.setup.reducer is not None
            sizes = self.partition.train_sizes[ids]
            update = Update(int(ids[0]), int(sizes.sum()), np.zeros(parameters, np.float32))
            columns = {"client": ids, "examples": sizes, "loss": np.ones(len(ids))}
            part = Part(self.setup.reducer.fold(None, update), columns)
            self.away += time.process_time() - began
            return part

        def below(self, call: Any) -> list[int]:
            """Return the clients that a call of training or merging is about."""
            if isinstance(call, Train):
                return clients_of(call.node)
            return [client for child in call.inputs for client in self.below(child)]

        def values_of(self, tickets: Sequence[Any]) -> list[Any]:
            return list(tickets)

        def close(self) -> None:
            pass

    sizes = draw(clients, 1.0).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    x, y = np.zeros((1, 1), np.uint8), np.zeros(1, np.int64)
    data = Dataset("asleep", x, y, x, y, classes=1, scale=1.0, source="made here")
    setup = Setup(parse({"clients": clients}), reducer=catalog.build("fedavg").reducer)
    engine = Answering()
    rows = np.zeros(int(offsets[-1]), np.int32)
    engine.start(setup, data, Partition(rows, offsets, sizes))
    return engine


if __name__ == "__main__":
    main()
