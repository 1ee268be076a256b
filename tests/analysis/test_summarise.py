import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import costs, load, summarise
from analysis.text import ALPHA


@pytest.fixture
def rounds(single: Path) -> pd.DataFrame:
    return load(single).rounds


def values(rounds: pd.DataFrame, label: str, number: int, metric="server_accuracy") -> np.ndarray:
    rows = rounds[(rounds["label"] == label) & (rounds["round"] == number)]
    return rows[metric].to_numpy()


def test_final_is_mean_std_and_t_interval_over_seeds(rounds: pd.DataFrame) -> None:
    out = summarise.final(rounds).set_index("label")
    for label in ("FedAvg", "FedAdam", "centralised"):
        x = values(rounds, label, 20)
        low, high = stats.t.interval(0.95, len(x) - 1, x.mean(), stats.sem(x))
        row = out.loc[label]
        expected = [x.mean(), x.std(ddof=1), stats.sem(x), low, high, x.min(), x.max(), 3]
        found = row[["mean", "std", "se", "low", "high", "min", "max", "n"]].to_numpy(float)
        assert found == pytest.approx(expected, rel=1e-12)


def test_one_seed_has_no_spread(rounds: pd.DataFrame) -> None:
    out = summarise.final(rounds[rounds["seed"] == 0])
    assert out["n"].tolist() == [1] * 5
    assert out[["std", "se", "low", "high"]].isna().all(axis=None)


def test_the_last_measured_round_counts(rounds: pd.DataFrame) -> None:
    rounds = rounds.copy()
    rounds.loc[rounds["round"] > 15, "server_accuracy"] = np.nan
    assert summarise.last(rounds)["round"].unique().tolist() == [15]


def test_best_round(rounds: pd.DataFrame) -> None:
    for metric, pick in (("server_accuracy", max), ("server_loss", min)):
        out = summarise.best(rounds, metric).set_index("run")
        for run, rows in rounds.groupby("run", observed=True):
            assert out.loc[run, metric] == pick(rows[metric])


@pytest.mark.parametrize("band", list(summarise.BANDS))
def test_bands(rounds: pd.DataFrame, band: str) -> None:
    out = summarise.curve(rounds, band=band)
    assert len(out) == 5 * 21
    for label, number in (("FedAvg", 3), ("FedAdam", 20)):
        x = values(rounds, label, number)
        row = out[(out["label"] == label) & (out["round"] == number)].iloc[0]
        half = {
            "ci": stats.t.ppf(0.975, 2) * stats.sem(x),
            "se": stats.sem(x),
            "sd": x.std(ddof=1),
            "minmax": np.nan,
        }[band]
        ends = (x.min(), x.max()) if band == "minmax" else (x.mean() - half, x.mean() + half)
        assert [row["mean"], row["low"], row["high"]] == pytest.approx([x.mean(), *ends])


def test_curves_against_time_stand_at_the_mean_time(rounds: pd.DataFrame) -> None:
    out = summarise.curve(rounds, x="elapsed")
    row = out[(out["label"] == "FedAvg") & (out["round"] == 7)].iloc[0]
    assert row["elapsed"] == pytest.approx(values(rounds, "FedAvg", 7, "elapsed").mean())


def test_an_unknown_band_is_named(rounds: pd.DataFrame) -> None:
    message = "band: must be one of ['ci', 'minmax', 'sd', 'se'], got 'iqr'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        summarise.curve(rounds, band="iqr")


def made(**curves: list[list[float]]) -> pd.DataFrame:
    """Make rounds: for each label, one list of accuracies a seed."""
    rows = [
        {"run": f"{label}{seed}", "label": label, "seed": seed, "round": r, "server_accuracy": v}
        for label, seeds in curves.items()
        for seed, line in enumerate(seeds)
        for r, v in enumerate(line)
    ]
    return pd.DataFrame(rows)


def test_rounds_to_target_counts_failures_as_infinite() -> None:
    frame = made(
        slow=[[0, 0.2, 0.4, 0.6, 0.8], [0, 0.2, 0.5, 0.6, 0.8], [0, 0.1, 0.2, 0.3, 0.4]],
        fast=[[0, 0.5, 0.6, 0.6, 0.6], [0, 0.5, 0.6, 0.4, 0.3], [0.5, 0.5, 0.6, 0.6, 0.6]],
        never=[[0, 0, 0, 0, 0], [0, 0, 0, 0, 0.5], [0, 0, 0, 0, 0.1]],
    )
    out = summarise.rounds_to_target(frame, 0.5, baseline="slow").set_index("label")
    assert out["median"].tolist() == [3, 1, np.inf]
    assert out["reached"].tolist() == [2, 3, 1]
    assert out["n"].tolist() == [3, 3, 3]
    assert out["speedup"].tolist() == pytest.approx([1, 3, np.nan], nan_ok=True)
    assert out["low"].tolist() == [2, 0, 4]


def test_a_loss_is_reached_from_above() -> None:
    frame = made(a=[[2.0, 1.0, 0.5]]).rename(columns={"server_accuracy": "server_loss"})
    out = summarise.to_target(frame, 1.0, metric="server_loss")
    assert out["round"].tolist() == [1]


def test_ranks_average_over_blocks() -> None:
    a = made(x=[[0.9]], y=[[0.8]], z=[[0.8]]).assign(setting="a")
    b = made(x=[[0.1]], y=[[0.8]], z=[[0.7]]).assign(setting="b")
    b["run"] += "b"
    out = summarise.ranks(pd.concat([a, b])).set_index("label")
    assert out["rank"].to_dict() == {"y": (2.5 + 1) / 2, "x": (1 + 3) / 2, "z": (2.5 + 2) / 2}
    assert out["blocks"].tolist() == [2, 2, 2]


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ValueError, match=r"^frame: column 'drift' is missing, got "):
        summarise.final(made(a=[[0.5]]), "drift")


def test_settings_are_not_averaged(study: Path) -> None:
    runs = load(study)
    functions = {
        "final": summarise.final,
        "curve": summarise.curve,
        "rounds_to_target": lambda frame: summarise.rounds_to_target(frame, 0.5),
        "ranks": lambda frame: summarise.ranks(frame, blocks=("seed",)),
        "cost": costs.cost,
    }
    why = (
        f"the frame mixes 2 settings ({ALPHA} = 0.1; {ALPHA} = 1); choose one with "
        "Runs.at(setting), or group Runs.by_setting by=('setting', 'label')"
    )
    for name, function in functions.items():
        with pytest.raises(ValueError, match=f"^{re.escape(f'{name}: {why}')}$"):
            function(runs.rounds)
    with pytest.raises(ValueError, match=f"^{re.escape(f'fairness: {why}')}$"):
        costs.fairness(runs.last_clients)


def test_settings_can_be_rows(study: Path) -> None:
    runs = load(study)
    out = summarise.final(runs.by_setting, by=("setting", "label"))
    assert len(out) == 10
    for setting in runs.settings:
        part = out[out["setting"] == setting].drop(columns="setting").set_index("label")
        alone = summarise.final(runs.at(setting).rounds).set_index("label")
        pd.testing.assert_frame_equal(part, alone.loc[part.index])
    spent = summarise.rounds_to_target(runs.by_setting, 0.5, by=("setting", "label"))
    assert len(spent) == 10
    assert spent["n"].tolist() == [3] * 10
    swept = summarise.final(runs.across("alpha").rounds, by=("label", "alpha"))
    assert len(swept) == 4 * 2 + 1


def test_the_automatic_target_is_of_strategies_in_settings(study: Path) -> None:
    runs = load(study)
    rivals = runs.rounds[runs.rounds["mode"] == "federated"]
    means = rivals[rivals["round"] == 20].groupby(["setting", "label"], observed=True)
    expected = np.floor(95 * means["server_accuracy"].mean().median()) / 100
    assert summarise.default_target(runs.rounds) == expected
