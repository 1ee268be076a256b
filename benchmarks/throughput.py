"""Images per second of Sunflower and of its peers, doing the same work on the same machine.

Every peer runs in processes of its own and nothing else runs meanwhile; they alternate, so that a
change of the machine's speed meets all of them, and the order turns round with every repeat.
``benchmarks/README.md`` says how each is run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import common, drawing, work
from benchmarks.common import Outcome, Report, say
from benchmarks.contestants import CORES, LIMIT, PEERS, Peer
from benchmarks.environment import Unavailable
from benchmarks.work import Shape

SHAPES = "100x600,1000x60,10000x6"
SMALL_SHAPES, SMALL_PEERS = "20x300", "bound,sunflower,keras,cached,quickstart"

QUICK = 45.0
"""Seconds that a slow peer gets in the small variant."""

TARGETS = {
    ("100x600", "bound"): 0.95,
    ("100x600", "keras"): 1.9,
    ("100x600", "quickstart"): 12,
    ("100x600", "cached"): 2.5,
    ("100x600", "pfl"): 1.9,
    ("1000x60", "bound"): 0.90,
    ("1000x60", "cached"): 20,
    ("1000x60", "pfl"): 1.9,
    ("10000x6", "bound"): 0.70,
    ("10000x6", "cached"): 25,
}
"""What Sunflower's images/s should at least be, over the peer's (``pfl``: its best)."""


@dataclass(frozen=True)
class Run:
    """One run of a peer.

    Args:
        shape: the shape, as text; empty for a peer to which it does not matter.
        peer: key of the peer.
        first: seconds of its first round; None if it has no warm-up or did not get that far.
        seconds: median seconds of the other rounds; if there are none and it was stopped at its
            limit, how long the unfinished round had taken: it takes longer than that.
        rate: images per second.
        finished: whether a warm round was finished.
        error: why there is no figure.
        rounds: seconds of all rounds.
    """

    shape: str
    peer: str
    first: float | None = None
    seconds: float | None = None
    rate: float | None = None
    finished: bool = False
    error: str | None = None
    rounds: tuple[float, ...] = ()


def main() -> None:
    """Measure, print, and write ``results/throughput``."""
    parser = common.parser(__doc__, repeats=3)
    parser.add_argument("--shapes", default=SHAPES, help="CLIENTSxIMAGES, by commas")
    parser.add_argument("--peers", default=",".join(PEERS), help="which of them, by commas")
    given = parser.parse_args()
    if given.small:
        given.repeats = 1
        given.shapes = SMALL_SHAPES if given.shapes == SHAPES else given.shapes
        given.peers = SMALL_PEERS if given.peers == ",".join(PEERS) else given.peers
    try:
        shapes = [Shape.parse(text) for text in given.shapes.split(",")]
        chosen = {key: PEERS[key] for key in given.peers.split(",")}
    except (ValueError, KeyError) as error:
        parser.error(f"{error} ({', '.join(PEERS)} are the peers)")
    report = Report("throughput", "Throughput", given.small)
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as folder:
        for shape in shapes:
            work.write(shape, Path(folder) / str(shape))
        for shape, key, peer in schedule(shapes, chosen, given.repeats):
            say(f"{peer.title}, {shape}")
            runs.append(measure(shape, key, peer, Path(folder), quick=given.small))
            say(f"  {describe(runs[-1])}")
            present(report, shapes, runs)  # An hour is long: what is measured is on disk.
    rows = bars(shapes, runs)
    report.show((lambda path: drawing.throughput(rows, path)) if rows else None)


def schedule(
    shapes: Sequence[Shape], peers: dict[str, Peer], repeats: int
) -> Iterator[tuple[Shape, str, Peer]]:
    """Yield what to run: A B C C B A for every shape.

    What ran before a peer may decide how fast the processor is for it; so every second repeat goes
    through them the other way round.
    """
    for repeat in range(repeats):
        for number, shape in enumerate(shapes):
            for key, peer in list(peers.items())[:: -1 if repeat % 2 else 1]:
                if repeat < peer.repeats(shape) and (peer.shaped or number == 0):
                    yield shape, key, peer


def measure(shape: Shape, key: str, peer: Peer, folder: Path, quick: bool) -> Run:
    """Run a peer once."""
    name = str(shape) if peer.shaped else ""
    notes = folder / "notes"
    notes.unlink(missing_ok=True)
    rounds = min(2, peer.rounds(shape)) if quick else peer.rounds(shape)
    try:
        launch = peer.launch(shape, folder / str(shape), notes, rounds)
    except Unavailable as error:
        return Run(name, key, error=f"not available: {error}")
    outcome = common.run(
        replace(launch, limit=QUICK) if quick and launch.limit == LIMIT else launch
    )
    lines = outcome.of("round")
    seconds = tuple(line["seconds"] for line in lines if line["round"] > 0)
    wrong = [line for line in lines if line["round"] > 0 and line["examples"] != shape.images]
    partly = [line for line in lines if line.get("updated", work.PARAMETERS) != work.PARAMETERS]
    if wrong or partly:
        return Run(name, key, error="it did not do all of the work", rounds=seconds)
    if outcome.error is not None:
        return Run(name, key, error=f"failed: {outcome.error}", rounds=seconds)
    first = None if peer.warm or not seconds else seconds[0]
    warm = seconds if peer.warm else seconds[1:]
    if warm:
        middle = median(warm)
        return Run(name, key, first, middle, shape.images / middle, True, rounds=seconds)
    return _unfinished(name, key, shape, outcome, notes, first, seconds)


def _unfinished(
    name: str,
    key: str,
    shape: Shape,
    outcome: Outcome,
    notes: Path,
    first: float | None,
    seconds: tuple[float, ...],
) -> Run:
    """Return what is known of a round that the time limit cut off."""
    marks = [record["at"] for record in outcome.records]
    if not outcome.limited or not marks:
        return Run(name, key, first, error="no round was finished", rounds=seconds)
    elapsed = outcome.seconds - marks[-1]
    clients = len(notes.read_text().splitlines()) if notes.exists() else 0
    rate = (clients - len(seconds) * shape.clients) * shape.size / elapsed
    return Run(name, key, first, elapsed, rate, rounds=seconds)


def describe(run: Run) -> str:
    """Return a run as a line of text."""
    if run.rate is None or run.seconds is None:
        return str(run.error)
    more = "" if run.finished else " so far, at the time limit"
    return f"{run.rate:,.0f} images/s, {run.seconds:.2f} s a round{more}"


def present(report: Report, shapes: Sequence[Shape], runs: Sequence[Run]) -> None:
    """Fill in and write the report, with the runs so far."""
    report.data["runs"] = [asdict(run) for run in runs]
    report.lines.clear()
    verdicts: list[list[str]] = []
    for shape in shapes:
        report.text(f"## {shape.clients:,} clients x {shape.size} images")
        mine = [run for run in runs if run.shape in (str(shape), "")]
        ours = _rates(mine, "sunflower")
        rows = []
        for key in dict.fromkeys(run.peer for run in mine):
            rows.append(_row(key, [run for run in mine if run.peer == key], ours))
        report.table(
            (
                "peer",
                "images/s",
                "range",
                "s a round",
                "first round, s",
                "Sunflower is",
                "runs",
            ),
            rows,
        )
        verdicts += list(_verdicts(shape, mine))
    if verdicts:
        report.text("## Targets")
        report.table(("work", "against", "at least", "measured", "met"), verdicts)
    report.text(
        "Medians over runs of each run's median over its rounds; the first round is apart, as it "
        "compiles. *Sunflower is*: its images/s over the peer's. `<`: stopped at the time limit "
        "before a whole round was done; images/s of the clients finished by then, seconds until "
        "then."
    )
    report.write()


def bars(shapes: Sequence[Shape], runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the rows of the figure; a peer to which the shape does not matter is in all."""
    return [
        {"shape": str(shape), "peer": PEERS[run.peer].title, "images/s": run.rate}
        for shape in shapes
        for run in runs
        if run.shape in (str(shape), "") and run.rate is not None
    ]


def _rates(runs: Sequence[Run], key: str) -> list[float]:
    return [run.rate for run in runs if run.peer == key and run.rate is not None]


def _row(key: str, runs: Sequence[Run], ours: Sequence[float]) -> list[str]:
    rates = _rates(runs, key)
    title = PEERS[key].title
    if not rates:
        return [title, str(runs[-1].error), "", "", "", "", str(len(runs))]
    sign = "" if all(run.finished for run in runs if run.rate is not None) else "< "
    later = "" if not sign else "> "
    seconds = median(run.seconds for run in runs if run.seconds is not None)
    first = [run.first for run in runs if run.first is not None]
    ratio = f"{median(ours) / median(rates):.2f} x" if ours and key != "sunflower" else ""
    return [
        title,
        f"{sign}{median(rates):,.0f}",
        common.spread(rates),
        f"{later}{seconds:.2f}",
        f"{median(first):.1f}" if first else "",
        ratio,
        str(len(rates)),
    ]


def _verdicts(shape: Shape, runs: Sequence[Run]) -> Iterator[list[str]]:
    """Yield a row for every target of a shape."""
    ours = [run for run in runs if run.peer == "sunflower" and run.rate is not None]
    for (name, against), least in TARGETS.items():
        if name != str(shape) or not ours:
            continue
        keys = [f"pfl-{CORES}", "pfl-1"] if against == "pfl" else [against]
        found = {key: _rates(runs, key) for key in keys}
        found = {key: rates for key, rates in found.items() if rates}
        if not found:
            continue
        best = max(found, key=lambda key: median(found[key]))
        theirs = [run for run in runs if run.peer == best and run.rate is not None]
        ratio = median(_rates(runs, "sunflower")) / median(found[best])
        title, sign = PEERS[best].title, ""
        if not all(run.finished for run in theirs):
            # Certain is only how long the round has taken already.
            lasted = min(run.seconds for run in theirs if run.seconds is not None)
            ratio = lasted / median(run.seconds for run in ours if run.seconds is not None)
            sign = "> "
        met = common.verdict(ratio >= least)
        yield [name, title, f"{least:g} x", f"{sign}{ratio:.2f} x", met]


if __name__ == "__main__":
    main()
