"""A study through ``carry_out``: when its runs begin and end, and how long workers trained."""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.work import emit


def main() -> None:
    """Carry out the study given as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", help="the study, as JSON")
    parser.add_argument("--at-once", type=int, help="runs that share the pool")
    parser.add_argument("--apart", action="store_true", help="no run in the lanes of another")
    given = parser.parse_args()

    from simulation.listeners.listener import Listener
    from simulation.records.reading import read_json
    from simulation.studies.study import carry_out, expand, parse_study

    if given.apart:
        from simulation.studies import groups

        groups.kind_of_group = lambda experiment: None

    turn = threading.Lock()

    def tell(event: str, **values: Any) -> None:
        with turn:  # Each run has a thread of its own, and a record has a line of its own.
            emit(event, **values)

    class Reporter(Listener):
        def begin(self, experiment: Any, workers: int, done: int) -> None:
            tell("begin", workers=workers)

    @contextmanager
    def watch(name: str, experiment: Any, state: str) -> Iterator[Listener]:
        yield Reporter()
        tell("run", name=name)

    plan = expand(parse_study(json.loads(given.study)))
    with tempfile.TemporaryDirectory() as folder:
        outcome = carry_out(plan, Path(folder), watch, given.at_once)
        if outcome.failed:
            raise next(iter(outcome.failed.values()))
        found = [read_json(Path(folder) / name / "summary.json") or {} for name in outcome.complete]
        busy = [summary["busy_seconds"] for summary in found]
        weights = [summary["weights_sha256"] for summary in found]
    emit("end", runs=len(found), busy=sum(busy), weights=weights)


if __name__ == "__main__":
    main()
