"""Rounds a second where clients have little to do, and what of a round is not training.

All records and checkpoints are on. The executor's share is what its own calls take; the rest of a
round is the driver's: who takes part, what is handed out, the server's step, files, the screen.
"""

from __future__ import annotations

import json
from itertools import pairwise
from statistics import median
from typing import Any

from benchmarks import common
from benchmarks.common import Launch, Report, python, say

WORKS: dict[str, tuple[int, dict[str, Any]]] = {
    "10 clients x 50, logistic": (300, {"model": "logistic", "clients": 120, "cohort": 10}),
    "100 clients x 6, cnn": (40, {"model": "cnn", "clients": 1000, "cohort": 100}),
    "1,000 clients x 1, logistic": (40, {"model": "logistic", "clients": 6000, "cohort": 1000}),
}
"""Rounds and settings; 6,000 images are dealt to all clients of each."""

WARM = 3
"""First rounds, which compile, and are not counted."""


def main() -> None:
    """Measure, print, and write ``results/rounds``."""
    given = common.parser(__doc__, repeats=3).parse_args()
    report = Report("rounds", "Rounds", given.small)
    rows = []
    for name, (rounds, changes) in WORKS.items():
        found = []
        for _ in range(1 if given.small else given.repeats):
            say(name)
            found.append(_measured(WARM + (6 if given.small else rounds), changes))
        whole, driver = ([one[k] for one in found] for k in (0, 1))
        report.data[name] = {"round_ms": whole, "driver_ms": driver}
        rows.append(
            [
                name, f"{1000 / median(whole):.1f}", f"{median(whole):.1f}",
                f"{median(driver):.1f}", common.spread(driver, ".1f"),
            ]
        )  # fmt: skip
    report.table(("work", "rounds/s", "ms a round", "of it the driver's", "range"), rows)
    report.show()


def _measured(rounds: int, changes: dict[str, Any]) -> tuple[float, float]:
    """Return the median milliseconds of a round, and of what is the driver's in it."""
    settings = {
        "dataset": "fashion-mnist-mini", "rounds": rounds, "seed": 1,
        "partition": {"kind": "iid", "validation": 0}, "resources": {"engine": "inline"},
        "training": {"batch_size": 32, "learning_rate": 0.05},
        "evaluation": {"server": False, "clients": False}, **changes,
    }  # fmt: skip
    outcome = common.run(
        Launch([python("benchmarks.peers.sunflower_rounds", json.dumps(settings))])
    )
    lines = outcome.of("round")[WARM:]
    if outcome.error or len(lines) < 2:
        raise SystemExit(f"Sunflower failed: {outcome.error}")
    whole = [1000 * (after["clock"] - before["clock"]) for before, after in pairwise(lines)]
    driver = [w - 1000 * line["busy"] for w, line in zip(whole, lines[1:], strict=True)]
    return median(whole), median(driver)


if __name__ == "__main__":
    main()
