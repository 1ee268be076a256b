"""Memory of the driver and of the workers over many rounds of clients of different sizes."""

from __future__ import annotations

import json
from statistics import median

from benchmarks import common, drawing, work
from benchmarks.common import Launch, Report, python, say
from benchmarks.work import Shape

TARGET = 0.05
"""By how much memory may grow after round ``SETTLED``."""

SETTLED = 20
WINDOW = 5
"""Rounds whose median is compared, at the beginning and at the end."""


def main() -> None:
    """Measure, print, and write ``results/memory``."""
    parser = common.parser(__doc__, repeats=1)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--clients", type=int, default=1_000)
    parser.add_argument("--cohort", type=int, default=50)
    parser.add_argument("--strategy", default="fedavg")
    given = parser.parse_args()
    if given.small:
        given.rounds, given.clients, given.cohort = 40, 100, 10
    report = Report("memory", "Memory", given.small)
    changes = {
        "dataset": "fashion-mnist-mini" if given.small else "fashion-mnist",
        "cohort": given.cohort,
        "strategy": {"name": given.strategy},
        "partition": {"kind": "dirichlet", "alpha": 0.5},
        "evaluation": {"server": True, "clients": True},
    }
    experiment = json.dumps(work.settings(Shape(given.clients, 60), given.rounds, **changes))
    lines = []
    for _ in range(given.repeats):
        say(f"{given.rounds} rounds of {given.cohort} clients")
        outcome = common.run(Launch([python("benchmarks.peers.sunflower", experiment, "--memory")]))
        if outcome.error:
            raise SystemExit(f"Sunflower failed: {outcome.error}")
        lines.append([line for line in outcome.of("round") if line["round"] > 0])
    series = {name: [run_series(run)[name] for run in lines] for name in run_series(lines[0])}
    report.data |= {"series": series}
    rows, worst = [], -1.0
    for name, runs in series.items():
        before = median(median(run[SETTLED : SETTLED + WINDOW]) for run in runs)
        after = median(median(run[-WINDOW:]) for run in runs)
        peak = max(max(run[SETTLED:]) for run in runs)
        growth = max(median(r[-WINDOW:]) / median(r[SETTLED : SETTLED + WINDOW]) for r in runs) - 1
        worst = max(worst, growth)
        rows.append([name, f"{before:.0f}", f"{after:.0f}", f"{peak:.0f}", f"{growth:+.1%}"])
    report.text(
        f"{given.rounds} rounds of {given.cohort} of {given.clients:,} clients (Dirichlet, alpha "
        "0.5: sizes differ), evaluation of server and clients every round. Resident memory [MB]."
    )
    report.table(
        ("", f"after round {SETTLED}", "at the end", "peak since", "growth"),
        rows,
    )
    met = common.verdict(worst < TARGET)
    report.table(
        ("", "below", "measured", "met"),
        [[f"growth after round {SETTLED}", f"{TARGET:.0%}", f"{worst:+.1%}", met]],
    )
    first = {name: runs[0] for name, runs in series.items()}
    report.show(lambda path: drawing.memory(first, path))


def run_series(lines: list[common.Record]) -> dict[str, list[float]]:
    """Return the memory of the driver and of every worker by round [MB]."""
    workers = min(len(line["workers_mb"]) for line in lines)
    return {
        "driver": [line["driver_mb"] for line in lines],
        **{f"worker {i + 1}": [line["workers_mb"][i] for line in lines] for i in range(workers)},
    }


if __name__ == "__main__":
    main()
