"""What the GPU benchmark measured, as tables: pure functions of the contestants' records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.common import verdict
from benchmarks.gpu_work import Workload

TITLES = {
    "bound": "the bound: bare lanes",
    "sunflower": "Sunflower",
    "pfl": "pfl-research, PyTorch",
    "torch": "plain PyTorch loop",
    "fit": "Keras fit on JAX, centralised",
}
"""Of the contestants, by key."""

HEADER = (
    "contestant", "images/s", "least", "most", "s a round", "first round, s", "Sunflower is",
    "rounds",
)  # fmt: skip

TARGETS = (
    ("100x600", "pfl", 70.0),
    ("1000x60", "pfl", 70.0),
    ("10000x6", "pfl", 70.0),
    ("100x600", "bound", 0.8),
    ("1000x60", "bound", 0.8),
    ("10000x6", "bound", 0.8),
    ("resnet18", "torch", 7.0),
)
"""What Sunflower's images/s should at least be, over the contestant's."""

OF_EQUAL, EQUAL = ("skewed-1000", 0.6), "1000x60"
"""Images/s with log-normal sizes should at least be this part of those with equal sizes."""

LONGEST = ("skewed-100", 2.0)
"""A round should at most be so many times as long as the longest client alone."""


@dataclass(frozen=True)
class Measured:
    """A timed round.

    Args:
        work: name of the workload.
        peer: key of the contestant.
        first: whether it is the first one of its process, which compiles.
        seconds: how long it took.
        images: how many were trained on.
        clients: by how many clients.
    """

    work: str
    peer: str
    first: bool
    seconds: float
    images: int
    clients: int

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds


@dataclass
class Results:
    """All that was measured.

    Args:
        rounds: the timed rounds.
        alone: seconds of the longest client alone in the bound's loop, by workload.
        failures: why a contestant has no figure of a workload.
        left_out: contestants that did not run at all, and why.
        cards: what was computed on, by contestant.
        versions: of libraries.
        lanes: of Sunflower, by workload.
    """

    rounds: list[Measured]
    alone: dict[str, list[float]]
    failures: dict[tuple[str, str], str]
    left_out: dict[str, str]
    cards: dict[str, str]
    versions: dict[str, str]
    lanes: dict[str, int]

    @classmethod
    def empty(cls) -> Results:
        """Return results of nothing."""
        return cls([], {}, {}, {}, {}, {}, {})

    def take(self, peer: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Take in what a contestant's process reported."""
        for record in records:
            match record["event"]:
                case "round":
                    self.rounds.append(
                        Measured(
                            record["work"], peer, record["round"] == 1, record["seconds"],
                            record["images"], record["clients"],
                        )
                    )  # fmt: skip
                case "alone":
                    self.alone.setdefault(record["work"], []).append(record["seconds"])
                case "failed":
                    self.failures[record["work"], peer] = record["why"]
                case "missing":
                    self.left_out[peer] = record["why"]
                case "lanes":
                    self.lanes[record["work"]] = record["lanes"]
                case "ready":
                    self.cards[peer] = record["device"]
                    self.versions |= record["versions"]

    def of(self, work: str, peer: str) -> list[Measured]:
        """Return the timed rounds of a contestant, without the first ones."""
        return [r for r in self.rounds if (r.work, r.peer) == (work, peer) and not r.first]

    def rate(self, work: str, peer: str) -> float | None:
        """Return the median images/s of a contestant; None if it has no round."""
        found = self.of(work, peer)
        return median(r.rate for r in found) if found else None

    def data(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "rounds": [asdict(one) for one in self.rounds],
            "alone": self.alone,
            "failures": [[*key, why] for key, why in self.failures.items()],
            "left_out": self.left_out,
            "cards": self.cards,
            "versions": self.versions,
            "lanes": self.lanes,
        }


def rows(results: Results, workload: Workload, peers: Sequence[str]) -> list[list[str]]:
    """Return the rows of a workload's table, below :data:`HEADER`."""
    ours = results.rate(workload.name, "sunflower")
    return [_row(results, workload, peer, ours) for peer in peers if peer not in results.left_out]


def _row(results: Results, workload: Workload, peer: str, ours: float | None) -> list[str]:
    found, title = results.of(workload.name, peer), TITLES[peer]
    if not found:
        why = results.failures.get((workload.name, peer), "no round after the first in its time")
        return [title, why, *[""] * (len(HEADER) - 2)]
    if found[0].clients < workload.clients and peer != "fit":
        title += f" ({found[0].clients:,} clients a round)"
    rates = [one.rate for one in found]
    first = [r for r in results.rounds if (r.work, r.peer) == (workload.name, peer) and r.first]
    ratio = f"{ours / median(rates):.2f} x" if ours and peer != "sunflower" else ""
    return [
        title,
        f"{median(rates):,.0f}",
        f"{min(rates):,.0f}",
        f"{max(rates):,.0f}",
        f"{median(r.seconds for r in found):.3f}",
        f"{median(r.seconds for r in first):.1f}" if first else "",
        ratio,
        str(len(found)),
    ]


def notes(results: Results, workload: Workload) -> Iterator[str]:
    """Yield what is told below a workload's table."""
    if workload.name in results.lanes:
        lanes = results.lanes[workload.name]
        yield f"Sunflower trains {lanes} clients side by side."
    ours = results.of(workload.name, "sunflower")
    if workload.name in results.alone and ours:
        alone = median(results.alone[workload.name])
        times = median(r.seconds for r in ours) / alone
        yield (
            f"The longest client alone takes {alone:.3f} s in the bound's loop: a round of "
            f"Sunflower is {times:.2f} times as long."
        )


def verdicts(results: Results) -> Iterator[list[str]]:
    """Yield a row for every target of which both sides were measured."""
    for work, against, least in TARGETS:
        ours, theirs = results.rate(work, "sunflower"), results.rate(work, against)
        if ours and theirs:
            yield _verdict(work, TITLES[against], ours / theirs, least)
    (work, least), ours = OF_EQUAL, results.rate(OF_EQUAL[0], "sunflower")
    equal = results.rate(EQUAL, "sunflower")
    if ours and equal:
        yield _verdict(work, f"Sunflower's own images/s of {EQUAL}", ours / equal, least)
    work, most = LONGEST
    ours_seconds = [r.seconds for r in results.of(work, "sunflower")]
    if ours_seconds and work in results.alone:
        times = median(ours_seconds) / median(results.alone[work])
        met = verdict(times <= most)
        against = "the longest client alone, in time"
        yield [work, against, f"at most {most:g} x", f"{times:.2f} x", met]


def _verdict(work: str, against: str, ratio: float, least: float) -> list[str]:
    return [work, against, f"{least:g} x", f"{ratio:.2f} x", verdict(ratio >= least)]
