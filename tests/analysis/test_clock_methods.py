"""The methods paragraph of runs on a virtual clock, with its sources."""

import re
from pathlib import Path

import pytest

from analysis import load
from analysis.methods import bibtex_key, methods, plain
from tests.analysis.clocked import write_clocked

SAID = [
    ("synchronous", {}, "FedAvg waits in every round for the slowest client that counts.", ""),
    ("deadline", {}, "FedAvg ends a round at its deadline (60 s), without who is late.", ""),
    ("deadline", {"deadline": "80%", "late": "partial"},
     "FedAvg ends a round at its deadline (at 80% of the durations of those asked), counting what "
     "was done by then.", ""),
    ("buffered", {}, "FedAvg steps at every 4 updates (buffered aggregation) with 10 clients in "
     "flight, weighing stale updates by the polynomial law.", "2106.06639"),
    ("buffered", {"max_staleness": 20}, "law, without those staler than 20 steps.", "2106.06639"),
    ("buffered", {"buffer": None, "staleness": None}, "FedAvg steps at every 10 updates (buffered "
     "aggregation) with 10 clients in flight, weighing stale updates by the polynomial law.",
     "2106.06639"),
    ("asynchronous", {}, "FedAvg steps at every update (asynchronous, mixing weight 0.6) with 10 "
     "clients in flight, weighing stale updates by the polynomial law.", "1903.03934"),
    ("buffered", {"kind": "semi-synchronous", "interval": 30.0}, "FedAvg steps every 30 virtual "
     "seconds with what has arrived with 10 clients in flight", ""),
    ("deadline", {"kind": "hierarchical", "edges": 5, "group_by": "speed", "edge_rounds": 4},
     "FedAvg averages at edges between clients and cloud (5 edges, 4 rounds of an edge in one of "
     "the cloud; an edge has clients of like speed).", "1905.06641"),
    ("deadline", {"kind": "hierarchical", "group_by": "tier", "cloud": {"name": "fedadam"}},
     "FedAvg averages at edges between clients and cloud (2 rounds of an edge in one of the cloud; "
     "an edge has the clients of a tier of devices), with fedadam at the cloud.", "1905.06641"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "more", "sentence", "source"), SAID)
def test_each_schedule_is_told_with_its_source(
    tmp_path: Path, write, kind: str, more: dict, sentence: str, source: str
) -> None:
    write_clocked(write, tmp_path / "run", kind, rounds=2, schedule=more, per_client=False)
    if kind == "synchronous":
        assert "schedule" not in load(tmp_path).table.columns
    text, entries = methods(load(tmp_path))
    assert sentence in plain(text)
    assert "Time is simulated on devices of the profiles phone-low to phone-high:" in plain(text)
    asked = ("2106.06639", "1903.03934", "1905.06641")
    assert [s for s in asked if any(s in entry for entry in entries)] == [source] * bool(source)
    cited = {key for group in re.findall(r"\\cite\{([^}]*)\}", text) for key in group.split(",")}
    assert cited == {bibtex_key(entry) for entry in entries}
    assert "%" not in text.replace(r"\%", "")


def test_every_strategy_has_its_sentence(tmp_path: Path, write) -> None:
    for kind in ("synchronous", "buffered"):
        write_clocked(write, tmp_path / kind, kind, rounds=2, per_client=False)
    text = plain(methods(load(tmp_path))[0])
    assert "FedAvg waits in every round" in text and "FedBuff steps at every 4 updates" in text


def test_without_a_clock_nothing_is_said_of_it(tmp_path: Path, write) -> None:
    write(tmp_path / "run", rounds=2)
    text, entries = methods(load(tmp_path))
    assert "simulated" not in text.replace("We simulate federated", "")
    assert not any("2106.06639" in entry for entry in entries)
