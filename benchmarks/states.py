"""SCAFFOLD with very many clients that keep state: what memory and disk a round needs.

Every client takes part and keeps a vector as long as the model: 10,000 x 225,034 x 4 bytes = 9 GB.
While Sunflower runs, its processes are looked at every second.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks import common, work
from benchmarks.common import Launch, Report, python, say
from benchmarks.work import Shape

DRIVER = 1.5
"""GB that the driver may take."""

PAUSE = 1.0
GB = 1e9


class Watch:
    """The most that a family of processes and a folder took.

    Args:
        folder: where the run is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.most: dict[str, float] = dict.fromkeys(
            ("driver", "worker", "all", "shared", "disk"), 0
        )
        self.least_free = float(psutil.virtual_memory().available)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        shared = psutil.disk_usage("/dev/shm").used
        while not self._over.wait(PAUSE):
            found = {"driver": 0.0, "worker": 0.0, "all": 0.0}
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    memory, line = process.memory_info(), " ".join(process.cmdline())
                    # Shared pages are the object store's, which is counted once, below.
                    own = memory.rss - memory.shared
                    found["all"] += own
                    if "benchmarks.peers" in line and not line.startswith("ray::"):
                        found["driver"] = max(found["driver"], memory.rss)
                    if line.startswith(("ray::Worker", "ray::round")):
                        found["worker"] = max(found["worker"], own)
            found["shared"] = psutil.disk_usage("/dev/shm").used - shared
            found["disk"] = size(self.folder)
            self.most = {name: max(self.most[name], value) for name, value in found.items()}
            self.least_free = min(self.least_free, float(psutil.virtual_memory().available))


def size(folder: Path) -> float:
    """Return the bytes of all files below a folder."""
    total = 0
    for inner, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # removed meanwhile
                total += os.stat(Path(inner) / name).st_size
    return float(total)


def main() -> None:
    """Measure, print, and write ``results/states``."""
    parser = common.parser(__doc__, repeats=1)
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=6, help="of each client")
    parser.add_argument("--model", default="cnn", help="cnn has 225,034 parameters")
    parser.add_argument("--rounds", type=int, default=2, help="from the second on, states are read")
    parser.add_argument("--strategy", default="scaffold")
    given = parser.parse_args()
    if given.small:
        given.clients, given.model = 200, "logistic"
    report = Report("states", "Clients that keep state", given.small)
    experiment = work.settings(
        Shape(given.clients, given.images),
        given.rounds,
        strategy={"name": given.strategy},
        model=given.model,
        dataset="fashion-mnist-mini" if given.small else "fashion-mnist",
    )
    say(f"{given.clients:,} clients, {given.rounds} rounds")
    with tempfile.TemporaryDirectory() as folder, Watch(Path(folder)) as watch:
        command = python("benchmarks.peers.sunflower", json.dumps(experiment))
        outcome = common.run(Launch([command], [{"TMPDIR": folder}], limit=3600))
    if outcome.error or not outcome.of("end"):
        raise SystemExit(f"Sunflower failed: {outcome.error or 'no end'}")
    parameters = outcome.of("end")[0]["parameters"]
    rounds = [line for line in outcome.of("round") if line["round"] > 0]
    states = given.clients * parameters * 4
    report.data |= {"most": watch.most, "least_free": watch.least_free, "rounds": rounds}
    report.text(
        f"{given.strategy}, {given.clients:,} clients of {parameters:,} parameters, all of them in "
        f"every round: {states / GB:.2f} GB of client state. A checkpoint after every round."
    )
    report.table(
        ("round", "seconds", "clients"),
        [[line["round"], f"{line['seconds']:.1f}", f"{line['clients']:,}"] for line in rounds],
    )
    report.table(
        ("the most at any moment", "GB"),
        [
            ["driver", f"{watch.most['driver'] / GB:.2f}"],
            ["a worker", f"{watch.most['worker'] / GB:.2f}"],
            ["all processes, Ray's included", f"{watch.most['all'] / GB:.2f}"],
            ["Ray's object store", f"{watch.most['shared'] / GB:.2f}"],
            ["run folder on the disk", f"{watch.most['disk'] / GB:.2f}"],
        ],
    )
    least = watch.least_free / GB
    report.text(f"Memory of the machine that was free, cache counted as free: {least:.1f} GB.")
    met = common.verdict(watch.most["driver"] <= DRIVER * GB)
    report.table(
        ("", "at most", "measured", "met"),
        [["driver", f"{DRIVER} GB", f"{watch.most['driver'] / GB:.2f} GB", met]],
    )
    report.show()


if __name__ == "__main__":
    main()
