"""Devices: durations and energy by their formula, draws, files, availability, and bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simulation.config.devices import TIERS, Devices
from simulation.config.errors import ConfigError
from simulation.config.experiment import parse
from simulation.population.availability import availability_of
from simulation.population.devices import fleet_of, work_of
from simulation.population.profiles import TABLE

SEED = 3


def test_a_duration_is_download_steps_and_upload() -> None:
    said = {"step_seconds": 0.5, "up": 100.0, "down": 400.0, "latency": 0.25}
    watts = {"idle_watts": 1.0, "compute_watts": 10.0, "network_watts": 2.0}
    fleet = fleet_of(Devices(**said, **watts), 3, SEED)
    found = fleet.durations([0, 2], np.array([4, 6]), np.array([40, 60]), down=800, up=200)
    for total, steps in zip(found.total, (4, 6), strict=True):
        assert total == (0.25 + 800 / 400) + steps * 0.5 + (0.25 + 200 / 100)
    assert found.compute.tolist() == [2.0, 3.0]
    assert found.joules.tolist() == [s * 10.0 + 4.0 * 2.0 + 0.5 * 1.0 for s in (2.0, 3.0)]


def test_examples_a_second_count_every_epoch_and_short_batches() -> None:
    work = work_of(np.array([70, 0, 32]), epochs=2, batch=32)
    assert work.steps.tolist() == [6, 0, 2] and work.examples.tolist() == [140, 0, 64]
    whole = work_of(np.array([70, 0, 32]), epochs=1, batch=None)
    assert whole.steps.tolist() == [1, 0, 1] and whole.examples.tolist() == [70, 0, 32]
    fleet = fleet_of(Devices(examples_per_second=10.0), 3, SEED)
    took = fleet.durations([0, 1, 2], work.steps, work.examples, 8, 8)
    np.testing.assert_allclose(took.total, [14.0, 0.0, 6.4], rtol=1e-15)


@pytest.mark.parametrize("kind", ["lognormal", "uniform", "zipf"])
def test_draws_have_their_law_and_are_the_seeds(kind: Any) -> None:
    devices = Devices(kind=kind, step_seconds=2.0)
    slow = fleet_of(devices, 20_000, SEED).step_seconds / 2
    again = fleet_of(devices, 20_000, SEED).step_seconds / 2
    assert slow.tobytes() == again.tobytes()
    assert fleet_of(devices, 20_000, SEED + 1).step_seconds[0] != slow[0] * 2 or kind == "zipf"
    if kind == "lognormal":
        assert np.log(slow).std() == pytest.approx(1.0, abs=0.03)
        assert np.median(slow) == pytest.approx(1.0, abs=0.05)
    elif kind == "uniform":
        assert slow.min() >= 1 and slow.max() <= 5 and slow.mean() == pytest.approx(3, abs=0.05)
    else:  # P(k) is k^-2 / zeta(2)
        assert (slow == 1).mean() == pytest.approx(6 / np.pi**2, abs=0.02)


def test_tiers_have_their_shares_and_the_figures_of_their_profiles() -> None:
    fleet = fleet_of(Devices(kind="tiers", shares=(1.0, 2.0, 1.0)), 400, SEED)
    names = fleet.tiers_of(range(400))
    assert [names.count(name) for name in TIERS] == [100, 200, 100]
    for client, name in enumerate(names):
        assert fleet.example_seconds[client] == 1 / TABLE[name].examples_per_second
        assert fleet.up[client] == TABLE[name].up
    thirds = fleet_of(Devices(kind="lognormal"), 9, SEED)
    order = np.argsort(thirds.step_seconds)
    assert thirds.tiers_of(order) == ["fast"] * 3 + ["medium"] * 3 + ["slow"] * 3


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_files_of_both_kinds(tmp_path: Path, suffix: str) -> None:
    columns = {"client": [1, 0, 2], "step_seconds": [0.1, 0.2, 0.3], "tier": ["a", "b", "a"]}
    path = tmp_path / f"devices{suffix}"
    if suffix == ".csv":
        rows = zip(*columns.values(), strict=True)
        lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    else:
        pq.write_table(pa.table(columns), path)
    fleet = fleet_of(Devices(path=path), 3, SEED)
    assert fleet.step_seconds.tolist() == [0.2, 0.1, 0.3]
    assert fleet.tiers_of([0, 1, 2]) == ["b", "a", "a"] and np.isinf(fleet.up).all()


def test_traces_of_the_kind_of_fedscale(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("computation,communication\n20,8000\n40,80\n")
    fleet = fleet_of(Devices(path=path), 50, SEED)
    assert set(fleet.example_seconds.tolist()) == {20 * 3 / 1000, 40 * 3 / 1000}
    slow = fleet.example_seconds > 0.1
    assert set(fleet.up[slow].tolist()) == {80 * 1000 / 8} and (fleet.up == fleet.down).all()


def test_availability_by_chance_by_the_hour_and_by_a_trace(tmp_path: Path) -> None:
    half = availability_of(Devices(availability=0.5, period=10.0), 10_000, SEED)
    first, last = half.at(0.0), half.at(9.9)
    later = half.at(10.0)
    assert first is not None and last is not None and later is not None
    assert (first == last).all() and (first != later).any() and half.next_change(3.0) == 10.0
    assert first.mean() == pytest.approx(0.5, abs=0.02)
    daily = Devices(
        availability="diurnal", lowest=0.1, highest=0.9, peak_hour=0.0, time_zones=(0.0, 12.0)
    )
    there = availability_of(daily, 20_000, SEED)
    mask = there.at(0.0)
    assert mask is not None
    at_peak = there.zones == 0.0  # type: ignore[union-attr]
    assert mask[at_peak].mean() == pytest.approx(0.9, abs=0.02)
    assert mask[~at_peak].mean() == pytest.approx(0.1, abs=0.02)
    path = tmp_path / "there.csv"
    path.write_text("client,start,end\n0,0,10\n1,5,20\n2,15,15\n")
    trace = availability_of(Devices(trace=path), 3, SEED)

    def who(seconds: float) -> list[int]:
        found = trace.at(seconds)
        assert found is not None
        return np.flatnonzero(found).tolist()

    assert [who(t) for t in (0.0, 5.0, 10.0, 19.0, 20.0, 25.0)] == [
        [0], [0, 1], [1], [1], [0], [0, 1],
    ]  # fmt: skip
    assert [trace.next_change(t) for t in (0.0, 5.0, 12.0, 15.0)] == [5.0, 10.0, 20.0, 20.0]


BAD = [
    ({"step_seconds": 0}, "devices.step_seconds must be > 0, got 0"),
    ({"examples_per_second": -1}, "devices.examples_per_second must be > 0, got -1"),
    (
        {"kind": "equal", "spread": 2.0},
        "devices.spread must be left out for devices of the kind 'equal', got 2.0",
    ),
    (
        {"step_seconds": 1.0, "examples_per_second": 2.0},
        "devices.step_seconds and devices.examples_per_second must not both be given, got 1 and 2",
    ),
    ({"kind": "zipf", "spread": 1.0}, "devices.spread must be > 1 for the kind 'zipf', got 1.0"),
    ({"kind": "file"}, "devices.path must be given for the kind 'file', got none"),
    (
        {"kind": "tiers", "shares": [1, 2]},
        "devices.shares must have one for each of 3 profiles, got 2",
    ),
    (
        {"kind": "tiers", "profiles": ["phone"]},
        "devices.profiles must be of phone-low, phone-mid, phone-high, laptop, server, got 'phone'",
    ),
    (
        {"availability": 1.5},
        "devices.availability must be 'always', 'diurnal', 'trace' or a probability in (0, 1], "
        "got 1.5",
    ),
    (
        {"lowest": 0.2},
        "devices.lowest must be left out unless devices.availability is diurnal, got 0.2",
    ),
    (
        {"path": "nowhere.csv"},
        "devices.path must be a file, got 'nowhere.csv' (No such file or directory)",
    ),
]


@pytest.mark.parametrize(("devices", "line"), BAD, ids=lambda value: str(value)[:40])
def test_bad_devices_are_one_line(devices: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"devices": devices})
    assert str(caught.value) == line


FILES = [
    ("up\n3\n", "must have one of the columns step_seconds, examples_per_second, computation, "),
    ("step_seconds\n1\n-2\n", ": the column step_seconds must be > 0, got -2 in row 1 "),
    ("step_seconds\n1\n0\n", ": the column step_seconds must be > 0, got 0 in row 1 "),
    ("step_seconds\nfast\n", ": the column step_seconds must be numbers, got text "),
    ("client,step_seconds\n0,1\n2,1\n", " must have a row for each of 3 clients, got none for "),
    ("step_seconds\n", " must have rows, got none "),
]


@pytest.mark.parametrize(("content", "line"), FILES, ids=range(len(FILES)))
def test_bad_files_are_one_line(content: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / "devices.csv"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        fleet_of(Devices(path=path), 3, SEED)
    assert str(caught.value).startswith("devices.path") and line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trace_that_never_lets_anyone_in_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "there.csv"
    path.write_text("client,start,end\n7,0,10\n1,5,5\n")
    with pytest.raises(ConfigError) as caught:
        availability_of(Devices(trace=path), 3, SEED)
    assert str(caught.value) == (
        f"devices.trace must let one of 3 clients in at some moment, got none ({path})"
    )


def test_the_content_of_a_file_decides_not_its_place(tmp_path: Path) -> None:
    runs = []
    for name, text in (("a", "step_seconds\n1\n"), ("b", "step_seconds\n1\n"), ("c", "up\n1\n")):
        (tmp_path / name).write_text(text)
        runs.append(parse({"devices": {"path": str(tmp_path / name)}}).digest())
    assert runs[0] == runs[1] != runs[2]
