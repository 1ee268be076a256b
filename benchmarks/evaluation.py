"""What evaluation costs: rounds with evaluation of server and clients every round, and without.

Both train the same examples: a tenth of every client's images is for validation in both.
"""

from __future__ import annotations

import json
from statistics import median

from benchmarks import common, work
from benchmarks.common import Launch, Report, python, say
from benchmarks.work import Shape

TARGET = 1.12
"""Time of a round with evaluation, at most, over one without."""

KINDS = {"without": False, "with": True}


def main() -> None:
    """Measure, print, and write ``results/evaluation``."""
    parser = common.parser(__doc__, repeats=3)
    parser.add_argument("--shape", default="100x600", help="CLIENTSxIMAGES")
    parser.add_argument("--rounds", type=int, default=6, help="the first one is the warm-up")
    given = parser.parse_args()
    if given.small:
        given.shape, given.repeats, given.rounds = "20x300", 1, 5
    shape = Shape.parse(given.shape)
    report = Report("evaluation", "Evaluation", given.small)
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(given.repeats):
        for kind, on in KINDS.items():
            say(f"{kind} evaluation")
            seconds[kind].append(measure(shape, given.rounds, on))
    pairs = list(zip(seconds["with"], seconds["without"], strict=True))
    ratios = [a / b for a, b in pairs]
    report.data |= {"seconds": seconds, "ratios": ratios}
    report.text(
        f"{shape.clients} clients x {shape.size} images, a tenth of them for validation; the "
        "server's test set has "
        f"{'1,000' if given.small else '10,000'} images."
    )
    report.table(
        ("evaluation", "s a round", "range"),
        [
            [kind, f"{median(values):.2f}", common.spread(values, ".2f")]
            for kind, values in seconds.items()
        ],
    )
    met = common.verdict(median(ratios) <= TARGET)
    report.table(
        ("", "at most", "measured", "met"),
        [["with, over without", f"{TARGET} x", f"{median(ratios):.3f} x", met]],
    )
    report.show()


def measure(shape: Shape, rounds: int, on: bool) -> float:
    """Run Sunflower; return the median seconds of its warm rounds.

    The evaluation of the last round has no training to overlap with and counts for no round; the
    first evaluation is of round 0. So every counted round carries exactly one evaluation.
    """
    changes = {
        "partition": {"kind": "iid", "validation": 0.1},
        "evaluation": {"server": on, "clients": on},
    }
    experiment = json.dumps(work.settings(shape, rounds, **changes))
    outcome = common.run(Launch([python("benchmarks.peers.sunflower", experiment)]))
    lines = [line["seconds"] for line in outcome.of("round") if line["round"] > 1]
    if outcome.error or not lines:
        raise SystemExit(f"Sunflower failed: {outcome.error}")
    return float(median(lines))


if __name__ == "__main__":
    main()
