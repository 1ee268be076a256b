"""The peers of the throughput benchmark: how each is started, and how often and how long."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import Launch, python
from benchmarks.environment import pfl_python
from benchmarks.work import Shape, settings

LIMIT = 600.0
"""Seconds that a slow peer gets; what it has done by then is reported as a bound."""

MEDIUM = 1_000
"""From so many clients on, stock Flower is slow."""

SINGLE = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
}
"""One thread for each of several processes, as every process of Sunflower has."""


@dataclass(frozen=True)
class Peer:
    """A peer of the benchmark.

    Args:
        title: its name in tables and figures.
        launch: returns how to start it, given the shape, the folder with the data, a file for
            the clients' notes, and the number of rounds.
        rounds: how many rounds a run has, given the shape; the first one is the warm-up.
        repeats: how often it runs at most, given the shape.
        warm: whether its first round counts already, because it warms up before.
        shaped: whether the shape matters to it.
    """

    title: str
    launch: Callable[[Shape, Path, Path, int], Launch]
    rounds: Callable[[Shape], int]
    repeats: Callable[[Shape], int] = lambda shape: 1_000
    warm: bool = False
    shaped: bool = True


def _sunflower(shape: Shape, data: Path, notes: Path, rounds: int) -> Launch:
    experiment = json.dumps(settings(shape, rounds))
    return Launch([python("benchmarks.peers.sunflower", experiment)])


def _bound(shape: Shape, data: Path, notes: Path, rounds: int) -> Launch:
    return Launch([python("benchmarks.peers.bound", data, "--passes", rounds)])


def _fit(shape: Shape, data: Path, notes: Path, rounds: int) -> Launch:
    return Launch([python("benchmarks.peers.keras_fit", data, "--epochs", rounds)])


def _flower(kind: str, *more: str) -> Callable[[Shape, Path, Path, int], Launch]:
    def launch(shape: Shape, data: Path, notes: Path, rounds: int) -> Launch:
        options = ("--data", data, "--progress", notes, "--rounds", rounds, *more)
        return Launch([python("benchmarks.peers.flower", kind, *options)], limit=LIMIT)

    return launch


def _pfl(processes: int) -> Callable[[Shape, Path, Path, int], Launch]:
    def launch(shape: Shape, data: Path, notes: Path, rounds: int) -> Launch:
        options = (data, "--rounds", rounds)
        command = python("benchmarks.peers.pfl_research", *options, executable=pfl_python())
        if processes == 1:
            return Launch([command], limit=LIMIT)
        addresses = ",".join(f"localhost:{port}" for port in free_ports(processes))
        environments = [
            {**SINGLE, "PFL_WORKER_ADDRESSES": addresses, "PFL_WORKER_RANK": str(rank)}
            for rank in range(processes)
        ]
        return Launch([command] * processes, environments, LIMIT)

    return launch


def free_ports(count: int) -> list[int]:
    """Return some ports on which nobody listens."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _few(shape: Shape) -> int:
    return 5 if shape.clients < 10_000 else 4


CORES = len(os.sched_getaffinity(0))

PEERS = {
    "bound": Peer("the bound", _bound, lambda shape: 3, warm=True),
    "sunflower": Peer("Sunflower", _sunflower, _few),
    "keras": Peer("Keras fit, all cores", _fit, lambda shape: 3, shaped=False),
    f"pfl-{CORES}": Peer(f"pfl-research, {CORES} processes", _pfl(CORES), lambda shape: 3),
    "pfl-1": Peer("pfl-research, 1 process", _pfl(1), lambda shape: 3),
    "cached": Peer(
        "Flower, model cached by hand",
        _flower("cached"),
        lambda shape: 3 if shape.clients < MEDIUM else 2,
        lambda shape: 1_000 if shape.clients < MEDIUM else 1,
    ),
    "quickstart": Peer(
        "Flower, quickstart client",
        _flower("quickstart", "--untuned"),
        lambda shape: 2,
        lambda shape: 2 if shape.clients < MEDIUM else 0,
    ),
    "tuned": Peer(
        "Flower, quickstart client, 1 CPU and thread each",
        _flower("quickstart"),
        lambda shape: 2,
        lambda shape: 1 if shape.clients < MEDIUM else 0,
    ),
}
"""The peers by key, in the order in which they alternate."""
