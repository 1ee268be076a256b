"""Seconds a round of a user's Flower app, unmodified: ``flwr run`` and ``sunflower run --app``.

The app is Flower's TensorFlow quickstart, written as its users do (``benchmarks/quickstart``);
all clients train and evaluate in every round. Flower runs it as it does by default (two CPUs a
client), and with one CPU a client, which uses all cores of a small machine. The clock of all is
the log of Flower's own strategy.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import common
from benchmarks.common import ROOT, Report, say, verdict
from examples.deployment.__main__ import environment, free_ports, process, program, wait_for

APP = ROOT / "benchmarks" / "quickstart"
FASTER = 5.0
"""How many times faster a round should be than with ``flwr run``."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
    "PYTHONPATH": str(ROOT),
}


def main() -> None:
    """Measure, print, and write ``results/apps``."""
    parser = common.parser(__doc__, repeats=1)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3, help="of sunflower run --app")
    parser.add_argument("--flower-rounds", type=int, default=1, help="of flwr run: minutes each")
    given = parser.parse_args()
    if given.small:
        given.clients, given.rounds = 10, 2
    report = Report("apps", "A user's Flower app", given.small)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.npz"
        write(data, small=given.small)
        seconds: dict[str, list[float]] = {}
        for _ in range(given.repeats):
            for title, cpus in (("flwr run", 2), ("flwr run, one CPU a client", 1)):
                say(f"{title}, {given.clients} clients")
                found = flower(Path(folder), data, given.clients, given.flower_rounds, cpus)
                seconds.setdefault(title, []).extend(found)
            for title, reuse in (("sunflower run --app, reuse=false", "false"), (OURS, "true")):
                say(f"{title}, {given.clients} clients")
                found = sunflower(Path(folder), data, given.clients, given.rounds, reuse)
                seconds.setdefault(title, []).extend(found)
    present(report, given.clients, seconds)


OURS = "sunflower run --app"


def write(file: Path, small: bool) -> None:
    """Write Fashion-MNIST (or the little one) as the app's data file."""
    from simulation.datasets import registry

    data = registry.load("fashion-mnist-mini" if small else "fashion-mnist")
    x = np.asarray(data.x_train)
    x = x if x.dtype == np.uint8 else np.round(x * 255).astype(np.uint8)
    np.savez(file, x=x.reshape(len(x), 28, 28), y=np.asarray(data.y_train))


def flower(folder: Path, data: Path, clients: int, rounds: int, cpus: int) -> list[float]:
    """Run the app with ``flwr run`` on a local SuperLink; return the seconds of its rounds."""
    (port,) = free_ports(1)
    home = Path(tempfile.mkdtemp(dir=folder))
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{port}"\n'
        "insecure = true\n"
    )
    env = {**environment(home), **ENVIRONMENT}
    link = [program("flower-superlink"), "--insecure", "--simulation"]
    link += ["--host", "127.0.0.1", "--port", str(port)]
    command = [program("flwr"), "run", str(APP), "--stream"]
    command += ["--run-config", f'data="{data}" num-server-rounds={rounds}']
    sizes = f"num-supernodes={clients} client-resources-num-cpus={cpus}"
    command += ["--federation-config", sizes]
    log = home / "superlink.log"
    with process(log, *link, env=env) as superlink:
        wait_for(port, superlink, log)
        marks = []
        with subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as ran:
            assert ran.stdout is not None
            text = ""
            for line in ran.stdout:
                text += line
                if is_mark(line):
                    marks.append(time.time())
    if len(marks) != rounds + 1:
        raise RuntimeError(f"flwr run did not end its rounds:\n{text[-3000:]}")
    return np.diff(marks).tolist()


def sunflower(folder: Path, data: Path, clients: int, rounds: int, reuse: str) -> list[float]:
    """Run the app with ``sunflower run --app``; return the seconds of its rounds."""
    out = Path(tempfile.mkdtemp(dir=folder)) / "run"
    command = [
        sys.executable,
        "-m",
        "simulation.cli",
        "run",
        "--app",
        str(APP),
        "--out",
        str(out),
    ]
    command += ["--clients", str(clients), "--set", f"reuse={reuse}"]
    command += ["--run-config", f'data="{data}" num-server-rounds={rounds}']
    subprocess.run(command, env={**os.environ, **ENVIRONMENT}, check=True, cwd=folder)
    lines = (out / "run.log").read_text().splitlines()
    form = "%Y-%m-%d %H:%M:%S,%f"
    marks = [
        datetime.strptime(" ".join(x.split()[:2]), form).timestamp() for x in lines if is_mark(x)
    ]
    return np.diff(marks).tolist()


def is_mark(line: str) -> bool:
    """Tell whether a log line says that a round begins, or that the last one has ended."""
    return "[ROUND " in line or "Strategy execution finished" in line


def present(report: Report, clients: int, seconds: dict[str, Sequence[float]]) -> None:
    """Write the table and the verdict."""
    report.data["seconds"] = {title: list(values) for title, values in seconds.items()}
    ours = median(seconds[OURS])
    report.text(f"{clients} clients, all of which train and evaluate in a round.")
    rows = [
        [title, ", ".join(f"{v:.1f}" for v in values), f"{median(values) / ours:.1f}"]
        for title, values in seconds.items()
    ]
    report.table(["", "seconds a round", "times ours (median)"], rows)
    for title in [t for t in seconds if t.startswith("flwr")]:
        times = median(seconds[title]) / ours
        report.text(
            f"At least {FASTER:g} times faster than `{title}`: {verdict(times >= FASTER)} "
            f"({times:.1f})."
        )
    report.show()


if __name__ == "__main__":
    main()
