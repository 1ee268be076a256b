"""Edges between clients and cloud: the limit that is no edge, groups, resumed runs, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from simulation.config.errors import ConfigError
from simulation.config.experiment import parse
from simulation.population.availability import zones_of
from simulation.population.deal import prepare
from simulation.population.devices import fleet_of
from simulation.population.edges import edges_of, shares
from simulation.population.partition import label_counts
from simulation.runs.run import Result, simulate
from simulation.worker.executor import Executor
from simulation.worker.faults import ClientError
from tests.simulation.rounds.test_clocked import BASE, SLOW
from tests.simulation.same_bits import StopAfter

EDGES = {"kind": "hierarchical", "edges": 3, "edge_rounds": 2}


def run(tmp_path: Path, name: str = "run", **changes: Any) -> Result:
    return simulate(parse(BASE).replace(devices=SLOW, **changes), out=tmp_path / name)


def events(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path / "events.parquet").to_pylist()


@pytest.mark.parametrize("strategy", ["fedavg", "scaffold", "fedadam"])
def test_one_edge_that_makes_one_round_is_no_edge(strategy: str, tmp_path: Path) -> None:
    """To the bit, and in every line and event."""
    plain = run(tmp_path, "plain", strategy=strategy)
    one = {"kind": "hierarchical", "edges": 1, "edge_rounds": 1}
    edged = run(tmp_path, "edged", strategy=strategy, schedule=one)
    assert edged.weights.tobytes() == plain.weights.tobytes()
    for line, wanted in zip(edged.rounds, plain.rounds, strict=True):
        assert {k: line[k] for k in wanted if k != "seconds"} == {
            k: v for k, v in wanted.items() if k != "seconds"
        }
    also = {"edge": 0, "edge_round": 1}
    assert events(edged.path) == [one | also for one in events(plain.path)]


def test_edges_ask_clients_of_their_own_and_the_cloud_waits_for_the_slowest(tmp_path: Path) -> None:
    plan = {**EDGES, "edge_up": 2e3, "edge_down": 8e3, "edge_latency": 1.5}
    result = run(tmp_path, schedule=plan)
    experiment = parse(BASE).replace(devices=SLOW, schedule=plan)
    assert experiment.devices is not None
    edges = edges_of(experiment, fleet_of(experiment.devices, 12, 0))
    sent, clock = 4 * result.spec.size, 0.0
    for line in result.rounds[1:]:
        rows = [one for one in events(result.path) if one["round"] == line["round"]]
        ends = []
        for place, members in enumerate(edges.members):
            now = clock + 1.5 + sent / 8e3
            for turn in (1, 2):
                mine = [e for e in rows if (e["edge"], e["edge_round"]) == (place, turn)]
                assert len(mine) == 2 and {e["client"] for e in mine} <= set(members.tolist())
                assert {e["dispatched"] for e in mine} == {now}
                now = max(e["arrived"] for e in mine)
            ends.append(now + 1.5 + sent / 2e3)
        clock = max(ends)
        assert line["virtual_seconds"] == pytest.approx(clock, rel=1e-12)
        assert line["clients"] == len(rows) == 12
        assert line["bytes_up"] == line["bytes_down"] == 12 * sent
        assert line["cloud_bytes_up"] == line["cloud_bytes_down"] == 3 * sent
        assert line["energy_joules"] > 0 and 0 < line["utilisation"] < 1
        clock = line["virtual_seconds"]


@pytest.mark.parametrize(
    ("strategy", "cloud"),
    [
        ("scaffold", None),
        ("fedavg", {"name": "fedadam", "learning_rate": 0.1}),
        ("median", "median"),
    ],
)
def test_a_resumed_run_equals_one_that_went_through(
    strategy: str, cloud: Any, tmp_path: Path
) -> None:
    plan = EDGES if cloud is None else {**EDGES, "cloud": cloud}
    wanted = parse(BASE).replace(devices=SLOW, schedule=plan, strategy=strategy, rounds=4)
    whole = simulate(wanted, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        simulate(wanted, out=tmp_path / "half", listener=StopAfter(2))
    resumed = simulate(wanted, out=tmp_path / "half", resume=True)
    assert resumed.weights.tobytes() == whole.weights.tobytes()
    assert events(resumed.path) == events(whole.path)


def test_clients_are_grouped_by_order_speed_labels_zones_and_columns(tmp_path: Path) -> None:
    base = {"clients": 12, "cohort": 6, "schedule": {**EDGES, "group_by": "order"}}

    def groups(**changes: Any) -> list[list[int]]:
        experiment = parse(BASE).replace(**{**base, "devices": SLOW, **changes})
        assert experiment.devices is not None
        fleet = fleet_of(experiment.devices, 12, 0)
        return [members.tolist() for members in edges_of(experiment, fleet).members]

    assert groups() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    dealt = groups(schedule=EDGES)
    assert (
        sorted(client for group in dealt for client in group) == list(range(12))
        and dealt != groups()
    )
    speed = fleet_of(parse(BASE).replace(devices=SLOW).devices, 12, 0).step_seconds  # type: ignore[arg-type]
    order = np.argsort(speed).tolist()
    fast = groups(schedule={**EDGES, "group_by": "speed"})
    assert fast == [sorted(order[:4]), sorted(order[4:8]), sorted(order[8:])]
    zones = {"availability": "diurnal", "time_zones": [-5, 8]}
    by_zone = {"kind": "hierarchical", "group_by": "time-zone"}
    found = groups(devices=zones, schedule=by_zone)
    hours = zones_of(parse(BASE).replace(devices=zones).devices, 12, 0)  # type: ignore[arg-type]
    assert found == [np.flatnonzero(hours == hour).tolist() for hour in (-5, 8)]
    file = tmp_path / "devices.csv"
    places = ["north", "south"] * 6
    file.write_text(
        "client,step_seconds,edge\n" + "".join(f"{i},1,{p}\n" for i, p in enumerate(places))
    )
    by_column = {"kind": "hierarchical", "group_by": "column"}
    given = {"kind": "file", "path": str(file)}
    assert groups(devices=given, schedule=by_column) == [[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9, 11]]


def test_edges_of_like_labels(tmp_path: Path) -> None:
    plan = {**EDGES, "group_by": "labels", "edge_rounds": 1}
    result = run(tmp_path, schedule=plan, cohort=12, rounds=1)
    data, parts = prepare(parse(BASE))
    assert data.labels is not None and data.classes is not None
    main = label_counts(parts, range(12), data.labels, data.classes).argmax(axis=1)
    edge = {one["client"]: one["edge"] for one in events(result.path)}
    order = np.argsort(main, kind="stable").tolist()
    assert [edge[client] for client in order] == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize(
    ("cohort", "sizes", "wanted"),
    [(10, [10], [10]), (6, [4, 4, 4], [2, 2, 2]), (5, [100, 3, 1], [3, 1, 1]), (8, [6, 2], [6, 2])],
)
def test_a_cohort_is_shared_in_proportion(cohort: int, sizes: list[int], wanted: list[int]) -> None:
    assert shares(cohort, sizes) == wanted


def test_edges_whose_clients_are_away_sit_out(tmp_path: Path) -> None:
    """Edge 0 is there for the first second alone: its second round has nobody."""
    file = tmp_path / "trace.csv"
    rows = [(i, 0, 0.5 if i < 4 else 1e6) for i in range(12)]
    file.write_text("client,start,end\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows))
    devices = {**SLOW, "availability": "trace", "trace": str(file)}
    plan = {**EDGES, "group_by": "order"}
    wanted = parse(BASE).replace(devices=devices, schedule=plan, rounds=2)
    result = simulate(wanted, out=tmp_path / "run")
    asked = [(e["round"], e["edge"], e["edge_round"]) for e in events(result.path)]
    assert {one for one in asked if one[1] == 0} == {(1, 0, 1)}
    assert {one for one in asked if one[1] > 0} == {
        (number, edge, turn) for number in (1, 2) for edge in (1, 2) for turn in (1, 2)
    }
    assert [line["cloud_bytes_up"] // (4 * result.spec.size) for line in result.rounds[1:]] == [
        3,
        2,
    ]


BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"schedule": "hierarchical"},
        "schedule.edges must be given where schedule.group_by is 'random', got none",
    ),
    (
        {"schedule": {**EDGES, "edges": 13}},
        "schedule.edges must be at most clients (12), got 13",
    ),
    (
        {"schedule": {**EDGES, "edges": 7}},
        "schedule.edges must be at most the cohort (6), of which every edge asks somebody, got 7",
    ),
    (
        {"schedule": {**EDGES, "group_by": "tier"}},
        "schedule.edges must be left out where schedule.group_by is 'tier', which says how many "
        "there are, got 3",
    ),
    (
        {"schedule": {"kind": "buffered", "edges": 2}},
        "schedule.edges must be left out for the schedule 'buffered', got 2",
    ),
    (
        {"schedule": {**EDGES, "edge_rounds": 0}},
        "schedule.edge_rounds must be >= 1, got 0",
    ),
    (
        {"schedule": {**EDGES, "edge_up": 0.0}},
        "schedule.edge_up must be > 0, got 0.0",
    ),
    (
        {"schedule": {"kind": "hierarchical", "group_by": "time-zone"}},
        "schedule.group_by must be another than 'time-zone' unless devices.availability is "
        "'diurnal', got 'always'",
    ),
    (
        {"schedule": {"kind": "hierarchical", "group_by": "column"}},
        "schedule.group_by must be another than 'column' for devices that are not of a file, "
        "got 'equal'",
    ),
    (
        {"schedule": EDGES, "sampling": "power-of-choice"},
        "sampling must be another with the schedule 'hierarchical', whose edges do not wait for "
        "each other's losses, got 'power-of-choice'",
    ),
]


@pytest.mark.parametrize(("changes", "line"), BAD, ids=lambda value: str(value)[:60])
def test_bad_edges_are_one_line(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(BASE | {"devices": "equal"} | changes)
    assert str(caught.value) == line


UNFIT: list[tuple[dict[str, Any], str]] = [
    (
        {"schedule": {**EDGES, "cloud": "fedprox"}},
        "schedule.cloud must be another strategy, as its clients train in a way of their own, "
        "which edges do not, got 'FedProx'",
    ),
    (
        {"schedule": {**EDGES, "cloud": "fednova"}},
        "schedule.cloud must be another strategy, as it goes by clients' steps of SGD, which edges "
        "do not take, got 'FedNova'",
    ),
    (
        {"schedule": {**EDGES, "cloud": {"name": "dp-fedavg", "noise_multiplier": 1.0}}},
        "schedule.cloud must be another strategy, as its account of privacy is one of clients, "
        "got 'DP-FedAvg'",
    ),
    (
        {
            "schedule": {"kind": "hierarchical", "group_by": "tier"},
            "devices": {"kind": "tiers", "shares": [1.0, 1.0, 1e-9]},
        },
        "schedule.group_by must give every edge clients, got none of 12 for 'phone-high' (tier)",
    ),
    (
        {
            "schedule": {"kind": "hierarchical", "group_by": "tier"},
            "devices": {"kind": "tiers"},
            "cohort": 2,
        },
        "schedule.group_by must give at most as many edges as the cohort has clients (2), got 3 "
        "(tier)",
    ),
]


@pytest.mark.parametrize(("changes", "line"), UNFIT, ids=lambda value: str(value)[:60])
def test_edges_that_cannot_be_are_one_line(
    changes: dict[str, Any], line: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        simulate(parse(BASE | {"devices": "equal"} | changes), out=tmp_path / "run")
    assert str(caught.value) == line
    assert not (tmp_path / "run").exists()


def test_a_client_that_fails_is_told_with_the_round_of_the_cloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails in the second round of its edge in the cloud's second: the fourth that is drawn."""
    plain, failing = Executor.train_clients, set[int]()

    def sometimes(self: Executor, clients: Any, inputs: Any, states: Any, **more: Any) -> Any:
        if inputs.round == 4 and 0 in clients:
            failing.add(inputs.round)
            raise RuntimeError("no power")
        return plain(self, clients, inputs, states, **more)

    monkeypatch.setattr(Executor, "train_clients", sometimes)
    everybody = {"cohort": 12, "rounds": 2, "schedule": {**EDGES, "edges": 2}}
    with pytest.raises(ClientError, match=r"^round 2, client 0: RuntimeError: no power"):
        run(tmp_path, "strict", **everybody)
    result = run(tmp_path, **everybody, **{"faults.on_client_error": "skip"})
    lost = [e for e in events(result.path) if not e["used"]]
    assert [(e["round"], e["edge_round"], e["client"], e["reason"]) for e in lost] == [
        (2, 2, 0, "failed")
    ]
    assert failing == {4} and result.rounds[2]["clients_lost"] == 1
    assert result.rounds[2]["clients"] == 23
