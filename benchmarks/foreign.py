"""Flower's FedAvg on our engine: folded by the workers against a message for each client."""

from __future__ import annotations

import json
from collections.abc import Iterable
from statistics import median
from typing import Any

from flwr.app import Message
from flwr.serverapp.strategy import FedAvg

from benchmarks import common, work
from benchmarks.common import Launch, Report, python, say
from benchmarks.work import Shape


class Seeing(FedAvg):
    """FedAvg that wants to see every reply, as a strategy of one's own may."""

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        """Aggregate as FedAvg does."""
        return super().aggregate_train(server_round, list(replies))


WAYS = {
    "Sunflower's FedAvg": "fedavg",
    "Flower's FedAvg, folded": "flwr.serverapp.strategy:FedAvg",
    "Flower's FedAvg, by messages": "benchmarks.foreign:Seeing",
}


def main() -> None:
    """Measure, print, and write ``results/foreign``."""
    parser = common.parser(__doc__, repeats=3)
    parser.add_argument("--shape", type=Shape.parse, default=Shape(1_000, 60))
    parser.add_argument("--rounds", type=int, default=5, help="the first one is the warm-up")
    given = parser.parse_args()
    if given.small:
        given.repeats, given.rounds, given.shape = 1, 3, Shape(100, 60)
    report = Report("foreign", "Flower's strategies", given.small)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(given.repeats):
        for way, name in WAYS.items():
            say(way)
            settings = work.settings(given.shape, given.rounds, strategy={"name": name})
            outcome = common.run(
                Launch([python("benchmarks.peers.sunflower", json.dumps(settings))])
            )
            if outcome.error or not outcome.of("end"):
                raise SystemExit(f"{way} failed: {outcome.error or 'no end'}")
            lines = [line for line in outcome.of("round") if line["round"] > 1]
            seconds[way].append(median(line["seconds"] for line in lines))
    report.data |= {"seconds": seconds}
    report.text(f"{given.shape}, the CNN of all benchmarks, every client in every round.")
    slow = median(seconds["Flower's FedAvg, by messages"])
    report.table(
        ("", "s a round", "range", "times as fast as messages"),
        [
            [
                way,
                f"{median(found):.2f}",
                common.spread(found, ".2f"),
                f"{slow / median(found):.1f}",
            ]
            for way, found in seconds.items()
        ],
    )
    report.show()


if __name__ == "__main__":
    main()
