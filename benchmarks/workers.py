"""Real workers, as many as a machine starts: seconds to the first round, of a round, and memory.

The machine's CPUs are shared by all workers, each of which gets a fraction of one. So rounds are
no faster with more of them: what is measured is what a worker costs. See ``benchmarks.scale`` for
pools of up to 1,000, whose workers are a double.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks import common
from benchmarks.common import Report, say

ROUNDS, CLIENTS, LIMIT = 10, 6_000, 900.0
"""Rounds of a run, clients of a round, and seconds after which it is stopped."""


def main() -> None:
    """Measure, print, and write ``results/workers``."""
    parser = common.parser(__doc__, repeats=1)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 8, 16, 32])
    parser.add_argument("--backend", choices=("tensorflow", "jax"), default="tensorflow")
    given = parser.parse_args()
    name = "workers" if given.backend == "tensorflow" else f"workers-{given.backend}"
    report = Report(name, "Real workers on one machine", given.small)
    found = [
        measure(n, given.backend) for n in (given.workers[:1] if given.small else given.workers)
    ]
    report.data["pools"] = found
    report.text(
        f"{CLIENTS:,} clients of an image in a round, logistic regression, {given.backend}; "
        f"{ROUNDS} rounds. The driver's seconds are of its processor, all threads, Ray's share of "
        "them included; workers' memory is their proportional set size, all together. The first "
        "round begins when one worker is ready: *all at work* is when each has trained clients."
    )
    header = (
        "workers", "first round done, s", "all at work, s", "a round, s",
        "driver, s a round", "driver, MB", "a worker, MB", "all of them, GB",
    )  # fmt: skip
    report.table(
        header,
        [
            [
                one["workers"], f"{one['first']:.1f}", f"{one['whole']:.1f}",
                f"{one['round']:.2f}", f"{one['driver']:.2f}", f"{one['driver_mb']:.0f}",
                f"{one['pool_mb'] / one['workers']:.0f}", f"{one['pool_mb'] / 1000:.1f}",
            ]
            for one in found
        ],
    )  # fmt: skip
    report.show()


def measure(workers: int, backend: str) -> dict[str, Any]:
    """Run with so many workers; return what that costs."""
    say(f"{workers} workers")
    cpus = len(os.sched_getaffinity(0)) / workers
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        options = {
            "--dataset": "fashion-mnist-mini", "--model": "logistic", "--rounds": ROUNDS,
            "--clients": CLIENTS, "--workers": workers, "--client-cpus": round(min(1, cpus), 4),
            "--set": f"resources.backend={backend}", "--out": out,
        }  # fmt: skip
        words = [str(part) for pair in options.items() for part in pair]
        # Nothing is evaluated before the end: a round is what its clients take.
        words += ["--set", "evaluation.every=100", "--set", "evaluation.clients=false"]
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "simulation.cli", "run", *words],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            found = _followed(process, out / "rounds.jsonl", began, workers)
        finally:
            common.stop(process)
        if process.returncode:
            assert process.stderr is not None
            raise SystemExit(f"the run failed: {process.stderr.read()[-2000:]}")
        return {"workers": workers, **found, "whole": _all_at_work(out, workers, began)}


def _followed(
    process: subprocess.Popen[str], lines: Path, began: float, workers: int
) -> dict[str, float]:
    """Return when round 1 was over, and what processor and memory the processes took."""
    driver = psutil.Process(process.pid)
    found = {"pool_mb": 0.0, "driver_mb": 0.0}
    spent: list[float] = []
    while process.poll() is None:
        if time.monotonic() - began > LIMIT:
            raise SystemExit(f"{workers} workers: no end after {LIMIT:g} s")
        count = len(lines.read_text().splitlines()) if lines.exists() else 0
        with suppress(psutil.NoSuchProcess):
            if count > 1:
                found.setdefault("first", time.monotonic() - began)
                times = driver.cpu_times()
                spent.append(times.user + times.system)
                found["driver_mb"] = max(found["driver_mb"], driver.memory_info().rss / 1e6)
                found["pool_mb"] = max(found["pool_mb"], _memory(driver))
        time.sleep(0.1)
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    seconds = [record["seconds"] for record in records if record["round"] > 1]
    return {**found, "round": median(seconds), "driver": (spent[-1] - spent[0]) / len(seconds)}


def _memory(driver: psutil.Process) -> float:
    """Return the megabytes of all workers: what they share counts once."""
    pool = 0.0
    for process in driver.children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            title = process.cmdline()[:1]
            if title and title[0].startswith("ray::") and "IDLE" not in title[0]:
                pool += process.memory_full_info().pss / 1e6
    return pool


def _all_at_work(out: Path, workers: int, began: float) -> float:
    """Return seconds until each worker has begun to train; not a number where some never did."""
    import pandas as pd

    rows = pd.read_parquet(out / "timeline.parquet")
    starts = rows[rows["kind"] == "train"].groupby("worker")["start"].min()
    offset = time.time() - time.monotonic()
    return float(starts.max() - offset - began) if len(starts) == workers else float("nan")


if __name__ == "__main__":
    main()
