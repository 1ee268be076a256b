"""From the command to the start of round 1, and to the first client's result, with 100 clients.

Sunflower is started by its command, stock Flower by a script. The first run of each only fills
the caches (byte code, the files of the data) and is not counted.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks import common, work
from benchmarks.common import Launch, Report, python, say
from benchmarks.work import Shape

TARGET = 10.0
"""Seconds to the start of round 1, at most."""

BEGUN = re.compile(r"\d of [\d,]+ clients")
"""What the command prints when round 1 begins: how many of how many clients a round takes."""


def main() -> None:
    """Measure, print, and write ``results/startup``."""
    parser = common.parser(__doc__, repeats=5)
    parser.add_argument("--shape", default="100x600", help="CLIENTSxIMAGES")
    given = parser.parse_args()
    if given.small:
        given.shape, given.repeats = "20x300", 1
    shape = Shape.parse(given.shape)
    report = Report("startup", "Start-up", given.small)
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        work.write(shape, Path(folder) / "data")
        for repeat in range(given.repeats + 1):
            say(f"run {repeat} of {given.repeats}")
            ours.append(sunflower(shape))
            theirs.append(flower(Path(folder)))
    stages = list(ours[-1])
    report.data |= {"sunflower": ours, "flower": theirs}
    report.text(
        f"{shape.clients} clients; medians and ranges of {given.repeats} runs after a first one "
        "that fills the caches. Seconds from the command."
    )
    rows = [
        [f"Sunflower: {stage}", *_columns([run[stage] for run in ours[1:]])] for stage in stages
    ]
    rows += [
        [f"stock Flower: {stage}", *_columns([run[stage] for run in theirs[1:]])]
        for stage in theirs[-1]
    ]
    report.table(("", "s", "range"), rows)
    middle = median(run["round 1 begins"] for run in ours[1:])
    met = common.verdict(middle <= TARGET)
    report.table(
        ("", "at most", "measured", "met"),
        [["start of round 1", f"{TARGET:.0f} s", f"{middle:.1f} s", met]],
    )
    report.show()


def _columns(values: list[float]) -> list[str]:
    return [f"{median(values):.1f}", common.spread(values, ".1f")]


def sunflower(shape: Shape) -> dict[str, float]:
    """Run the command for one round; return when its stages began."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "--dataset": work.settings(shape, 1)["dataset"],
            "--clients": shape.clients,
            "--rounds": 1,
            "--learning-rate": work.LEARNING_RATE,
            "--out": Path(folder) / "run",
        }
        command = str(Path(sys.executable).with_name("sunflower"))
        line = [command, "run", *(str(part) for pair in options.items() for part in pair)]
        started = time.perf_counter()
        process = subprocess.Popen(
            line, stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=folder
        )
        assert process.stdout is not None
        try:
            for text in process.stdout:
                begun = BEGUN.search(text)
                name = "round 1 begins" if begun else text.split(" fashion")[0].strip()
                found.setdefault(name, time.perf_counter() - started)
                if begun:
                    break
            process.stdout.read()
            if process.wait() != 0 or "round 1 begins" not in found:
                raise SystemExit(f"{' '.join(line)} exited with {process.returncode}")
        finally:
            common.stop(process)
    return found


def flower(folder: Path) -> dict[str, float]:
    """Run stock Flower for one round; return when it began, and when its first client did."""
    notes = folder / "notes"
    notes.unlink(missing_ok=True)
    options = ("--data", folder / "data", "--progress", notes, "--rounds", 1)
    command = python("benchmarks.peers.flower", "cached", *options)
    wall = time.time()
    outcome = common.run(Launch([command], limit=600))
    if outcome.error or not outcome.of("begin"):
        raise SystemExit(f"stock Flower failed: {outcome.error}")
    first = min(float(line.split()[1]) for line in notes.read_text().splitlines())
    return {
        "round 1 begins": outcome.of("begin")[0]["at"],
        "first client begins": first - wall,
    }


if __name__ == "__main__":
    main()
