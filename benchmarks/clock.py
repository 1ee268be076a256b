"""Virtual time: what is lost by sending clients out one by one, and what an event costs the driver.

``throughput``: images a second with 100 clients in flight, in cohorts that wait for all and one by
one. ``events``: clients that do nothing, so that all time is the driver's, with all records and
checkpoints on; its memory must stay flat.
"""

from __future__ import annotations

import json
from statistics import median
from typing import Any

from benchmarks import common
from benchmarks.common import Launch, Report, python, say

FLIGHT = 100
"""Clients at work at a time."""

MOST_LOST = 0.10
"""Part of the images a second that may be lost."""

MOST_MS = 1.0
"""Milliseconds of the driver that an event may take."""

PLANS: dict[str, dict[str, Any]] = {
    "synchronous": {},
    "buffered, 10": {"kind": "buffered", "buffer": 10},
    "asynchronous": {"kind": "asynchronous"},
}
"""Schedules that are compared; the first one is what the others are measured by."""

WORK: dict[str, dict[str, Any]] = {
    "200 clients x 30, cnn": {"clients": 200, "model": "cnn"},
    "1,000 clients x 6, cnn": {"clients": 1000, "model": "cnn"},
}
"""6,000 images are dealt to all clients."""


def main() -> None:
    """Measure, print, and write ``results/clock``, or ``results/clock-PART`` of a part alone."""
    parser = common.parser(__doc__, repeats=3)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--trained", type=int, default=4_000, help="clients trained in a run")
    parser.add_argument("--part", choices=("throughput", "events"), help="only one of the two")
    given = parser.parse_args()
    if given.small:
        given.repeats, given.events, given.trained = 1, 5_000, 1_000
    name = f"clock-{given.part}" if given.part else "clock"
    report = Report(name, "Virtual time", given.small)
    if given.part != "events":
        for name, work in WORK.items():
            report.table(
                (f"{name}, {FLIGHT} at work", "images/s", "range", "of synchronous"),
                throughput(name, work, given, report.data),
            )
    if given.part != "throughput":
        header = ("events", "ms an event", "of it met", "driver's memory, MB", "at the end")
        report.table(header, events(given.events, report.data))
    report.show()


def settings(plan: dict[str, Any], steps: int, **changes: Any) -> dict[str, Any]:
    """Return an experiment of so many server steps."""
    return {
        "dataset": "fashion-mnist-mini", "rounds": steps, "seed": 1, "cohort": FLIGHT,
        "partition": {"kind": "iid", "validation": 0},
        "training": {"batch_size": 32, "learning_rate": 0.05},
        "evaluation": {"server": False, "clients": False},
        "devices": {"kind": "lognormal", "spread": 1.2}, **({"schedule": plan} if plan else {}),
        **changes,
    }  # fmt: skip


def throughput(
    name: str, work: dict[str, Any], given: Any, data: dict[str, Any]
) -> list[list[object]]:
    """Return the images a second of each schedule, and their share of the first one's."""
    found: dict[str, list[float]] = {plan: [] for plan in PLANS}
    for _ in range(given.repeats):
        for title, plan in PLANS.items():
            say(f"{name}, {title}")
            updates = {"buffered": plan.get("buffer"), "asynchronous": 1}.get(
                plan.get("kind", ""), FLIGHT
            )
            wanted = settings(plan, given.trained // updates, **work)
            outcome = common.run(Launch([python("benchmarks.peers.sunflower", json.dumps(wanted))]))
            lines = outcome.of("round")[1:]
            if outcome.error or not lines:
                raise SystemExit(f"Sunflower failed: {outcome.error}")
            later = lines[len(lines) // 4 :]  # The first ones compile.
            images = sum(line["examples_seen"] for line in later)
            found[title].append(images / sum(line["seconds"] for line in later))
    data[name] = found
    usual = median(found["synchronous"])
    return [
        [title, f"{median(all_):,.0f}", common.spread(all_), f"{median(all_) / usual:.2f}"]
        for title, all_ in found.items()
    ]


def events(count: int, data: dict[str, Any]) -> list[list[object]]:
    """Return what an event costs, and the driver's memory early and late."""
    rows: list[list[object]] = []
    for title, plan in PLANS.items():
        updates = {"buffered": plan.get("buffer"), "asynchronous": 1}.get(plan.get("kind", ""))
        if updates is None:
            continue
        say(f"{count:,} events, {title}")
        inline = {"resources": {"engine": "inline"}, "clients": 1000, "model": "logistic"}
        steps = count // updates
        wanted = json.dumps(settings(plan, steps, **inline))
        every = max(1, steps // 100)
        outcome = common.run(
            Launch([python("benchmarks.peers.sunflower_events", wanted, "--every", every)])
        )
        found = outcome.of("step")
        if outcome.error or len(found) < 10:
            raise SystemExit(f"Sunflower failed: {outcome.error}")
        fifth = found[len(found) // 5 :]
        ends = ((-1, fifth[0]), (1, fifth[-1]))
        spent = sum(sign * (step["clock"] - step["slept"]) for sign, step in ends)
        each = 1000 * spent / (fifth[-1]["events"] - fifth[0]["events"])
        data[f"events, {title}"] = found
        rows.append(
            [
                f"{count:,}, {title}", f"{each:.2f}", common.verdict(each <= MOST_MS),
                f"{fifth[0]['driver_own_mb']:.0f}", f"{fifth[-1]['driver_own_mb']:.0f}",
            ]
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
