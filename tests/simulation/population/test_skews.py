"""Skews of quantity, of groups of classes and of features; partitions from a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment
from simulation.config.partitioning import PartitionConfig
from simulation.datasets.dataset import Dataset
from simulation.population import partition
from simulation.population.deal import prepare
from simulation.population.features import BYTE, skewed
from simulation.population.pachinko import CIFAR100, groups_of
from simulation.studies.study import expand, parse_study


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUNFLOWER_CACHE", str(tmp_path / "cache"))


def test_sizes_of_quantity_skew_have_their_mean_and_variance() -> None:
    """q ~ Dir(a, ..., a) over J clients: mean 1/J, variance (1 - 1/J) / J / (J a + 1)."""
    y, clients, alpha = np.zeros(20_000, np.int64), 20, 0.7
    sizes = [
        [len(made.rows(c)) for c in range(clients)]
        for made in (partition.make("quantity", y, clients, s, alpha=alpha, cached=False)
                     for s in range(60))
    ]  # fmt: skip
    shares = np.array(sizes) / len(y)
    variance = (1 - 1 / clients) / clients / (clients * alpha + 1)
    assert np.all(np.abs(shares.mean(0) - 1 / clients) < 4 * np.sqrt(variance / 60))
    assert shares.var() == pytest.approx(variance, rel=0.15)


def test_labels_of_quantity_skew_are_those_of_all() -> None:
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 600))
    made = partition.make("quantity", y, 5, 3, alpha=5.0, cached=False)
    for client in range(5):
        n = len(made.rows(client))
        counts = np.bincount(y[made.rows(client)], minlength=10)
        assert np.all(np.abs(counts - n / 10) < 5 * np.sqrt(n * 0.09))


def test_superclasses_of_cifar100_have_five_classes_each() -> None:
    assert np.bincount(CIFAR100).tolist() == [5] * 20
    assert groups_of("cifar100", 100, None) == CIFAR100
    trees = [47, 52, 56, 59, 96]  # maple, oak, palm, pine, willow
    assert {CIFAR100[k] for k in trees} == {17}


def entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def test_clients_of_pachinko_hold_few_groups_and_most_classes_of_each() -> None:
    groups = tuple(k // 10 for k in range(100))
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(100), 200))
    options = {"groups": groups, "cached": False}
    made = partition.make("pachinko", y, 100, 1, alpha=0.1, beta=10.0, **options)
    even = partition.make("pachinko", y, 100, 1, alpha=1000.0, beta=0.01, **options)
    first = list(range(20))  # of the first half to draw, whose classes have not run out
    for made_, few_groups in ((made, True), (even, False)):
        counts = partition.label_counts(made_, first, y, 100).reshape(-1, 10, 10)
        by_group = np.mean([entropy(one.sum(1)) for one in counts])
        within = np.mean([entropy(g) for one in counts for g in one if g.sum() > 20])
        assert (by_group < 1.3) == few_groups and (by_group > 2.0) != few_groups
        assert (within > 1.5) == few_groups


def test_groups_must_be_given_one_for_each_class() -> None:
    with pytest.raises(ValueError, match=r"partition\.groups must be given, a number for each"):
        groups_of("mnist", 10, None)
    with pytest.raises(ValueError, match="a number for each of 10 classes, got 3"):
        groups_of("mnist", 10, (0, 0, 1))


def data(x: np.ndarray) -> Dataset:
    y = np.arange(len(x)) % 2
    return Dataset("made", x, y, x[:2], y[:2], 2, 1.0, "here")


def parts_of(n: int, clients: int) -> Any:
    return partition.make("iid", np.zeros(n), clients, 0, validation=0.25, cached=False)


def test_noise_has_the_variance_of_each_client() -> None:
    x = np.zeros((800, 20, 10), np.float32)
    parts = parts_of(800, 4)
    plan = PartitionConfig(noise=0.5)
    found = skewed(data(x), parts, plan, 7)
    for client in range(4):
        own = found.x_train[parts.rows(client)]
        variance = 0.5 * (client + 1) / 4
        assert own.var() == pytest.approx(variance, rel=0.05)
        assert abs(own.mean()) < 5 * np.sqrt(variance / own.size)
    assert found.x_train.dtype == np.float32 and not x.any()
    assert np.array_equal(found.x_test, x[:2])
    again = skewed(data(x), parts, plan, 7)
    assert np.array_equal(found.x_train, again.x_train)
    assert not np.array_equal(found.x_train, skewed(data(x), parts, plan, 8).x_train)


def test_noise_on_bytes_is_in_their_full_range() -> None:
    x = np.full((400, 8, 8, 1), 128, np.uint8)
    found = skewed(data(x), parts_of(400, 1), PartitionConfig(noise=0.01), 0).x_train
    assert found.dtype == np.uint8
    assert found.std() == pytest.approx(0.1 * BYTE, rel=0.05)


@pytest.mark.parametrize("of", [2, 4])
def test_pictures_are_turned_by_the_clients_number(of: Any) -> None:
    x = np.random.default_rng(0).integers(0, 255, (40, 5, 5, 3)).astype(np.uint8)
    parts = parts_of(40, 8)
    found = skewed(data(x), parts, PartitionConfig(rotations=of), 0).x_train
    for client in range(8):
        for row in parts.rows(client):
            turned = x[row]
            for _ in range((client % of) * 4 // of):
                turned = turned.transpose(1, 0, 2)[::-1]  # a quarter, against the clock
            assert np.array_equal(found[row], turned)


@pytest.mark.parametrize(
    ("x", "plan", "said"),
    [
        (np.zeros((8, 4, 6), np.uint8), {"rotations": 4}, "square pictures"),
        (np.zeros((8, 4), np.float32), {"rotations": 2}, "unless inputs are pictures"),
        (np.zeros((8, 4), np.int64), {"noise": 0.1}, "type int64"),
    ],
    ids=["oblong", "flat", "words"],
)
def test_inputs_that_cannot_be_changed_are_named(x: np.ndarray, plan: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        skewed(data(x), parts_of(8, 2), PartitionConfig(**plan), 0)


def test_several_inputs_are_refused() -> None:
    two = replace(data(np.zeros((8, 4))), x_train=(np.zeros((8, 4)), np.zeros((8, 2))))
    with pytest.raises(ConfigError, match="model of several inputs"):
        skewed(two, parts_of(8, 2), PartitionConfig(noise=0.1), 0)


def experiment(path: Path, **more: Any) -> Experiment:
    return Experiment(
        dataset="synthetic(1,1)", model="logistic", clients=3,
        partition={"kind": "file", "path": str(path), "validation": 0.0, **more},
    )  # fmt: skip


def test_rows_go_to_whom_the_file_says(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    pd.DataFrame({"row": [5, 0, 9, 7, 2], "client": [1, 0, 2, 1, 0]}).to_csv(file, index=False)
    _, parts = prepare(experiment(file))
    assert [sorted(parts.rows(c).tolist()) for c in range(3)] == [[0, 2], [5, 7], [9]]
    pd.read_csv(file).to_parquet(tmp_path / "mine.parquet")
    _, again = prepare(experiment(tmp_path / "mine.parquet"))
    assert np.array_equal(parts.indices, again.indices)
    (tmp_path / "moved.csv").write_bytes(file.read_bytes())
    moved = experiment(tmp_path / "moved.csv")
    assert moved.digest() == experiment(file).digest()  # its content counts


@pytest.mark.parametrize(
    ("rows", "clients", "said"),
    [
        ([0, 0, 1, 2], [0, 1, 2, 0], "must name each row once, got row 0"),
        ([0, 1], [0, 1], "must have a row for each of 3 clients, got none for client 2"),
        ([0, 1, 2], [0, 1, 3], "column client must be less than 3"),
        ([0, 1, 10**6], [0, 1, 2], "column row must be less than"),
        ([0, 1, 2], [0, 1, 1.5], "column client must be whole numbers, got 1.5"),
    ],
    ids=["twice", "empty", "client", "row", "half"],
)
def test_files_that_are_no_partition_are_refused(
    tmp_path: Path, rows: list[int], clients: list[float], said: str
) -> None:
    file = tmp_path / "mine.csv"
    pd.DataFrame({"row": rows, "client": clients}).to_csv(file, index=False)
    with pytest.raises(ConfigError, match=said):
        prepare(experiment(file))


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"kind": "file"}, "partition.path must be given"),
        ({"kind": "iid", "beta": 1.0}, "partition.beta must be left out"),
        ({"kind": "iid", "groups": [1, 2]}, "partition.groups must be left out"),
        ({"kind": "on-demand", "noise": 0.1}, "partition.noise must be left out"),
        ({"kind": "iid", "noise": -1.0}, "partition.noise"),
        ({"kind": "iid", "rotations": 3}, "partition.rotations"),
        ({"path": "nowhere.csv"}, "partition.path must be a file"),
    ],
    ids=["path", "beta", "groups", "shared", "negative", "thirds", "nowhere"],
)
def test_settings_that_do_not_fit_are_refused(plan: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Experiment(partition=plan)


def test_a_pooled_baseline_is_run_for_each_noise() -> None:
    study = parse_study(
        {
            "strategies": ["fedavg"],
            "baselines": ["centralised"],
            "sweep": {"partition.noise": [0.1, 0.5], "partition.alpha": [0.1, 1.0]},
            "experiment": {"clients": 4, "partition": {"kind": "dirichlet"}},
        }
    )
    pooled = [one for one in expand(study).values() if one.mode == "centralised"]
    assert sorted(one.partition.noise for one in pooled) == [0.1, 0.5]
