"""Runs on hosts of a test network, to which something happens in round 2."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from tests.hosts.network import PORT, Network

ROUNDS, LONG = 5, 9
"""Of most runs, and of those in which somebody has to come."""

LIMIT = 240.0
"""Seconds of a run, after which it hangs."""

LINKS: dict[str, dict[str, float]] = {
    "loss of 1%": {"loss": 0.01, "delay": 0.005},
    "loss of 5%": {"loss": 0.05, "delay": 0.005},
    "100 ms": {"delay": 0.1},
    "50 mbit, 100 ms": {"rate": 50e6, "delay": 0.1},
}
"""Links that are bad all the time; delays are those of one way."""


QUICK = {
    "RAY_grpc_client_keepalive_time_ms": "10000",
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
}
"""Ray gives a silent connection up after 15 s, and not after seven minutes."""

PATIENT = QUICK | {"RAY_health_check_failure_threshold": "15"}
"""Its head counts a silent host as dead after some 50 s, and not after 20."""


@dataclass
class Outcome:
    """How a run went.

    Args:
        status: its exit status; None where it hung.
        said: what it said on stderr and stdout.
        lines: when each round's line was there, in seconds since the fault (or the start).
        summary: the run folder's.
        ended: when it ended, as ``lines``.
        seconds: of each round, from the first, as the run says: a round's line may be there late,
            with that of the next one.
    """

    status: int | None
    said: str
    lines: list[float]
    summary: dict[str, Any] = field(default_factory=dict)
    ended: float = 0.0
    seconds: list[float] = field(default_factory=list)

    @property
    def weights(self) -> str | None:
        """The weights' SHA-256."""
        return self.summary.get("weights_sha256")

    @property
    def typical(self) -> float:
        """Seconds of a round, the first left out: their median."""
        return median(self.seconds[1:])

    @property
    def longest(self) -> float:
        """Seconds of the longest round after the first."""
        return max(self.seconds[1:])


WHOLE = """
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On
ray.init("auto", log_to_driver=False)
with_cpus = [n for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]
assert len(with_cpus) >= 2
node = ray.remote(lambda: ray.get_runtime_context().get_node_id())
ids = [n["NodeID"] for n in with_cpus]
found = [node.options(scheduling_strategy=On(i, soft=False)).remote() for i in ids]
assert ray.get(found, timeout=90) == ids
"""
"""Ends when each node with CPUs has done something."""


class HostCluster:
    """Ray on the hosts ``head``, ``desk``, ``one`` and ``two``; the driver sits at the desk.

    Args:
        net: the network.
        folder: for run folders.
        settings: environment variables that Ray reads as its nodes start.
    """

    def __init__(
        self, net: Network, folder: Path, settings: Mapping[str, str] | None = None
    ) -> None:
        self.net, self.folder, self.settings = net, folder, settings
        self._last: subprocess.Popen[Any] | None = None

    @property
    def address(self) -> str:
        """Where the head listens."""
        return f"{self.net['head'].address}:{PORT}"

    def start(self, names: tuple[str, ...] = ("desk", "one", "two"), head: str = "head") -> None:
        """Start Ray's nodes."""
        self.net[head].start_ray(cpus=0, settings=self.settings)
        self.net[head].wait_for_ray()
        for name in names:
            cpus = 0 if name == "desk" else 1
            self.net[name].start_ray(self.net[head], cpus, settings=self.settings)
        for name in names:
            self.net[name].wait_for_ray()

    def recover(self) -> None:
        """Wait until all connections that Ray keeps between nodes work again."""
        for host in self.net.hosts.values():
            host.mend()
        assert self.net["desk"].start(sys.executable, "-c", WHOLE).wait() == 0

    def run(
        self,
        name: str,
        fault: Callable[[], Any] | None = None,
        host: str = "desk",
        *more: str,
        rounds: int = ROUNDS,
        address: str = "auto",
        seen: Callable[[], Any] | None = None,
    ) -> Outcome:
        """Run the command on a host; let something happen when round 2 has begun.

        Args:
            name: of the run folder.
            fault: what happens.
            host: where the command runs.
            more: options of the command.
            rounds: how many.
            address: the cluster's.
            seen: called when a round's line is there.
        """
        process = self.start_run(name, host, *more, rounds=rounds, address=address)
        found = self._follow(process, self.folder / name / "rounds.jsonl", fault, seen)
        return self._told(name, found)

    def start_run(
        self, name: str, host: str = "desk", *more: str, rounds: int = ROUNDS, address: str = "auto"
    ) -> subprocess.Popen[Any]:
        """Start the command on a host; its arguments are those of :meth:`run`."""
        out = self.folder / name
        words = ["run", "--address", address, "--clients", "400", *more]
        words += [] if "--model" in more else ["--model", "mlp", "--local-epochs", "4"]
        words += ["--rounds", str(rounds), "--out", str(out)]
        with (self.folder / f"{name}.txt").open("w") as file:
            self._last = self.net[host].start(
                sys.executable, "-m", "simulation.cli", *words, stdout=file, stderr=file
            )
        return self._last

    def outcome(self, process: subprocess.Popen[Any], name: str) -> Outcome:
        """Wait for a command that was started, and return how it went."""
        return self._told(name, self._follow(process, self.folder / name / "rounds.jsonl"))

    def signal(self, number: int) -> None:
        """Send a signal to the command that was started last."""
        assert self._last is not None
        psutil.Process(self._last.pid).children()[0].send_signal(number)

    def _told(self, name: str, found: Outcome) -> Outcome:
        found.said = (self.folder / f"{name}.txt").read_text()
        summary = self.folder / name / "summary.json"
        if summary.exists():
            found.summary = json.loads(summary.read_text())
            records = map(json.loads, (summary.parent / "rounds.jsonl").read_text().splitlines())
            found.seconds = [record["seconds"] for record in records if record["round"] > 0]
        return found

    def _follow(
        self,
        process: subprocess.Popen[Any],
        lines: Path,
        fault: Callable[[], Any] | None = None,
        seen: Callable[[], Any] | None = None,
    ) -> Outcome:
        began = time.monotonic()
        happened, times = began, list[float]()
        while True:
            status, now = process.poll(), time.monotonic()
            count = len(lines.read_text().splitlines()) if lines.exists() else 0
            while len(times) < count:
                times.append(now)
                if seen is not None:
                    seen()
            if count >= 2 and fault is not None:  # Those of round 0 and 1: round 2 is under way.
                happened, fault = now, (fault(), None)[1]
            if status is not None or now - began > LIMIT:
                break
            time.sleep(0.05)
        if status is None:
            process.kill()
        return Outcome(status, "", [t - happened for t in times], ended=now - happened)
