"""Times of runs that share workers: what these computed, without compilation, or a warning."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from analysis import load
from analysis.cautions import cautions
from analysis.drawing import round_time, time_curves
from analysis.panelled import Options
from analysis.tables import cost_table
from analysis.working_time import at_the_same_time

BEGAN = datetime(2026, 5, 1, 10, tzinfo=UTC)
WORK = {0: [3.0], 1: [9.0, 1.0], 2: [1.0, 1.0], 3: [2.0, 2.0], 4: [3.0, 3.0]}
"""How long each call of a round took: the first ones compile."""


def share(folder: Path, later: float, work: dict[int, list[float]] | None = WORK) -> Path:
    """Let a run begin some seconds after the first one, and record what its workers did."""
    config = json.loads((folder / "config.json").read_text())
    config["created"] = (BEGAN + timedelta(seconds=later)).isoformat(timespec="seconds")
    (folder / "config.json").write_text(json.dumps(config))
    rows = [(r, t) for r, calls in (work or {}).items() for t in calls]
    if rows:
        frame = pd.DataFrame(rows, columns=["round", "end"]).assign(worker=0, start=100.0)
        frame.assign(end=frame["end"] + 100.0).to_parquet(folder / "timeline.parquet")
    return folder


def test_costs_are_what_workers_computed_without_compilation(tmp_path, make_run) -> None:
    first = share(make_run(tmp_path / "first", "FedAvg", rounds=4), 0)
    warm = WORK | {0: [0.1], 1: [2.0, 2.0]}
    share(make_run(tmp_path / "second", "FedAdam", rounds=4), 1, warm)
    runs = load(tmp_path)
    table = cost_table(runs)
    assert table.header[2:4] == ("Work", "Work/round")
    whole = 4 + 2 + 4 + 6  # the first round counts as the median of the others
    for row in table.rows:
        assert [cell.value for cell in row[2:4]] == pytest.approx([whole, whole / 4])
    assert "compilation left out" in table.caption
    assert not any(text.startswith("Run at the same time") for text in cautions(runs))
    ax = time_curves(runs, Options())
    assert ax.get_xlabel() == "Time of all workers (s)"
    assert ax.lines[0].get_xdata().tolist() == [0, 4, 6, 10, 16]
    assert round_time(runs, Options()).get_xlabel() == "Time of all workers per round (s)"
    lines = pd.read_json(first / "rounds.jsonl", lines=True)
    kept = table.data.set_index("label").loc["FedAvg", "seconds"]
    assert kept == pytest.approx(lines["seconds"].sum())


def test_wall_clock_times_of_runs_at_the_same_time_are_warned_of(tmp_path, make_run) -> None:
    for i, later in enumerate((0, 1, 1000)):
        share(make_run(tmp_path / str(i), "FedAvg", seed=i, rounds=4), later, None)
    runs = load(tmp_path)
    (warning,) = cautions(runs)
    assert warning.startswith("Run at the same time: 2 of 3 runs.")
    table = cost_table(runs)
    assert table.header[2:4] == ("Time", "Time/round")
    assert "wall-clock" in table.caption and "compilation included" in table.caption
    assert time_curves(runs, Options()).get_xlabel().startswith("Wall-clock time")
    assert cautions(runs.only(["0", "2"])) == []


def test_one_run_without_a_timeline_is_enough_to_compare_by_the_wall_clock(
    tmp_path, make_run
) -> None:
    share(make_run(tmp_path / "a", "FedAvg", rounds=4), 0)
    share(make_run(tmp_path / "b", "FedAdam", rounds=4), 1000, None)
    assert cost_table(load(tmp_path)).header[2] == "Time"


def test_runs_overlap_where_their_rounds_do() -> None:
    def config(later: float) -> dict[str, str]:
        return {"created": (BEGAN + timedelta(seconds=later)).isoformat()}

    long = {"a": config(0), "b": config(10), "c": config(20), "d": config(131), "e": {}}
    elapsed = {"a": 100.0, "b": 5.0, "c": 112.0, "d": 10.0, "e": 1000.0}
    assert at_the_same_time(long, elapsed) == ["a", "b", "c"]  # d begins as c ends
