"""CPU seconds of a message of a user's Flower app: as Flower answers it, and as our workers do.

The app is that of :mod:`benchmarks.apps`. A process answers messages of clients one after the
other with one thread; CPU time is the measure, which other programs on the machine hardly change.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import common
from benchmarks.apps import APP, ENVIRONMENT, write
from benchmarks.common import ROOT, Report, say

WARM = 2
"""Messages of each kind that are not counted: a twin is made at the second."""

KINDS = ("train", "evaluate")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


def main() -> None:
    """Measure, print, and write ``results/messages``."""
    parser = common.parser(__doc__, repeats=1)
    parser.add_argument("--messages", type=int, default=10, help="of each kind")
    parser.add_argument("--answer", choices=("flower", "sunflower"), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.answer:
        print(json.dumps(answer(given.answer, given.data, given.messages)))
        return
    report, rows = Report("messages", "A message of a user's Flower app", given.small), []
    with tempfile.TemporaryDirectory() as folder:
        for small, images in ((True, 60), (False, 600)):
            data = Path(folder) / f"{images}.npz"
            write(data, small)
            found: dict[str, Any] = {}
            for who in ("flower", "sunflower"):
                say(f"{who}, {images} images a client")
                command = common.python("benchmarks.messages", "--answer", who, "--data", data)
                command += ["--messages", str(given.messages)]
                env = {**os.environ, **ENVIRONMENT, **ONE_THREAD}
                ran = subprocess.run(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, check=True)
                found[who] = json.loads(ran.stdout.splitlines()[-1])
            report.data[f"{images} images"] = found
            for kind in KINDS:
                theirs, ours = (median(found[who][kind]) for who in ("flower", "sunflower"))
                rows.append(
                    [
                        f"{kind}, {images} images",
                        f"{theirs:.2f}",
                        f"{ours:.2f}",
                        f"{theirs / ours:.1f}",
                    ]
                )
    report.text(
        "CPU seconds of one message, median; a client holds 80% of its images for training."
    )
    report.table(["message", "Flower", "Sunflower", "ratio"], rows)
    report.show()


def answer(who: str, data: Path, count: int) -> dict[str, list[float]]:
    """Answer messages of the first clients of 100; return the CPU seconds of each."""
    sys.path.insert(0, str(APP))
    from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    config = {"data": str(data), "learning-rate": 0.001, "local-epochs": 1, "batch-size": 32}
    if who == "sunflower":
        from simulation.config.app import AppRun
        from simulation.flower.app import AppExecutor, AppSetup

        setup = AppSetup(AppRun(app=APP), str(APP), "tfexample.client_app:app", config)
        AppExecutor(setup, None, range(100))
    from tfexample.client_app import app
    from tfexample.task import load_model

    arrays = ArrayRecord(load_model(0.001).get_weights())
    seconds: dict[str, list[float]] = {}
    for kind in KINDS:
        for client in range(count + WARM):
            content = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": 1})})
            numbers = {"partition-id": client, "num-partitions": 100}
            began = time.process_time()
            app(Message(content, client, kind), Context(1, client, numbers, RecordDict(), config))
            seconds.setdefault(kind, []).append(time.process_time() - began)
    return {kind: values[WARM:] for kind, values in seconds.items()}


if __name__ == "__main__":
    main()
