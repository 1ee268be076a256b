"""What the contestants of the GPU benchmark have in common: their command line, their clock."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import gpu_work
from benchmarks.gpu_work import Data, Workload

AT_ONCE = 20_000
"""Images of a round of who trains client after client: a part of the cohort tells the speed."""


def emit(event: str, **fields: Any) -> None:
    """Report to the benchmark that started this process: one line of JSON."""
    print(json.dumps({"event": event, "time": time.time(), **fields}), flush=True)


def run(
    text: str | None,
    libraries: Sequence[str],
    start: Callable[[], Callable[[Workload, Data, Rounds], None]],
    device: Callable[[], str],
) -> None:
    """Run a contestant on the workloads of its command line.

    A workload that fails is reported, and the next one begins.

    Args:
        text: its description.
        libraries: distributions whose versions are reported.
        start: imports what it needs and returns what runs a workload.
        device: names what it computes on, after ``start``.
    """
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("folder", type=Path, help="folder with a folder for each workload")
    parser.add_argument("workloads", help="names, by commas")
    parser.add_argument("--rounds", type=int, default=5, help="after the first, at most")
    parser.add_argument("--seconds", type=float, default=3.0, help="after the first, about")
    given = parser.parse_args()
    try:
        runs = start()
    except ImportError as error:
        emit("missing", why=str(error))
        return
    emit("ready", device=device(), versions={name: metadata.version(name) for name in libraries})
    for name in given.workloads.split(","):
        clock = Rounds(name, given.folder / name, given.rounds, given.seconds)
        try:
            runs(gpu_work.ALL[name], gpu_work.read(clock.folder), clock)
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            emit("failed", work=name, why=f"{type(error).__name__}: {lines[0]}"[:300])


class Rounds:
    """Times rounds: the first one, which compiles, and some more.

    Args:
        name: of the workload.
        folder: where its images are.
        rounds: after the first, at most.
        seconds: after which no further round begins.
    """

    def __init__(self, name: str, folder: Path, rounds: int, seconds: float) -> None:
        self.name, self.folder = name, folder
        self.rounds, self.seconds = rounds, seconds

    def tell(self, number: int, seconds: float, images: int, clients: int) -> None:
        """Report a round that was timed elsewhere; the first one has the number 1."""
        emit(
            "round",
            work=self.name,
            round=number,
            seconds=seconds,
            images=images,
            clients=clients,
        )

    def time(self, one_round: Callable[[], None], images: int, clients: int) -> None:
        """Run and report rounds; a round must have ended on the device when it returns."""
        begun = 0.0
        for number in range(1, self.rounds + 2):
            start = time.perf_counter()
            one_round()
            end = time.perf_counter()
            self.tell(number, end - start, images, clients)
            if number == 1:
                begun = end
            elif end - begun > self.seconds:
                return
