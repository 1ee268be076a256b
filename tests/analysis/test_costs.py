from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import load
from analysis.costs import cost, fairness, spread_over_clients


def test_spread_over_clients_by_hand() -> None:
    x = np.array([0.5, 0.9, 0.7, 0.6, 0.8, 0.55, 0.65, 0.75, 0.85, 0.95, 0.45])
    out = spread_over_clients(pd.Series(x))
    s = np.sort(x)
    assert out["mean"] == pytest.approx(x.sum() / 11)
    assert out["std"] == pytest.approx(np.sqrt(((x - x.mean()) ** 2).sum() / 11))
    assert out["worst"] == pytest.approx((s[0] + s[1]) / 2)  # a tenth of 11, rounded up
    assert out["best"] == pytest.approx((s[-1] + s[-2]) / 2)
    assert out["jain"] == pytest.approx(x.sum() ** 2 / (11 * (x**2).sum()))


def test_equal_clients_are_perfectly_fair() -> None:
    out = spread_over_clients(pd.Series([0.7] * 5))
    assert out["jain"] == pytest.approx(1.0)
    assert out["std"] == pytest.approx(0.0)
    assert spread_over_clients(pd.Series([0.0, 0.0]))["jain"] == 1.0


def test_fairness_is_recomputed_from_the_files(single: Path) -> None:
    out = fairness(load(single).last_clients).set_index("label")
    worst, spread = [], []
    for seed in range(3):
        frame = pd.read_parquet(single / f"FedAdam-a0.3-s{seed}/clients.parquet")
        values = np.sort(frame.loc[frame["round"] == 20, "accuracy"])
        worst.append(values[0])  # the worst tenth of ten clients
        spread.append(values.std())
    assert out.loc["FedAdam", "worst"] == pytest.approx(np.mean(worst))
    assert out.loc["FedAdam", "std"] == pytest.approx(np.mean(spread))
    assert out.loc["FedAdam", "n"] == 3
    assert out.loc["FedAdam", "clients"] == 10


def test_cost_is_recomputed_from_the_files(single: Path) -> None:
    out = cost(load(single).rounds).set_index("label")
    frames = [
        pd.read_json(single / f"FedAvg-a0.3-s{seed}/rounds.jsonl", lines=True) for seed in range(3)
    ]
    row = out.loc["FedAvg"]
    assert row["rounds"] == 20
    assert row["seconds"] == pytest.approx(np.mean([f["seconds"].sum() for f in frames]))
    assert row["seconds_round"] == pytest.approx(np.mean([f["seconds"][1:].mean() for f in frames]))
    assert row["bytes_up"] == np.mean([f["bytes_up"].sum() for f in frames])
    assert row["examples"] == pytest.approx(np.mean([f["examples"].sum() for f in frames]))
