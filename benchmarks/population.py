"""A million registered clients against a thousand: time of a round and memory of the driver."""

from __future__ import annotations

import json
from statistics import median

from benchmarks import common, work
from benchmarks.common import Launch, Report, python, say
from benchmarks.work import Shape

RATIO, MEGABYTES = 1.1, 50.0
"""What a million clients may cost: a ratio of times, and memory of the driver."""


def main() -> None:
    """Measure, print, and write ``results/population``."""
    parser = common.parser(__doc__, repeats=3)
    parser.add_argument("--populations", default="1000,1000000", help="two, by a comma")
    parser.add_argument("--cohort", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=11, help="the first one is the warm-up")
    given = parser.parse_args()
    if given.small:
        given.repeats, given.rounds, given.cohort = 1, 4, 20
    populations = [int(part) for part in given.populations.split(",")]
    if len(populations) != 2:
        parser.error("--populations must be two numbers")
    report = Report("population", "Population", given.small)
    seconds: dict[int, list[float]] = {size: [] for size in populations}
    memory: dict[int, list[float]] = {size: [] for size in populations}
    for _ in range(given.repeats):
        for size in populations:
            say(f"{size:,} clients")
            lines = measure(size, given.cohort, given.rounds, given.small)
            seconds[size].append(median(line["seconds"] for line in lines[1:]))
            memory[size].append(lines[-1]["driver_mb"])
    few, many = populations
    ratio = median(seconds[many]) / median(seconds[few])
    more = median(memory[many]) - median(memory[few])
    report.data |= {"seconds": seconds, "driver_mb": memory}
    report.text(f"On-demand partition, 100 images a client, {given.cohort} clients a round.")
    report.table(
        ("registered clients", "s a round", "range", "driver, MB", "range"),
        [
            [
                f"{size:,}",
                f"{median(seconds[size]):.3f}",
                common.spread(seconds[size], ".3f"),
                f"{median(memory[size]):.0f}",
                common.spread(memory[size]),
            ]
            for size in populations
        ],
    )
    report.table(
        ("", "at most", "measured", "met"),
        [
            ["time of a round", f"{RATIO} x", f"{ratio:.3f} x", common.verdict(ratio <= RATIO)],
            [
                "driver memory",
                f"+{MEGABYTES:.0f} MB",
                f"{more:+.1f} MB",
                common.verdict(abs(more) <= MEGABYTES),
            ],
        ],
    )
    report.show()


def measure(clients: int, cohort: int, rounds: int, small: bool) -> list[common.Record]:
    """Run Sunflower; return its lines, without that of round 0."""
    changes = {
        "dataset": "fashion-mnist-mini" if small else "fashion-mnist",
        "cohort": cohort,
        "partition": {"kind": "on-demand", "examples_per_client": 100},
    }
    experiment = json.dumps(work.settings(Shape(clients, 100), rounds, **changes))
    outcome = common.run(Launch([python("benchmarks.peers.sunflower", experiment, "--memory")]))
    if outcome.error:
        raise SystemExit(f"Sunflower failed: {outcome.error}")
    return [line for line in outcome.of("round") if line["round"] > 0]


if __name__ == "__main__":
    main()
