"""What a round records of the model's change, the clients' drift and the workers' time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simulation import Experiment, simulate
from simulation.runs.run import Result
from strategies import Algorithm, WeightedMean, average, catalog, clipped
from strategies.client_rule import ClientRule
from strategies.optional_protocols import wants_server_update
from strategies.reducers import NormalizedMean
from strategies.robust import Median, TrimmedMean
from strategies.sums import DRIFT
from strategies.updates import Update

T = 50_000
"""More than a block of the sums; six entries behind it are moving statistics."""


def updates(clients: int = 7) -> list[Update]:
    rng = np.random.default_rng(3)
    return [
        Update(c, 10 + 3 * c, rng.normal(c, 1.0, T + 6).astype(np.float32), c + 1, trainable=T)
        for c in range(clients)
    ]


@pytest.mark.parametrize(
    "reducer",
    [
        WeightedMean(),
        WeightedMean("uniform"),
        NormalizedMean(),
        Median(),
        TrimmedMean(0.2),
        clipped(WeightedMean(), 100.0),
    ],
    ids=["examples", "uniform", "normalized", "median", "trimmed", "clipped"],
)
def test_drift_is_one_quantity_for_all(reducer: Any) -> None:
    """Before clipping, and with the examples as weights, whatever the strategy weighs by."""
    given = updates()
    weights = np.array([u.examples for u in given], float)
    heads = np.stack([u.delta[:T] for u in given]).astype(float)
    p = weights / weights.sum()
    expected = np.sqrt((p * ((heads - p @ heads) ** 2).sum(axis=1)).sum())
    partial = None
    for update in given:
        partial = reducer.fold(partial, update)
    assert reducer.finish(partial).metrics[DRIFT] == pytest.approx(expected, rel=1e-9)
    halves = [reducer.lift(u) for u in given[:1]] + [reducer.lift(given[1])]
    folded = reducer.fold(reducer.lift(given[0]), given[1])
    merged = reducer.merge(*halves)
    assert reducer.finish(folded).metrics[DRIFT] == reducer.finish(merged).metrics[DRIFT]


@pytest.mark.parametrize("reducer", [WeightedMean(), Median()], ids=str)
def test_equal_updates_and_a_single_client_do_not_drift(reducer: Any) -> None:
    first = updates(1)[0]
    assert reducer.finish(reducer.lift(first)).metrics[DRIFT] == 0.0
    twins = reducer.merge(reducer.lift(first), reducer.lift(replace(first, client=1)))
    assert reducer.finish(twins).metrics[DRIFT] < 1e-6 * np.linalg.norm(first.delta)


def test_the_line_holds_the_norm_of_the_models_change(small: Experiment, tmp_path: Path) -> None:
    """With the server's step halved, everything but the norm stays in round 1."""
    one = small.replace(rounds=1)
    lines = {
        rate: simulate(
            one,
            Algorithm("mine", ClientRule(), WeightedMean(), average(rate)),
            out=tmp_path / str(rate),
        ).rounds
        for rate in (1.0, 0.5)
    }
    start, end = lines[1.0]
    assert (start["update_norm"], start["drift"]) == (None, None)
    assert end["update_norm"] > 0 and end["drift"] > 0
    assert lines[0.5][1]["update_norm"] == pytest.approx(end["update_norm"] / 2, rel=1e-5)
    assert lines[0.5][1]["drift"] == end["drift"]


def test_messages_record_the_same(small: Experiment, tmp_path: Path) -> None:
    """A Flower strategy drives by messages; ours does so on an engine that does not fold."""
    from simulation.engines.inline import InlineEngine

    folded = simulate(small, out=tmp_path / "folded").rounds
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InlineEngine, "folds", False)
        told = simulate(small, out=tmp_path / "told").rounds
    for a, b in zip(folded[1:], told[1:], strict=True):
        assert b["drift"] == pytest.approx(a["drift"], rel=1e-6)
        assert b["update_norm"] == pytest.approx(a["update_norm"], rel=1e-6)


def test_every_strategy_records_its_drift() -> None:
    for name in catalog.names():
        built = catalog.build(name)
        metrics = {"initial_loss": 1.0, "discrepancy": 1.0, "relative_size": 1.0}
        given = [replace(u, metrics=metrics, learning_rate=0.1) for u in updates()]
        reducer = built.reducer
        reducer = reducer.at({"clip": 1.0}) if hasattr(reducer, "at") else reducer
        if wants_server_update(reducer):
            reducer = replace(reducer, server=given[0].delta)
        partial = None
        for update in given:
            partial = reducer.fold(partial, update)
        assert reducer.finish(partial).metrics[DRIFT] > 0, name


def on_ray(small: Experiment, out: Path, workers: int) -> Result:
    changes = {"resources.engine": "ray", "resources.workers": workers}
    return simulate(small.replace(rounds=3, **changes), out=out)


def test_the_timeline_tells_all_work(small: Experiment, tmp_path: Path, lent: Any) -> None:
    check_timeline(on_ray(small, tmp_path / "run", 2), 2)


@pytest.mark.soak
def test_timeline_drift_and_norm_for_any_number_of_workers(
    small: Experiment, tmp_path: Path, ray_cluster: Any
) -> None:
    kept = []
    for workers in (1, 2):
        result = on_ray(small, tmp_path / str(workers), workers)
        check_timeline(result, workers)
        kept.append([{**r, "seconds": None} for r in result.rounds])
    assert kept[0] == kept[1]
    assert all(r["drift"] > 0 for r in kept[0][1:])


def check_timeline(result: Result, workers: int) -> None:
    frame = pd.read_parquet(result.path / "timeline.parquet")
    train = frame[frame["kind"] == "train"]
    lines = {line["round"]: line for line in result.rounds[1:]}
    sums = train.groupby("round")[["clients", "examples"]].sum()
    assert sums["clients"].to_dict() == {r: line["clients"] for r, line in lines.items()}
    assert sums["examples"].to_dict() == {r: line["examples"] for r, line in lines.items()}
    test = frame[frame["kind"] == "test"].groupby("round")["examples"].sum()
    assert test.sum() == 4 * 1000  # the initial model and three rounds
    assert (frame["end"] >= frame["start"]).all()
    assert set(frame["worker"]) <= set(range(workers)) and frame["node"].str.len().min() > 0
    for _, calls in frame.sort_values("start").groupby("worker"):
        # A worker does one thing at a time.
        assert (calls["start"].to_numpy()[1:] >= calls["end"].to_numpy()[:-1]).all()
    busy = (train["end"] - train["start"]).sum()
    assert busy <= workers * sum(line["seconds"] for line in lines.values())
