"""Rounds on a simulated clock: how long they take, who is late, and what stays as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment, parse
from simulation.population.deal import prepare
from simulation.population.devices import fleet_of, work_of
from simulation.runs.run import Result, simulate
from strategies import Cohort
from tests.simulation import same_bits
from tests.simulation.same_bits import StopAfter

BASE: dict[str, Any] = {
    "dataset": "fashion-mnist-mini",
    "model": f"{same_bits.HERE}:tiny",
    "clients": 12,
    "cohort": 6,
    "rounds": 3,
    "partition": {"alpha": 0.5},
    "evaluation": {"clients": False, "server": False},
    "resources": {"engine": "inline"},
}
SLOW = {"kind": "lognormal", "step_seconds": 0.5, "up": 1e4, "down": 4e4, "compute_watts": 2.0}


def run(tmp_path: Path, name: str = "run", **changes: Any) -> Result:
    return simulate(parse(BASE).replace(**changes), out=tmp_path / name)


def events(path: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(path / "events.parquet")
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}


def seconds_of(experiment: Experiment, parameters: int) -> np.ndarray:
    """Every client's time, by the formula."""
    assert experiment.devices is not None
    sizes = prepare(experiment)[1].train_sizes
    work = work_of(sizes, experiment.training.local_epochs, experiment.training.batch_size)
    fleet = fleet_of(experiment.devices, experiment.clients, experiment.seed)
    sent = 4 * parameters
    return sent / fleet.down + work.steps * fleet.step_seconds + sent / fleet.up


def test_a_clock_changes_no_bit_and_a_round_takes_as_long_as_its_slowest(tmp_path: Path) -> None:
    plain = run(tmp_path, "plain")
    clocked = run(tmp_path, "clocked", devices=SLOW)
    assert clocked.weights.tobytes() == plain.weights.tobytes()
    assert "virtual_seconds" not in plain.rounds[1]
    assert not (plain.path / "events.parquet").exists()
    seconds = seconds_of(parse(BASE | {"devices": SLOW}), clocked.spec.size)
    clock, joules, found = 0.0, 0.0, events(clocked.path)
    assert clocked.rounds[0]["virtual_seconds"] == 0.0
    for number in (1, 2, 3):
        cohort = Cohort(size=6).sample(number, 12)
        rows = {name: column[found["round"] == number] for name, column in found.items()}
        assert rows["client"].tolist() == cohort and rows["used"].all()
        assert (rows["dispatched"] == clock).all() and (rows["version"] == number - 1).all()
        np.testing.assert_allclose(rows["arrived"], clock + seconds[cohort], rtol=1e-12)
        clock += seconds[cohort].max()
        joules += rows["joules"].sum()
        line = clocked.rounds[number]
        assert line["virtual_seconds"] == pytest.approx(clock, rel=1e-12)
        assert line["energy_joules"] == pytest.approx(joules, rel=1e-12)
        assert line["staleness_mean"] == line["staleness_max"] == 0
        assert 0 < line["utilisation"] < 1
        assert line["bytes_up"] == rows["bytes_up"].sum()
        assert line["bytes_down"] == rows["bytes_down"].sum()


def test_equal_speed_without_limits_of_the_network_is_rounds_times_steps_times_seconds(
    tmp_path: Path,
) -> None:
    even = {"partition": {"kind": "iid", "validation": 0.0}, "training.local_epochs": 2}
    result = run(tmp_path, devices={"step_seconds": 0.25}, **even)
    sizes = prepare(parse(BASE).replace(**even))[1].train_sizes
    assert len(set(sizes.tolist())) == 1
    steps = 2 * -(-int(sizes[0]) // 32)
    assert result.rounds[-1]["virtual_seconds"] == 3 * steps * 0.25
    assert result.rounds[-1]["utilisation"] == 1.0


def test_who_is_late_does_not_count(tmp_path: Path) -> None:
    late = {"kind": "deadline", "deadline": "50%"}
    result = run(tmp_path, devices=SLOW, schedule=late)
    seconds = seconds_of(parse(BASE | {"devices": SLOW}), result.spec.size)
    found, clock = events(result.path), 0.0
    for number in (1, 2, 3):
        cohort = Cohort(size=6).sample(number, 12)
        limit = np.percentile(seconds[cohort], 50)
        rows = {name: column[found["round"] == number] for name, column in found.items()}
        assert rows["client"].tolist() == cohort
        assert rows["used"].tolist() == (seconds[cohort] <= limit).tolist()
        assert rows["reason"].tolist() == ["" if s <= limit else "late" for s in seconds[cohort]]
        clock += limit
        assert result.rounds[number]["virtual_seconds"] == pytest.approx(clock, rel=1e-12)
        assert result.rounds[number]["clients"] == 3


def test_who_is_late_counts_with_what_was_done_by_then(tmp_path: Path) -> None:
    whole = {"devices": {"step_seconds": 1.0}, "cohort": 12, "rounds": 1, "training.batch_size": 4}
    sizes = prepare(parse(BASE).replace(**whole))[1].train_sizes.astype(int)
    steps = -(-sizes // 4)
    deadline = int(np.median(steps)) + 0.5
    plan = {"kind": "deadline", "deadline": deadline, "late": "partial"}
    result = run(tmp_path, schedule=plan, **whole)
    found = events(result.path)
    assert (steps > deadline).any() and found["used"].all()
    assert found["steps"].tolist() == np.minimum(steps, int(deadline)).tolist()
    table = pq.read_table(result.path / "clients.parquet")
    assert table["steps"].to_pylist() == found["steps"].tolist()
    assert result.rounds[1]["virtual_seconds"] == deadline


def test_over_selection_takes_the_fastest_devices(tmp_path: Path) -> None:
    more = {"devices": SLOW, "realism.over_selection": 0.5}
    result = run(tmp_path, **more)
    seconds = seconds_of(parse(BASE | {"devices": SLOW}), result.spec.size)
    asked, found = Cohort(size=9).sample(1, 12), events(result.path)
    first = {name: column[found["round"] == 1] for name, column in found.items()}
    assert first["client"].tolist() == asked
    fastest = sorted(sorted(asked, key=lambda c: seconds[c])[:6])
    assert first["client"][first["used"]].tolist() == fastest
    assert result.rounds[1]["virtual_seconds"] == pytest.approx(seconds[fastest].max(), rel=1e-12)


def test_a_round_begins_when_somebody_is_there(tmp_path: Path) -> None:
    path = tmp_path / "there.csv"
    path.write_text("client,start,end\n3,100,200\n5,100,200\n")
    result = run(tmp_path, devices={"step_seconds": 1e-3, "trace": str(path)}, rounds=1)
    found = events(result.path)
    assert found["client"].tolist() == [3, 5] and (found["dispatched"] == 100).all()


def test_a_resumed_run_has_the_clock_and_the_events_of_one_that_went_through(
    tmp_path: Path,
) -> None:
    experiment = parse(BASE).replace(
        devices={**SLOW, "availability": 0.7, "period": 2.0},
        schedule={"kind": "deadline", "deadline": "80%"},
        rounds=4,
    )
    whole = simulate(experiment, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        simulate(experiment, out=tmp_path / "half", listener=StopAfter(2))
    resumed = simulate(experiment, out=tmp_path / "half", resume=True)
    assert resumed.weights.tobytes() == whole.weights.tobytes()
    keys = ("virtual_seconds", "energy_joules", "utilisation")
    assert [[r[k] for k in keys] for r in resumed.rounds] == [
        [r[k] for k in keys] for r in whole.rounds
    ]
    first, second = events(whole.path), events(resumed.path)
    for name, column in first.items():
        np.testing.assert_array_equal(second[name], column)


BAD = [
    (
        {"schedule": {"kind": "deadline", "deadline": 3}},
        "schedule must be 'synchronous' without devices, which say how long clients take, "
        "got 'deadline'",
    ),
    (
        {"devices": "equal", "schedule": "deadline"},
        "schedule.deadline must be given for the schedule 'deadline', got none",
    ),
    (
        {"devices": "equal", "schedule": {"deadline": 3.0}},
        "schedule.deadline must be left out for the schedule 'synchronous', got 3.0",
    ),
    (
        {"devices": "equal", "schedule": {"kind": "deadline", "deadline": "120%"}},
        "schedule.deadline must be seconds (> 0) or a percentile such as '80%', got '120%'",
    ),
    (
        {"devices": "equal", "resources": {"engine": "flower"}},
        "devices must be left out with the engine 'flower', whose rounds have no clock, "
        "got 'equal'",
    ),
]


@pytest.mark.parametrize(("changes", "line"), BAD, ids=lambda value: str(value)[:40])
def test_bad_schedules_are_one_line(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(BASE | changes)
    assert str(caught.value) == line


def test_noise_is_refused_with_a_deadline(tmp_path: Path) -> None:
    plan = {"kind": "deadline", "deadline": 3.0}
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, devices="equal", schedule=plan, strategy="dp-fedavg")
    assert str(caught.value) == (
        "schedule must be 'synchronous' with noise for differential privacy, whose account takes "
        "every client as equally likely to take part, got 'deadline'"
    )
    assert not (tmp_path / "run").exists()
