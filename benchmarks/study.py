"""What a study takes beyond its training: many small runs on one shared pool of workers.

The training work is the sum of the workers' busy time over all cores: no way of running the study
on these cores takes less. Beside it the same study with one run at a time on the pool.
"""

from __future__ import annotations

import json
from statistics import median
from typing import Any

from benchmarks import common
from benchmarks.common import Launch, Record, Report, python, say
from benchmarks.contestants import CORES

TARGET = 1.15
"""Time of a study over its training work, at most."""


def study(runs: int, rounds: int) -> dict[str, Any]:
    """Return a study of small runs: three strategies and as many seeds as it takes."""
    return {
        "strategies": ["fedavg", "fedprox", "fedadam"],
        "seeds": list(range(runs // 3)),
        "experiment": {
            "dataset": "fashion-mnist-mini",
            "model": "cnn",
            "clients": 50,
            "cohort": 10,
            "rounds": rounds,
            "partition": {"alpha": 0.5},
            "resources": {"workers": CORES},
        },
    }


def main() -> None:
    """Measure, print, and write ``results/study``."""
    parser = common.parser(__doc__, repeats=1)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--at-once", type=int, default=None, help="runs at a time; None: as found")
    parser.add_argument("--shared-only", action="store_true", help="leave one at a time out")
    given = parser.parse_args()
    if given.small:
        given.runs, given.rounds = 6, 5
    report = Report("study", "A study on one pool", given.small)
    wanted = study(given.runs, given.rounds)
    shared, single = [], []
    for _ in range(given.repeats):
        say(f"{given.runs} runs, several at once")
        shared.append(measure(wanted, given.at_once))
        if not given.shared_only:
            say(f"{given.runs} runs, one at a time")
            single.append(measure(wanted, 1))
    if {tuple(one["weights"]) for one in shared + single} != {tuple(shared[0]["weights"])}:
        raise SystemExit("the runs give other weights when they share the pool")
    report.data |= {"shared": shared, "single": single, "study": wanted}
    report.text(
        f"{given.runs} runs of {given.rounds} rounds, {CORES} cores: the CNN on "
        "fashion-mnist-mini, 10 of 50 clients a round."
    )
    rows = []
    for name, found in (("several at once", shared), ("one at a time", single)):
        if not found:
            continue
        rows.append(
            [
                name,
                f"{median(one['work'] for one in found):.1f}",
                f"{median(one['seconds'] for one in found):.1f}",
                f"{median(one['start'] for one in found):.1f}",
                f"{median(one['ratio'] for one in found):.3f}",
            ]
        )
    header = ("", "training work, s", "whole command, s", "of it until the first round", "ratio")
    report.table(header, rows)
    ratio = median(one["ratio"] for one in shared)
    report.table(
        ("", "at most", "measured", "met"),
        [["time over training work", TARGET, f"{ratio:.3f}", common.verdict(ratio <= TARGET)]],
    )
    report.text(
        "Training work: seconds that workers were busy, over cores. The whole command counts: "
        "Python, Ray and TensorFlow start, graphs are compiled, results are written."
    )
    report.show()


def measure(wanted: dict[str, Any], at_once: int | None) -> Record:
    """Run the study; return its seconds, its training work and their ratio."""
    options = () if at_once is None else ("--at-once", at_once)
    command = python("benchmarks.peers.sunflower_study", json.dumps(wanted), *options)
    outcome = common.run(Launch([command]))
    if outcome.error or not outcome.of("end"):
        raise SystemExit(f"the study failed: {outcome.error or 'no end within its limit'}")
    (end,) = outcome.of("end")
    work = end["busy"] / CORES
    return {
        "seconds": end["at"],
        "start": outcome.of("begin")[0]["at"],
        "work": work,
        "ratio": end["at"] / work,
        "weights": end["weights"],
    }


if __name__ == "__main__":
    main()
