"""What ``sunflower report`` takes on a large study: seconds and memory, on made-up run folders.

The folders are SYNTHETIC: files of the run format with seeded curves instead of training, since
what is measured is reading, drawing and writing. Nothing here says anything about a strategy.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import common
from benchmarks.common import Report, say
from simulation.records.files import to_json
from simulation.rounds.loop import EMPTY_LINE

SECONDS, GIGABYTES, MEGABYTES = 30.0, 1.5, 6.0
"""What a report on 200 runs of 500 rounds may take: time, memory, and its page."""

ALPHAS = (0.03, 0.1, 0.3, 1.0, 10.0)
COHORT, CLIENTS, CLASSES, PARAMETERS = 10, 100, 10, 225_034


def write_runs(root: Path, runs: int, rounds: int) -> None:
    """Write synthetic run folders: 4 made-up strategies x 5 alphas x as many seeds as it takes.

    Args:
        root: where to; a folder for each run.
        runs: how many.
        rounds: rounds of each.
    """
    for i in range(runs):
        strategy, alpha, seed = i % 4, ALPHAS[i // 4 % len(ALPHAS)], i // (4 * len(ALPHAS))
        _write_run(root / f"synthetic-{i:03d}", f"Made-up {strategy}", alpha, seed, rounds)


def _write_run(folder: Path, label: str, alpha: float, seed: int, rounds: int) -> None:
    rng = np.random.default_rng([seed, *label.encode(), int(100 * alpha)])
    folder.mkdir(parents=True)
    experiment = {
        "seed": seed,
        "rounds": rounds,
        "dataset": "synthetic benchmark data",
        "model": "none",
        "clients": CLIENTS,
        "cohort": COHORT,
        "partition": {"kind": "dirichlet", "alpha": alpha},
        "training": {"local_epochs": 1, "batch_size": 32, "learning_rate": 0.1},
        "strategy": {"name": label},
        "mode": "federated",
    }
    config = {
        "format": 1,
        "label": label,
        "hash": folder.name,
        "experiment": experiment,
        "parameters": PARAMETERS,
        "workers": 2,
    }
    (folder / "config.json").write_text(json.dumps(config))
    number = np.arange(rounds + 1)
    level = 0.8 - 0.1 / (1 + 10 * alpha) + 0.01 * (len(label) % 3)
    accuracy = level - (level - 0.1) * np.exp(-number / 50) + rng.normal(0, 0.01, rounds + 1)
    lines = [_line(r, float(a), rng) for r, a in zip(number.tolist(), accuracy, strict=True)]
    (folder / "rounds.jsonl").write_text("".join(to_json(line) + "\n" for line in lines))
    summary = {"status": "complete", "rounds": rounds, "final": lines[-1]}
    (folder / "summary.json").write_text(to_json(summary))
    rows = COHORT * rounds
    clients = {
        "round": np.repeat(number[1:], COHORT).astype(np.int32),
        "client": rng.integers(CLIENTS, size=rows),
        "examples": np.full(rows, 60),
        **{name: rng.random(rows) for name in ("loss", "accuracy")},
        **{name: rng.random(rows) for name in ("train_loss", "train_accuracy")},
    }
    pq.write_table(pa.table(clients), folder / "clients.parquet")
    held = {
        "client": np.repeat(np.arange(CLIENTS), CLASSES),
        "label": np.tile(np.arange(CLASSES), CLIENTS),
        "examples": rng.integers(1, 50, CLIENTS * CLASSES),
    }
    pq.write_table(pa.table(held), folder / "labels.parquet")


def _line(round: int, accuracy: float, rng: np.random.Generator) -> dict[str, Any]:
    line: dict[str, Any] = {**EMPTY_LINE, "round": round}
    line |= {"server_loss": 1 - accuracy, "server_accuracy": accuracy}
    line |= {"client_loss": None, "client_accuracy": None}
    if round:
        sent = 4 * PARAMETERS * COHORT
        line |= {"seconds": float(1.5 + rng.exponential(0.1)), "clients": COHORT, "examples": 600}
        line |= {"train_loss": 1.1 - accuracy, "train_accuracy": accuracy}
        line |= {"bytes_up": sent, "bytes_down": sent}
        line |= {"update_norm": 2 / round**0.5, "drift": 1 / round**0.5}
        line |= {"client_loss": 1.05 - accuracy, "client_accuracy": accuracy}
    return line


def measure(runs: Path, out: Path) -> dict[str, float]:
    """Run ``sunflower report`` in a process of its own; return what it took.

    Returns:
        ``seconds`` by the clock, ``processor`` seconds, ``memory`` [bytes], its
        largest with that of the processes beside it, and the size of the ``page`` [bytes].

    Raises:
        RuntimeError: if it fails.
    """
    command = [
        sys.executable,
        "-m",
        "simulation.cli",
        "report",
        str(runs),
        "--out",
        str(out),
    ]
    started, before = time.perf_counter(), _processor()
    most = 0
    with tempfile.TemporaryFile("w+") as errors:
        process = psutil.Popen(command, cwd=common.ROOT, stdout=subprocess.DEVNULL, stderr=errors)
        while process.poll() is None:
            most = max(most, _memory(process))
            time.sleep(0.05)
        errors.seek(0)
        if process.returncode:
            raise RuntimeError(f"the report failed: {errors.read()}")
    return {
        "seconds": time.perf_counter() - started,
        "processor": _processor() - before,
        "memory": float(most),
        "page": float((out / "report.html").stat().st_size),
    }


def _processor() -> float:
    """Return the processor seconds of all processes that this one has started and seen end."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _memory(process: psutil.Process) -> int:
    """Return the resident memory of a process and of those that it has started [bytes]."""
    total = 0
    with suppress(psutil.Error):
        for one in [process, *process.children(recursive=True)]:
            total += one.memory_info().rss
    return total


def main() -> None:
    """Measure, print, and write ``results/report``."""
    parser = common.parser(__doc__, repeats=3)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=500)
    given = parser.parse_args()
    if given.small:
        given.runs, given.rounds, given.repeats = 40, 100, 1
    report = Report("report", "A report on a large study", given.small)
    with tempfile.TemporaryDirectory() as folder:
        say(f"writing {given.runs} synthetic runs of {given.rounds} rounds")
        write_runs(Path(folder) / "runs", given.runs, given.rounds)
        taken = []
        for repeat in range(given.repeats):
            say(f"sunflower report, {repeat + 1} of {given.repeats}")
            taken.append(measure(Path(folder) / "runs", Path(folder) / f"out{repeat}"))
        files = sorted((Path(folder) / "out0").rglob("*.*"))
    seconds, memory = ([t[name] for t in taken] for name in ("seconds", "memory"))
    gigabytes = [m / 1e9 for m in memory]
    megabytes = [t["page"] / 1e6 for t in taken]
    report.data |= {"runs": given.runs, "rounds": given.rounds, "taken": taken}
    report.text(
        f"{given.runs} synthetic runs of {given.rounds} rounds, {COHORT} of {CLIENTS} clients a "
        f"round; {len(files)} files written."
    )
    report.table(
        ("", "at most", "median", "range", "met"),
        [
            _row("seconds", SECONDS, seconds, ".1f"),
            _row("memory (GB)", GIGABYTES, gigabytes, ".2f"),
            _row("page (MB)", MEGABYTES, megabytes, ".2f"),
        ],
    )
    report.show()


def _row(name: str, most: float, values: list[float], form: str) -> list[object]:
    met = common.verdict(median(values) <= most)
    return [name, most, f"{median(values):{form}}", common.spread(values, form), met]


if __name__ == "__main__":
    main()
