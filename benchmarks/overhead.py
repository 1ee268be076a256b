"""What a client costs beyond its training: many clients of one example against the bound.

The bound trains on the same batches, one example each, and does nothing else. What Sunflower
takes more (resetting the weights, the delta, folding it, the engine) is divided by the clients.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import median

from benchmarks import common, work
from benchmarks.common import Launch, Report, python, say
from benchmarks.contestants import CORES
from benchmarks.work import Shape

TARGET = 1.0
"""Milliseconds of a core that a client may cost beyond training."""


def main() -> None:
    """Measure, print, and write ``results/overhead``."""
    parser = common.parser(__doc__, repeats=3)
    parser.add_argument("--shape", default="10000x1", help="CLIENTSxIMAGES")
    parser.add_argument("--rounds", type=int, default=4, help="the first one is the warm-up")
    given = parser.parse_args()
    if given.small:
        given.shape, given.repeats, given.rounds = "1000x1", 1, 3
    shape = Shape.parse(given.shape)
    report = Report("overhead", "Cost of a client", given.small)
    ours, bound = [], []
    with tempfile.TemporaryDirectory() as folder:
        work.write(shape, Path(folder))
        passes = ("--passes", given.rounds)
        experiment = json.dumps(work.settings(shape, given.rounds))
        for _ in range(given.repeats):
            say(f"the bound, {shape}")
            bound.append(_seconds(python("benchmarks.peers.bound", folder, *passes), warm=True))
            say(f"Sunflower, {shape}")
            ours.append(_seconds(python("benchmarks.peers.sunflower", experiment), warm=False))
    scale = 1000 * CORES / shape.clients
    costs = [scale * (a - b) for a, b in zip(ours, bound, strict=True)]
    report.data |= {"sunflower_seconds": ours, "bound_seconds": bound, "cost_ms": costs}
    report.text(f"{shape.clients:,} clients x {shape.size}, {CORES} cores.")
    report.table(
        ("", "s a round", "range", "ms of a core, a client"),
        [
            ["Sunflower", f"{median(ours):.2f}", common.spread(ours, ".2f"), _ms(ours, scale)],
            ["the bound", f"{median(bound):.2f}", common.spread(bound, ".2f"), _ms(bound, scale)],
            ["beyond training", "", "", f"{median(costs):.2f}"],
        ],
    )
    met = common.verdict(median(costs) <= TARGET)
    report.table(
        ("", "at most", "measured", "met"),
        [["ms of a core beyond training, a client", TARGET, f"{median(costs):.2f}", met]],
    )
    report.show()


def _ms(seconds: list[float], scale: float) -> str:
    return f"{scale * median(seconds):.2f}"


def _seconds(command: list[str], warm: bool) -> float:
    outcome = common.run(Launch([command]))
    rounds = [line["seconds"] for line in outcome.of("round") if line["round"] > 0]
    rounds = rounds if warm else rounds[1:]
    if outcome.error or not rounds:
        raise SystemExit(f"{command[2]} failed: {outcome.error}")
    return float(median(rounds))


if __name__ == "__main__":
    main()
