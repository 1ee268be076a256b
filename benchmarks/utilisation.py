"""How busy many workers are: clients that sleep, with log-normal sizes, on logical CPUs.

A sleeping client needs no core, so that 64 workers fit on a small machine and what is left is the
engine: handing out, collecting, merging. Stock Flower runs the same clients beside it.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import common
from benchmarks.common import Launch, Report, python, say
from benchmarks.sleeper import SECONDS, most_at_once

BLOCKED = str(Path(__file__).parent / "peers" / "without_tensorflow")
TARGET = 0.95


def main() -> None:
    """Measure, print, and write ``results/utilisation``."""
    parser = common.parser(__doc__, repeats=1)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--clients", type=int, default=4_000)
    parser.add_argument("--flower-clients", type=int, default=240, help="0: leave Flower out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sigma", type=float, default=1.0, help="of the log-normal sizes")
    given = parser.parse_args()
    if given.small:
        given.workers, given.clients, given.flower_clients, given.rounds = 8, 400, 40, 2
    report = Report("utilisation", "Busy workers", given.small)
    sizes = draw(given.clients, given.sigma)
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        file, notes = Path(folder) / "clients.json", Path(folder) / "notes"
        for _ in range(given.repeats):
            say(f"Sunflower, {given.workers} workers, {given.clients} clients")
            file.write_text(json.dumps(sizes.tolist()))
            options = ("--workers", given.workers, "--rounds", given.rounds)
            outcome = common.run(
                Launch([python("benchmarks.peers.sunflower_asleep", file, *options)])
            )
            if outcome.error:
                raise SystemExit(f"Sunflower failed: {outcome.error}")
            ours += outcome.of("round")
            if given.flower_clients:
                say(f"stock Flower, {given.workers} actors, {given.flower_clients} clients")
                theirs.append(flower(sizes[: given.flower_clients], given.workers, file, notes))
    busy = median(line["busy"] for line in ours)
    flight = min(line["in_flight"] for line in ours)
    rows = [
        [
            "Sunflower",
            f"{given.clients:,}",
            f"{busy:.1%}",
            str(flight),
            f"{median(line['seconds'] for line in ours):.2f}",
            f"{ours[0]['ideal']:.2f}",
        ]
    ]
    for line in theirs[:1]:
        rows.append(
            [
                "stock Flower",
                f"{given.flower_clients:,}",
                f"{median(line['busy'] for line in theirs):.1%}",
                str(max(line["in_flight"] for line in theirs)),
                f"{median(line['seconds'] for line in theirs):.2f}",
                f"{line['ideal']:.2f}",
            ]
        )
    report.data |= {"sunflower": ours, "flower": theirs}
    report.text(
        f"{given.workers} workers on logical CPUs; a client sleeps {1000 * SECONDS:g} ms for each "
        f"of its examples, whose number is log-normal (sigma {given.sigma:g}, mean "
        f"{sizes.mean():.0f}, largest {sizes.max()})."
    )
    report.table(
        ("", "clients", "worker time busy", "most in flight", "s a round", "ideal, s"), rows
    )
    report.table(
        ("", "at least", "measured", "met"),
        [
            ["worker time busy", f"{TARGET:.0%}", f"{busy:.1%}", common.verdict(busy >= TARGET)],
            [
                "clients in flight",
                str(given.workers),
                str(flight),
                common.verdict(flight >= given.workers),
            ],
        ],
    )
    report.text(
        "Busy: seconds that clients slept, over seconds of the round times workers, merging and "
        "all else included. Median over rounds; in flight: the least of Sunflower's rounds, the "
        "most of Flower's."
    )
    report.show()


def draw(clients: int, sigma: float) -> np.ndarray:
    """Return log-normal sizes with mean 60, at least 1."""
    rng = np.random.default_rng(0)
    sizes = rng.lognormal(np.log(60) - sigma**2 / 2, sigma, clients)
    return np.maximum(1, np.rint(sizes)).astype(np.int64)


def flower(sizes: np.ndarray, actors: int, file: Path, notes: Path) -> dict[str, float]:
    """Run stock Flower with the same clients; return its second round."""
    file.write_text(json.dumps((SECONDS * sizes).tolist()))
    notes.unlink(missing_ok=True)
    options = ("--sleep", file, "--progress", notes, "--cpus", actors, "--rounds", 2)
    command = python("benchmarks.peers.flower", "sleep", *options)
    outcome = common.run(Launch([command], [{"PYTHONPATH": BLOCKED}], limit=900))
    if outcome.error or not outcome.of("round"):
        raise SystemExit(f"stock Flower failed: {outcome.error or 'no round within 900 s'}")
    spans = [tuple(map(float, line.split()[1:])) for line in notes.read_text().splitlines()]
    spans = sorted(spans)[len(sizes) :] or spans
    seconds = outcome.of("round")[-1]["seconds"]
    slept = sum(end - start for start, end in spans)
    return {
        "seconds": seconds,
        "busy": slept / (seconds * actors),
        "in_flight": most_at_once((start, end) for start, end in spans),
        "ideal": float(SECONDS * sizes.sum()) / actors,
    }


if __name__ == "__main__":
    main()
