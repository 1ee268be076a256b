"""A study in the same lanes of one program, beside the same study on a shared pool.

Runs that differ in seeds and learning rates, with small cohorts: the calls of many runs go to a
worker as one, which trains them together. On the shared pool each run has calls of its own, and a
program for each. Both ways take turns on the same cores.
"""

from __future__ import annotations

import json
from statistics import median
from typing import Any

from benchmarks import common
from benchmarks.common import Launch, Record, Report, python, say
from benchmarks.contestants import CORES

TARGET = 1.5
"""How many times as fast the study is, at least."""

RATES = (0.01, 0.02, 0.05, 0.1)
COHORT = 10

WAYS = {"in the same lanes": (), "on a shared pool": ("--apart",)}
"""How the study is carried out, with the options that say so."""


def study(seeds: int, rates: int, rounds: int, model: str) -> dict[str, Any]:
    """Return a study of so many seeds and learning rates."""
    return {
        "strategies": ["fedavg"],
        "seeds": list(range(seeds)),
        "sweep": {"training.learning_rate": list(RATES[:rates])},
        "experiment": {
            "dataset": "fashion-mnist-mini",
            "model": model,
            "clients": 50,
            "cohort": COHORT,
            "rounds": rounds,
            "partition": {"alpha": 0.5},
            "evaluation": {"every": 10},
            "resources": {"workers": CORES, "backend": "jax"},
        },
    }


def main() -> None:
    """Measure, print, and write ``results/study-lanes``."""
    parser = common.parser(__doc__, repeats=2)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--rates", type=int, default=len(RATES))
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--model", default="logistic")
    given = parser.parse_args()
    if given.small:
        given.seeds, given.rates, given.rounds, given.repeats = 3, 2, 5, 1
    report = Report("study-lanes", "A study in the same lanes", given.small)
    wanted = study(given.seeds, given.rates, given.rounds, given.model)
    found: dict[str, list[Record]] = {way: [] for way in WAYS}
    for _ in range(given.repeats):
        for way, options in WAYS.items():
            say(f"{given.seeds * given.rates} runs {way}")
            found[way].append(measure(wanted, options))
    for way, several in found.items():
        if {tuple(one["weights"]) for one in several} != {tuple(several[0]["weights"])}:
            raise SystemExit(f"the runs give other weights when they are done again {way}")
    report.data |= {"found": found, "study": wanted}
    report.text(
        f"{given.seeds} seeds x {given.rates} learning rates, {given.rounds} rounds, {CORES} "
        f"cores, JAX: {given.model} on fashion-mnist-mini, {COHORT} of 50 clients a round. "
        f"Medians of {given.repeats}, the two ways in turns."
    )
    tell(report, found)
    report.show()


def tell(report: Report, found: dict[str, list[Record]]) -> None:
    """Write the tables."""
    names = ("seconds", "start", "rounds", "busy")
    middle = {
        way: {name: median(one[name] for one in several) for name in names}
        for way, several in found.items()
    }
    header = ("", "whole command, s", "until the first round", "from then on", "workers busy, s")
    report.table(
        header, [[way, *(f"{row[name]:.1f}" for name in names)] for way, row in middle.items()]
    )
    lanes, pool = middle.values()
    ratio, whole = (pool[name] / lanes[name] for name in ("rounds", "seconds"))
    met = common.verdict(ratio >= TARGET)
    report.table(
        ("times as fast", "at least", "measured", "met"),
        [
            ["from the first round on", f"{TARGET:g}", f"{ratio:.2f}", met],
            ["the whole command", "", f"{whole:.2f}", ""],
        ],
    )
    report.text(
        "Until the first round Python, Ray and JAX start, once for all runs. Programs are "
        "compiled, or read from the cache on disk, in the first rounds of each way."
    )


def measure(wanted: dict[str, Any], options: tuple[str, ...]) -> Record:
    """Run the study; return how long it took."""
    command = python("benchmarks.peers.sunflower_study", json.dumps(wanted), *options)
    outcome = common.run(Launch([command]))
    if outcome.error or not outcome.of("end"):
        raise SystemExit(f"the study failed: {outcome.error or 'no end within its limit'}")
    (end,) = outcome.of("end")
    start = outcome.of("begin")[0]["at"]
    return {
        "seconds": end["at"],
        "start": start,
        "rounds": end["at"] - start,
        "busy": end["busy"],
        "weights": end["weights"],
    }


if __name__ == "__main__":
    main()
