"""Runs on a virtual clock: how they are read, named and grouped, and their curves."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import FIGURES, load, plots
from analysis.plots.base import quantity, scale
from analysis.report import draw_one
from tests.analysis.clocked import BYTES, SCHEDULES, lines_of, simulate, write_clocked

NAMES = {
    "synchronous": "FedAvg",
    "deadline": "FedAvg, deadline",
    "buffered": "FedBuff",
    "asynchronous": "FedAsync",
}


def test_a_schedule_is_part_of_what_is_compared(tmp_path: Path, write) -> None:
    for kind in SCHEDULES:
        for seed in range(2):
            write_clocked(write, tmp_path / f"{kind}{seed}", kind, seed=seed, rounds=3)
    runs = load(tmp_path)
    assert {r: runs.table.at[r, "label"] for r in runs.table.index} == {
        f"{kind}{seed}": name for kind, name in NAMES.items() for seed in range(2)
    }
    assert list(runs.settings) == [""]


def test_keys_that_differ_are_named(tmp_path: Path, write) -> None:
    for i, buffer in enumerate((4, 8)):
        more = {"buffer": buffer}
        write_clocked(write, tmp_path / f"b{i}", "buffered", rounds=2, schedule=more)
    write_clocked(write, tmp_path / "other", "buffered", rounds=2, label="FedProx(mu=0.1)")
    assert load(tmp_path).table["label"].to_dict() == {
        "b0": "FedBuff(buffer=4)", "b1": "FedBuff(buffer=8)", "other": "FedProx(mu=0.1)",
    }  # fmt: skip
    write_clocked(write, tmp_path / "waits", "synchronous", rounds=2, label="FedProx(mu=0.1)")
    labels = load(tmp_path).table["label"]
    assert labels[["other", "waits"]].tolist() == ["FedProx(mu=0.1), buffered", "FedProx(mu=0.1)"]


def test_other_devices_are_another_setting(tmp_path: Path, write) -> None:
    for kind in ("tiers", "zipf"):
        more = {"devices": {"kind": kind}}
        write_clocked(write, tmp_path / kind, "buffered", rounds=2, experiment=more)
    write(tmp_path / "pooled", "centralised", mode="centralised", rounds=2)
    runs = load(tmp_path)
    assert runs.settings == {
        "devices kind = tiers": ["pooled", "tiers"],
        "devices kind = zipf": ["pooled", "zipf"],
    }


@pytest.mark.parametrize("parts", [1, 3])
def test_events_are_read_whole_and_once(tmp_path: Path, write, parts: int) -> None:
    folder = write_clocked(write, tmp_path / "run", "buffered", rounds=6, parts=parts)
    expected = pd.DataFrame(simulate("buffered", 30, 6, 0))
    if parts > 1:  # a resumed run may have written some of them twice
        expected.tail(3).to_parquet(folder / "events.parquet/00099.parquet", index=False)
    found = load(folder).events
    assert found["tier"].dtype == "category" and found["reason"].dtype == "category"
    for column in expected:
        assert found[column].astype(expected[column].dtype).tolist() == expected[column].tolist()
    assert found["label"].unique().tolist() == ["FedAvg"]


def test_events_without_a_column_are_named(tmp_path: Path, write) -> None:
    folder = write_clocked(write, tmp_path / "run", "buffered", rounds=2)
    frame = pd.read_parquet(folder / "events.parquet").drop(columns="joules")
    frame.to_parquet(folder / "events.parquet")
    with pytest.raises(ValueError, match=r"events.parquet: column 'joules' is missing$"):
        _ = load(folder).events


@pytest.mark.parametrize("x", ["virtual_seconds", "energy_joules", "bytes_total"])
def test_curves_stand_where_the_clock_was(tmp_path: Path, write, x: str) -> None:
    for seed in range(3):
        write_clocked(write, tmp_path / f"b{seed}", "buffered", seed=seed, rounds=5)
    write(tmp_path / "pooled", "centralised", mode="centralised", rounds=5)
    rounds = load(tmp_path).rounds
    rounds = rounds[(rounds["mode"] == "federated") | (x != "bytes_total")]
    ax = plots.curves(rounds, x=x)
    (line,) = ax.lines
    lines = [lines_of(tmp_path / f"b{seed}") for seed in range(3)]
    if x == "bytes_total":
        at = np.cumsum([r["bytes_up"] + r["bytes_down"] for r in lines[0]])
    else:
        at = np.mean([[r[x] for r in one] for one in lines], axis=0)
    np.testing.assert_allclose(line.get_xdata() * scale(x, max(at))[0], at, rtol=1e-12)
    means = np.mean([[r["server_accuracy"] for r in one] for one in lines], axis=0)
    np.testing.assert_allclose(line.get_ydata(), 100 * means, rtol=1e-12)


def test_units_follow_the_size() -> None:
    assert quantity("virtual_seconds", 100.0) == "100 s"
    assert quantity("virtual_seconds", 4 * 3600.0) == "4.00 h"
    assert quantity("virtual_seconds", 5 * 86400.0) == "5.00 d"
    assert quantity("elapsed", 5 * 86400.0) == "120 h"
    assert quantity("energy_joules", 12.0) == "12.0 J"
    assert quantity("energy_joules", 3.2e6) == "3.20 MJ"


def test_the_measure_of_the_runs_is_drawn(tmp_path: Path, write) -> None:
    write_clocked(write, tmp_path / "runs/b", "buffered", rounds=4)
    runs = load(tmp_path / "runs").by("client_accuracy")
    assert FIGURES["accuracy_energy"].applies(runs)
    picture, files = draw_one(
        "accuracy_virtual_time", runs, tmp_path, "default", "ci", False, None, ()
    )
    assert picture.caption.startswith("Client accuracy against virtual time") and files == []


def test_the_generator_keeps_its_word() -> None:
    events = pd.DataFrame(simulate("buffered", 30, 20, 0))
    used = events[events["used"]]
    assert (used.groupby("round").size() == SCHEDULES["buffered"]["buffer"]).all()
    assert (events["staleness"] >= 0).all() and (events["bytes_up"] == BYTES).all()
    assert used["arrived"].is_monotonic_increasing
