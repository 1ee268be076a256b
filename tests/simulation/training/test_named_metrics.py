"""Metrics by name: their definitions, over batches, clients and pieces alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flwr.serverapp.strategy import FedAvgM

from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment, parse
from simulation.flower.executor import experiment_of
from simulation.population.deal import prepare
from simulation.runs.run import simulate
from simulation.training.backend import ModelError
from tests.simulation.training.metric_cases import CASES, check, expected


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_all_examples(name: str) -> None:
    check("tensorflow", name)


def test_they_are_in_every_record_over_all_examples(tmp_path: Path) -> None:
    """Of clients together, as if their examples were one set; and the saved model has none."""
    import keras

    asked = ["f1", "auc", "top5"]
    wanted = parse({
        "dataset": "fashion-mnist-mini", "model": "logistic", "clients": 5, "rounds": 2,
        "partition": {"alpha": 0.2}, "evaluation": {"metrics": asked},
        "stop": {"metric": "f1", "target": 2.0}, "save": {"best": True, "metric": "auc"},
        "resources": {"engine": "inline"},
    })  # fmt: skip
    done = simulate(wanted, out=tmp_path / "run")
    last, (data, parts) = done.rounds[-1], prepare(wanted)
    model = keras.models.load_model(tmp_path / "run/model.keras")
    rows = np.concatenate([parts.validation_rows(c) for c in range(5)])
    for who, x, y in (
        ("server", data.x_test, data.y_test),
        ("client", data.x_train[rows], data.y_train[rows]),
    ):
        p = keras.ops.convert_to_numpy(keras.ops.softmax(model(x)))
        found = expected("softmax", y, p)
        for name in ("f1", "auc"):
            assert last[f"{who}_{name}"] == pytest.approx(found[name], abs=1e-3)
        ranks = (p > p[np.arange(len(y)), y][:, None]).sum(1)
        assert last[f"{who}_top5"] == pytest.approx((ranks < 5).mean(), abs=1e-6)
    assert {f"train_{name}" for name in asked} <= set(last)
    assert {"f1", "train_f1"} <= set(pd.read_parquet(tmp_path / "run/clients.parquet"))
    assert done.summary["best"]["server_auc"] == max(r["server_auc"] for r in done.rounds[1:])


@pytest.mark.parametrize(
    ("changes", "known", "got"),
    [
        (
            {"evaluation.metrics": ["r2"]},
            "10 classes (f1, precision, recall, balanced_accuracy, auc, per_class, confusion)",
            "r2",
        ),
        (
            {"evaluation.metrics": ["top10"]},
            "10 classes (f1, precision, recall, balanced_accuracy, auc, per_class, confusion)",
            "top10",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    changes: dict[str, list[str]], known: str, got: str, small: Experiment, tmp_path: Path
) -> None:
    with pytest.raises((ModelError, ValueError)) as caught:
        simulate(small.replace(**changes), out=tmp_path / "run")
    assert str(caught.value) == (
        f"evaluation.metrics must fit model 'mlp', which tells {known}, got {got!r}"
    )


NAMES: list[tuple[Any, str]] = [
    (
        ["f2"],
        "evaluation.metrics must be one of f1, precision, recall, balanced_accuracy, auc, "
        "per_class, confusion, top5, mae, mse, rmse, r2, got 'f2'; did you mean 'r2'?",
    ),
    (3, "evaluation.metrics must be a list of names, got 3"),
    (
        ["per-class", "per_class"],
        "evaluation.metrics must name nothing twice, got ['per_class', 'per_class']",
    ),
]


@pytest.mark.parametrize(("names", "line"), NAMES, ids=str)
def test_bad_names(names: Any, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"evaluation": {"metrics": names}})
    assert str(caught.value) == line


WITHOUT = "whose messages hold no counts that could be added"


def test_refused_where_clients_answer_by_messages(small: Experiment, tmp_path: Path) -> None:
    """The engine, Flower's strategies, and a server that Flower itself has started."""
    asked = small.replace(evaluation={"metrics": ["f1", "auc"]})
    own = experiment_of({"set": "evaluation.metrics=f1"}, 3)
    for wanted, strategy, line in (
        (asked.replace(resources={"engine": "flower"}), None, "engine 'flower'"),
        (own, None, "engine 'flower'"),
        (asked, FedAvgM(), "a Flower strategy"),
    ):
        names = ", ".join(wanted.evaluation.metrics)
        the = "the " if strategy is None else ""
        with pytest.raises(ConfigError) as caught:
            simulate(wanted, strategy, out=tmp_path / "run")
        assert str(caught.value) == (
            f"evaluation.metrics must be left out with {the}{line}, {WITHOUT}, got {names}"
        )
    assert not (tmp_path / "run").exists()


def test_a_run_without_them_keeps_its_identity(small: Experiment) -> None:
    assert "metrics" not in small.decisive()["evaluation"]
    assert small.replace(evaluation={"metrics": ["f1"]}).digest() != small.digest()
