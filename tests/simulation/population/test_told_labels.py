"""What clients tell of their labels: of the examples that they train on, over all clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulation import simulate
from simulation.config.experiment import Experiment
from simulation.datasets.dataset import Dataset
from simulation.population.deal import prepare
from simulation.population.partition import Partition
from simulation.population.told_labels import told_labels
from strategies import plain, telling_discrepancy

Y = np.array([0, 0, 1, 1, 2, 2, 0, 1])
PARTS = Partition(np.arange(8, dtype=np.int32), np.array([0, 3, 8]), np.array([2, 4], np.int32))


def dataset(y: Any, classes: int | None) -> Dataset:
    x = np.zeros((len(y), 2), np.float32)
    return Dataset("some", x, y, x, y, classes, 1.0, "here")


def test_only_rows_to_train_on_count() -> None:
    found = told_labels(telling_discrepancy("l2"), PARTS, dataset(Y, 3))
    assert found is not None
    own = np.array([[1, 0, 0], [1 / 4, 1 / 4, 2 / 4]])
    whole = np.array([3, 1, 2]) / 6
    apart = np.linalg.norm(own - whole, axis=1)
    np.testing.assert_allclose(found.discrepancies, apart / apart.mean(), rtol=1e-12)
    assert found.metrics(1) == {
        "discrepancy": pytest.approx(apart[1] / apart.mean()),
        "relative_size": pytest.approx(4 / 3),
    }
    assert told_labels(plain(), PARTS, dataset(Y, 3)) is None


def test_clients_that_are_made_on_demand_tell_it_too() -> None:
    on_demand = {"kind": "on-demand", "examples_per_client": 30, "alpha": 0.3}
    data, parts = prepare(Experiment(dataset="fashion-mnist-mini", clients=6, partition=on_demand))
    found = told_labels(telling_discrepancy(), parts, data)
    assert found is not None and found.sizes.tolist() == [1.0] * 6
    assert found.discrepancies.mean() == pytest.approx(1.0) and len(set(found.discrepancies)) == 6


def test_a_regression_is_refused() -> None:
    with pytest.raises(ValueError) as caught:
        told_labels(telling_discrepancy(), PARTS, dataset(Y.astype(np.float32) + 0.5, None))
    assert str(caught.value) == (
        "strategy must be another than one whose clients are telling discrepancy where an example "
        "has no one class, as in a regression"
    )


def test_a_run_weighs_clients_by_what_they_tell(small: Experiment, tmp_path: Path) -> None:
    """With a = 0 and b = 0 by their examples alone, as FedAvg; else in another way."""
    small = small.replace(rounds=1, model="logistic", clients=4)

    def run(name: str, **options: float) -> Any:
        asked = small.replace(strategy={"name": name, **options})
        return simulate(asked, out=tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}").weights

    fedavg = run("fedavg")
    np.testing.assert_allclose(run("feddisco", a=0, b=0), fedavg, atol=1e-7)
    assert np.abs(run("feddisco") - fedavg).max() > 1e-4
