"""Tables and sentences of the virtual clock, recomputed plainly from the files of the runs."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import FIGURES, Runs, load, report
from analysis.clock_tables import (
    baseline_of,
    clock_findings,
    clock_tables,
    participation_table,
    virtual_time,
    virtual_time_table,
)
from analysis.participation import accuracy_by_tier, contributions, order_of_tiers, tiers_of
from tests.analysis.clocked import TIERS, lines_of, write_clocked

STEPS = {"synchronous": 20, "deadline": 20, "buffered": 60, "asynchronous": 200}
TARGET = 0.7
OF_CLOCK = (
    "accuracy_virtual_time", "virtual_time_to_target", "accuracy_energy", "staleness", "gantt",
    "participation", "tier_accuracy",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write) -> Path:
    """Four schedules of FedAvg, four seeds each, and pooled training, which has no clock."""
    root = tmp_path_factory.mktemp("clock")
    for seed in range(4):
        for kind, rounds in STEPS.items():
            write_clocked(write, root / f"{kind}{seed}", kind, seed=seed, rounds=rounds)
        write(root / f"pooled{seed}", "centralised", mode="centralised", seed=seed, rounds=3)
    return root


@pytest.fixture(scope="module")
def runs(folder: Path) -> Runs:
    """The runs of ``folder``."""
    return load(folder)


def seconds_to_target(folder: Path) -> float:
    hits = [r["virtual_seconds"] for r in lines_of(folder) if r["server_accuracy"] >= TARGET]
    return min(hits, default=np.inf)


def test_speed_ups_are_paired_by_seed(folder: Path, runs: Runs) -> None:
    data = virtual_time(runs, TARGET).set_index("label")
    assert set(data["baseline"]) == {"FedAvg"}
    assert "centralised" not in data.index
    slow = np.array([seconds_to_target(folder / f"synchronous{s}") for s in range(4)])
    names = {"FedBuff": "buffered", "FedAsync": "asynchronous", "FedAvg, deadline": "deadline"}
    p = {}
    for label, kind in names.items():
        fast = np.array([seconds_to_target(folder / f"{kind}{s}") for s in range(4)])
        logs = np.log(slow) - np.log(fast)
        half = stats.t.ppf(0.975, 3) * logs.std(ddof=1) / 2
        row = data.loc[label]
        assert row["median"] == pytest.approx(np.median(fast), rel=1e-12)
        assert row["faster"] == pytest.approx(np.prod(slow / fast) ** 0.25, rel=1e-12)
        assert row["faster_low"] == pytest.approx(np.exp(logs.mean() - half), rel=1e-9)
        assert row["faster_high"] == pytest.approx(np.exp(logs.mean() + half), rel=1e-9)
        p[label] = stats.ttest_rel(np.log(slow), np.log(fast)).pvalue
        assert row["p"] == pytest.approx(p[label], rel=1e-9)
    assert data["p_holm"].min() == pytest.approx(3 * min(p.values()), rel=1e-9)


def test_a_seed_that_never_gets_there_allows_no_speed_up(tmp_path: Path, write) -> None:
    for seed in range(3):
        write_clocked(write, tmp_path / f"s{seed}", "synchronous", seed=seed, rounds=20)
        done, planned = 60 if seed else 2, {"rounds": 60}
        write_clocked(
            write, tmp_path / f"b{seed}", "buffered", seed=seed, rounds=done, experiment=planned
        )
    runs = load(tmp_path)
    row = virtual_time(runs, TARGET).set_index("label").loc["FedBuff"]
    assert np.isfinite(row["median"]) and row["reached"] == 2 and row["n"] == 3
    assert np.isnan(row["faster"])
    (text,) = clock_findings(runs, TARGET)
    assert "FedBuff in" in text and "times as fast" not in text
    cells = {r[0].text: r for r in virtual_time_table(runs, TARGET).rows}["FedBuff"]
    assert cells[2].text.endswith("never") and cells[-1].text == "2/3"


def test_two_seeds_allow_no_interval(tmp_path: Path, write) -> None:
    for seed in range(2):
        write_clocked(write, tmp_path / f"s{seed}", "synchronous", seed=seed, rounds=20)
        write_clocked(write, tmp_path / f"b{seed}", "buffered", seed=seed, rounds=60)
    (text,) = clock_findings(load(tmp_path), TARGET)
    assert "times as fast as FedAvg (2 common seeds allow no interval)" in text


def test_the_baseline_is_synchronous_fedavg(runs: Runs) -> None:
    assert baseline_of(runs) == "FedAvg"
    assert baseline_of(runs.only([f"buffered{s}" for s in range(4)])) == "FedBuff"
    assert baseline_of(runs, "FedAsync") == "FedAsync"
    with pytest.raises(ValueError, match=r"^baseline: must be one of \[.*\], got 'none'$"):
        baseline_of(runs, "none")


def test_contributions_are_counted(folder: Path, runs: Runs) -> None:
    events = runs.events
    assert order_of_tiers(events) == list(TIERS)
    out = contributions(events).astype({"label": str}).set_index(["label", "tier"])
    expected = []
    for seed in range(4):
        frame = pd.read_parquet(folder / f"asynchronous{seed}/events.parquet")
        slow, used = frame["tier"] == "slow", frame["used"]
        everybody: set[int] = set()
        for kind in STEPS:
            everybody |= set(pd.read_parquet(folder / f"{kind}{seed}/events.parquet")["client"])
        waits = frame["arrived"] - frame["dispatched"]
        expected.append(
            {
                "clients": np.mean([client % 3 == 2 for client in everybody]),
                "asked": slow.mean(),
                "used": slow[used].mean(),
                "steps": frame["steps"][used & slow].sum() / frame["steps"][used].sum(),
                "joules": frame["joules"][slow].sum() / frame["joules"].sum(),
                "unused": 1 - used[slow].mean(),
                "seconds": waits[slow].median(),
                "staleness": frame["staleness"][slow & used].mean(),
            }
        )
    row = out.loc[("FedAsync", "slow")]
    for name, value in pd.DataFrame(expected).mean().items():
        assert row[name] == pytest.approx(value, rel=1e-9), name
    assert row["n"] == 4
    for name in ("clients", "asked", "used", "steps", "joules"):
        sums = out[name].groupby(level=0).sum()
        np.testing.assert_allclose(sums, 1.0, rtol=1e-12)


def test_a_tier_that_was_never_asked_has_no_share() -> None:
    rows = {"seed": 0, "setting": "", "mode": "federated", "strategy": "fedavg", "dispatched": 0.0,
            "arrived": 1.0, "staleness": 0, "steps": 1, "joules": 1.0, "used": True}  # fmt: skip
    frame = pd.DataFrame(
        [{**rows, "run": "a", "label": "A", "client": 0, "tier": "x"},
         {**rows, "run": "b", "label": "B", "client": 1, "tier": "y"}]
    )  # fmt: skip
    out = contributions(frame).set_index(["label", "tier"])
    assert out.loc[("A", "y"), ["clients", "asked", "used"]].tolist() == [0.5, 0.0, 0.0]
    assert np.isnan(out.loc[("A", "y"), "unused"])


def test_the_accuracy_of_tiers_leaves_attackers_out(folder: Path, runs: Runs) -> None:
    clients = runs.last_clients
    out = accuracy_by_tier(clients, tiers_of(runs.events)).astype({"label": str})
    means = []
    for seed in range(4):
        frame = pd.read_parquet(folder / f"buffered{seed}/all_clients.parquet")
        known = set(tiers_of(runs.events).query(f"seed == {seed}")["client"])
        rows = frame[(frame["client"] % 3 == 2) & ~frame["attacker"]]
        means.append(rows.loc[rows["client"].isin(known), "accuracy"].mean())
    row = out.set_index(["label", "tier"]).loc[("FedBuff", "slow")]
    assert row["mean"] == pytest.approx(np.mean(means), rel=1e-12)
    assert row["n"] == 4
    table = participation_table(runs)
    assert table.header[:2] == ("Strategy", "Tier") and "Accuracy (%)" in table.header
    assert [r[1].text for r in table.rows[:3]] == list(TIERS)


def test_the_report_has_it_all(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Drawing is what takes long: the other figures have tests of their own.
    module = sys.modules["analysis.report"]  # the package has a function of this name
    monkeypatch.setattr(module, "FIGURES", {name: FIGURES[name] for name in OF_CLOCK})
    files = report(folder, tmp_path, target=TARGET, formats=["svg"])
    names = {p.name for p in files}
    for table in ("virtual_time", "schedules", "participation"):
        assert {f"{table}.csv", f"{table}.tex", f"{table}.md"} <= names
    assert {f"{figure}.svg" for figure in OF_CLOCK} <= names
    page = files[0].read_text()
    assert "On the virtual clock, test accuracy ≥ 70% is reached by FedAvg in " in page
    assert "times as fast as FedAvg (95% interval " in page
    data = pd.read_csv(tmp_path / "tables/virtual_time.csv").set_index("label")
    rows = [lines_of(folder / f"buffered{s}") for s in range(4)]
    joules = [next(r for r in one if r["server_accuracy"] >= TARGET) for one in rows]
    assert data.at["FedBuff", "energy_joules"] == pytest.approx(
        np.median([r["energy_joules"] for r in joules])
    )


def test_without_a_clock_there_is_nothing_of_it(single: Path) -> None:
    runs = load(single)
    assert clock_tables(runs) == [] and clock_findings(runs) == []
    assert not [name for name in OF_CLOCK if FIGURES[name].applies(runs)]
    assert "virtual_seconds" not in runs.rounds and runs.events.empty
