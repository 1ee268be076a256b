"""Targets as they were given: their types, classes, labels and weights, and who deals by them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulation.config.errors import ConfigError
from simulation.config.experiment import parse
from simulation.datasets import validate
from simulation.datasets.dataset import Dataset
from simulation.datasets.registry import DataError
from simulation.population import partition
from simulation.population.attackers import attackers
from simulation.population.deal import prepare

N = 24
X = np.arange(N * 3, dtype=np.float32).reshape(N, 3)
K = np.arange(N) % 4
ONE_HOT = np.eye(4)[K]
MASKS = np.random.default_rng(1).integers(0, 3, (N, 4, 4))


def dataset(y: Any, **more: Any) -> Dataset:
    parts = {"x_train": X, "y_train": y, "x_test": X, "y_test": y, **more}
    return Dataset("mine", **validate.arrays("mine", parts), source="here")


@pytest.mark.parametrize(
    ("y", "dtype", "classes", "labels"),
    [
        (K.astype(np.uint8), np.int64, 4, K),
        (K > 1, np.int64, 2, K > 1),
        (K[:, None].astype(np.int32), np.int32, 4, K),
        (K * 0.5, np.float32, None, None),
        (K[:, None] * 0.5, np.float32, None, None),
        (ONE_HOT, np.float32, 4, K),
        (ONE_HOT.astype(np.int32), np.int32, 4, K),
        (ONE_HOT > 0, np.uint8, 4, K),
        (ONE_HOT[:, :1].astype(int), np.int64, 2, ONE_HOT[:, 0]),
        (ONE_HOT * 0.9 + 0.025, np.float32, None, None),
        (1 - ONE_HOT.astype(np.int64), np.int64, 2, None),
        (MASKS, np.int64, 3, None),
        (MASKS[..., None].astype(np.uint8), np.uint8, 3, None),
        (MASKS[:, 0] > 0, np.uint8, 2, None),
        (MASKS - 1, np.int64, 2, None),
    ],
)
def test_targets_reach_the_model_as_they_were_given(
    y: np.ndarray[Any, Any], dtype: Any, classes: int | None, labels: Any
) -> None:
    data = dataset(y)
    for part in (data.y_train, data.y_test):
        assert part.dtype == dtype
        np.testing.assert_array_equal(part, y.astype(dtype))
    assert data.classes == classes
    assert (data.labels is None) == (labels is None)
    if labels is not None:
        assert data.labels is not None and data.labels.dtype == np.int64
        np.testing.assert_array_equal(data.labels, labels)


def test_classes_that_are_said() -> None:
    assert dataset(K, classes=7).classes == 7
    border = np.where(MASKS == 2, 255, MASKS)  # 255 marks what a loss leaves out
    assert dataset(border, classes=2).classes == 2
    with pytest.raises(DataError) as caught:
        dataset(ONE_HOT, classes=5)
    assert str(caught.value) == (
        "dataset mine: classes must be the length of a one-hot row (4), got 5"
    )


def test_sample_weights_as_a_third_array_or_by_name() -> None:
    w = np.arange(N)
    named = dataset(K, sample_weight=w, sample_weight_test=w + 1.0)
    made = validate.arrays("mine", ((X, K, w), (X, K, w + 1)))
    for found, wanted in (
        (named.sample_weight, w),
        (named.sample_weight_test, w + 1),
        (made["sample_weight"], w),
        (made["sample_weight_test"], w + 1),
    ):
        assert found is not None and found.dtype == np.float32
        np.testing.assert_array_equal(found, wanted)
    half = validate.arrays("mine", ((X, K, w), (X, K)))
    assert half["sample_weight_test"] is None and dataset(K).sample_weight is None


def prepared(y: Any, **experiment: Any) -> Any:
    plan = parse({"clients": 4, "model": "mine:build", **experiment})
    return prepare(plan, lambda *_: dataset(y))


@pytest.mark.parametrize("kind", ["dirichlet", "inner-dirichlet", "pathological", "shards"])
@pytest.mark.parametrize("y", [ONE_HOT, ONE_HOT.astype(int), K[:, None]])
def test_partitions_go_by_the_class_of_an_example(y: Any, kind: str) -> None:
    _, by_number = prepared(K, partition=kind)
    _, parts = prepared(y, partition=kind)
    np.testing.assert_array_equal(parts.indices, by_number.indices)


@pytest.mark.parametrize(
    ("y", "partition", "text"),
    [
        (
            MASKS,
            "dirichlet",
            "partition must be iid, quantity, on-demand, natural or file where an example has no "
            "one class, "
            "got 'dirichlet' and int64 targets of shape [N, 4, 4]",
        ),
        (
            K * 0.5,
            "pathological",
            "partition must be iid, quantity, on-demand, natural, file or shards for a "
            "regression, "
            "got 'pathological' and float32 targets of shape [N]",
        ),
        (
            1 - ONE_HOT,
            {"kind": "on-demand", "alpha": 0.5, "examples_per_client": 5},
            "alpha must be left out for the partition 'on-demand' where an example has no one "
            "class, got 0.5 and float32 targets of shape [N, 4]",
        ),
    ],
)
def test_a_partition_that_needs_classes_where_there_are_none(
    y: Any, partition: Any, text: str
) -> None:
    with pytest.raises(ValueError) as caught:
        prepared(y, partition=partition)
    assert str(caught.value) == text


def test_targets_of_one_column_deal_as_those_of_none() -> None:
    _, flat = prepared(K * 0.5, partition="shards")
    _, column = prepared(K[:, None] * 0.5, partition="shards")
    np.testing.assert_array_equal(column.indices, flat.indices)


@pytest.mark.parametrize("y", [K, K[:, None].astype(np.uint8), ONE_HOT, ONE_HOT.astype(np.int32)])
def test_labels_are_flipped_in_the_form_they_have(y: Any) -> None:
    plan = parse({"attack": {"kind": "label-flip", "fraction": 0.5}, "clients": 2})
    data = dataset(y)
    found = attackers(plan, 2, data.classes)
    assert found is not None
    (bad,) = found.clients
    sizes = [10, 14]
    flipped = found.labels([0, 1], sizes, data.y_train)
    attacked = np.repeat([bad == 0, bad == 1], sizes)
    wanted = dataset(np.eye(4)[np.where(attacked, 3 - K, K)])
    np.testing.assert_array_equal(dataset(flipped).labels, wanted.labels)
    assert flipped.dtype == data.y_train.dtype and flipped.shape == data.y_train.shape
    np.testing.assert_array_equal(data.y_train, y)  # the data itself stays


@pytest.mark.parametrize(
    ("y", "more", "told"),
    [
        (
            K * 1.0,
            {},
            "y_train holds float32 targets of shape [N]: cast to integers, its whole numbers are "
            "classes",
        ),
        (
            K * 1.0,
            {"target": "the column 'ill'"},
            "the column 'ill' holds float32 targets of shape [N]: data.label_type = 'classes' "
            "takes its whole numbers as classes",
        ),
        (
            K[:, None] - 0.5,
            {},
            "y_train holds float32 targets of shape [N, 1]: a model of yours, module:function, may "
            "learn it",
        ),
        (
            MASKS,
            {},
            "y_train holds int64 targets of shape [N, 4, 4]: a model of yours, module:function, "
            "may learn it",
        ),
    ],
)
def test_a_built_in_model_needs_one_class_for_each_example(
    y: Any, more: dict[str, Any], told: str
) -> None:
    data = dataset(y, **more)
    with pytest.raises(ConfigError) as caught:
        prepare(parse({"model": "logistic"}), lambda *_: data)
    assert str(caught.value) == f"model 'logistic' tells one class for each example, but {told}"


def test_flipped_labels_are_refused_where_there_are_none() -> None:
    with pytest.raises(ValueError, match="where an example has no one class"):
        prepared(MASKS, attack={"kind": "label-flip"})


@pytest.mark.parametrize(("clients", "level"), [(4, None), (5, "INFO"), (8, "WARNING")])
def test_clients_without_validation_rows_are_told(
    clients: int, level: str | None, caplog: Any
) -> None:
    _, parts = prepared(K, clients=clients)  # a tenth of 6, of 4 or 5, of 3 rows
    rows = [int(0.1 * n + 0.5) for n in parts.train_sizes + parts.validation_sizes]
    without = rows.count(0)
    with caplog.at_level("INFO", "sunflower.data"):
        partition.tell_unmeasured(parts, 0.1)
        partition.tell_unmeasured(parts, 0.0)
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        (
            level,
            f"{without} of {clients} clients have no validation row: 0.1 of their rows is less "
            "than half a row",
        )
    ] * (level is not None)
