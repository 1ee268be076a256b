"""A semantic backdoor: which examples, that no client is dealt them, and that it works in a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment, parse
from simulation.datasets.dataset import Dataset
from simulation.datasets.registry import load
from simulation.population.attackers import backdoor
from simulation.population.deal import prepare
from simulation.population.root import root_rows
from simulation.population.semantic import SemanticBackdoor
from simulation.runs.run import simulate

PLAN: dict[str, Any] = {"kind": "semantic-backdoor", "source": 4, "target": 7, "rare": 0.2}


@pytest.fixture(scope="module")
def mini() -> Dataset:
    return load("fashion-mnist-mini")


def made(data: Dataset, **attack: Any) -> SemanticBackdoor:
    plan = parse({"attack": {**PLAN, **attack}, "clients": 20})
    found = backdoor(plan, 20, data)
    assert isinstance(found, SemanticBackdoor)
    return found


def measure(feature: str, x: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Return how much of a feature each example has, written out."""
    return {
        "edge": np.sqrt(((x - middle) ** 2).sum(axis=1)),
        "bright": x.mean(axis=1),
        "dark": -x.mean(axis=1),
    }[feature]


@pytest.mark.parametrize("feature", ["edge", "bright", "dark"])
def test_it_is_for_those_of_the_class_with_most_of_the_feature(mini: Dataset, feature: str) -> None:
    plan = made(mini, feature=feature)
    x, test = (np.asarray(a, np.float64).reshape(len(a), -1) for a in (mini.x_train, mini.x_test))
    rows = np.flatnonzero(mini.y_train == 4)
    values = measure(feature, x[rows], x[rows].mean(axis=0))
    most = rows[np.argsort(-values)[: int(0.2 * len(rows))]]
    assert sorted(plan.withheld.tolist()) == sorted(most.tolist())
    np.testing.assert_array_equal(plan.x, np.asarray(mini.x_train)[plan.withheld])
    kind = np.flatnonzero(mini.y_test == 4)
    same = measure(feature, test[kind], x[rows].mean(axis=0)) >= np.sort(values)[-len(most)]
    assert plan.tested.tolist() == kind[same].tolist() and 0 < same.sum() < len(kind)


def test_attackers_alone_have_them_the_same_in_every_round(mini: Dataset) -> None:
    plan = made(mini, poisoned=0.25)
    bad, good = min(plan.clients), min(set(range(20)) - plan.clients)
    x, y = np.asarray(mini.x_train)[:60], np.arange(60) % 7
    before = x.copy()
    changed, labels = plan.poisoned([good, bad], [20, 40], x, y)
    at = np.flatnonzero((changed != x).any(axis=(1, 2, 3)))
    assert len(at) == 10 and at.min() >= 20 and (labels[at] == 7).all()
    held = {one.tobytes() for one in plan.x}
    assert {one.tobytes() for one in changed[at]} <= held
    others = np.setdiff1d(np.arange(60), at)
    np.testing.assert_array_equal(labels[others], y[others])
    np.testing.assert_array_equal(x, before)
    alone, _ = plan.poisoned([bad], [40], x[20:], y[20:])
    np.testing.assert_array_equal(alone, changed[20:])
    same_x, same_y = plan.poisoned([good], [60], x, y)
    assert same_x is x and same_y is y


@pytest.mark.parametrize("kind", ["iid", "dirichlet", "on-demand"])
def test_nobody_is_dealt_them_nor_what_the_server_keeps(small: Experiment, kind: str) -> None:
    small = small.replace(attack=PLAN, partition={"kind": kind, "root": 30})
    data, parts = prepare(small)
    plan = backdoor(small, 12, data)
    assert isinstance(plan, SemanticBackdoor)
    every = np.concatenate([parts.rows(client) for client in range(len(parts))])
    assert not np.isin(plan.withheld, every).any()
    kept = root_rows(small, len(data.y_train))
    assert kept is not None and not np.isin(kept, every).any()
    if kind != "on-demand":
        gone = np.union1d(kept, plan.withheld)
        assert sorted([*every.tolist(), *gone.tolist()]) == list(range(len(data.y_train)))
    plainly = prepare(small.replace(attack={"kind": "noise"}, partition={"kind": "iid"}))[1]
    assert sum(len(plainly.rows(c)) for c in range(12)) == len(data.y_train)


def test_it_works_and_the_rate_is_that_of_the_saved_model(mini: Dataset, tmp_path: Path) -> None:
    import keras

    base = {
        "dataset": "fashion-mnist-mini",
        "model": "logistic",
        "clients": 10,
        "rounds": 3,
        "training": {"learning_rate": 0.1, "local_epochs": 2},
        "resources": {"engine": "inline"},
    }

    def rate(name: str, **attack: Any) -> float:
        plan = parse(base | {"attack": {**PLAN, **attack}})
        return float(simulate(plan, out=tmp_path / name).rounds[-1]["server_attack_success"])

    nobody, some = rate("nobody", fraction=0.001), rate("some", fraction=0.3, strength=3.0)
    assert nobody < 0.2 < 0.6 < some
    model = keras.models.load_model(tmp_path / "some" / "model.keras", compile=False)
    x = np.asarray(mini.x_test)[made(mini).tested]
    found = np.argmax(model.predict(x, verbose=0), axis=1) == 7
    assert some == pytest.approx(found.mean(), abs=1e-3)


@pytest.mark.parametrize(
    ("attack", "text"),
    [
        ({"source": None}, "attack.source must be given for 'semantic-backdoor', got none"),
        ({"target": None}, "attack.target must be given for 'semantic-backdoor', got none"),
        ({"target": 4}, "attack.target must be another class than source, got 4"),
        ({"rare": 1.0}, "attack.rare must be < 1, got 1.0"),
        (
            {"kind": "backdoor", "source": None, "rare": None, "feature": "edge"},
            "attack.feature must be left out for 'backdoor', got edge",
        ),
    ],
    ids=["source", "target", "same", "all", "other kind"],
)
def test_what_is_asked_for_must_make_sense(attack: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"attack": {k: v for k, v in {**PLAN, **attack}.items() if v is not None}})
    assert str(caught.value) == text


def test_what_the_data_has_not_is_told(mini: Dataset, small: Experiment) -> None:
    count = int((mini.y_train == 4).sum())
    with pytest.raises(ValueError) as caught:
        made(mini, rare=0.001)
    assert str(caught.value) == (
        f"attack.rare must be at least one of the {count} training examples of class 4, got 0.001"
    )
    with pytest.raises(ValueError) as caught:
        made(
            replace(mini, x_test=np.asarray(mini.x_test) * 0, y_test=mini.y_test), feature="bright"
        )
    assert str(caught.value) == (
        "attack.rare must be so large that some test example of class 4 has the feature 'bright', "
        "got 0.2"
    )
    with pytest.raises(ValueError) as caught:
        made(replace(mini, x_train=(mini.x_train, mini.x_train)))
    assert str(caught.value) == (
        "attack.kind must be another than 'semantic-backdoor' for a model of several inputs, got "
        "'semantic-backdoor'"
    )
    with pytest.raises(ValueError) as caught:
        prepare(small.replace(attack=PLAN, partition={"kind": "iid", "noise": 0.1}))
    assert str(caught.value) == (
        "attack.kind must be another than 'semantic-backdoor' with partition.noise or "
        "partition.rotations, which change what has the feature, got 'semantic-backdoor'"
    )
