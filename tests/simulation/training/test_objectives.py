"""Objectives of client rules: their formulas, on TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulation.config.experiment import parse
from simulation.datasets.dataset import Dataset
from simulation.training.backend import ModelError, backend
from strategies.client_rule import ClientRule
from strategies.distilling import calibrating, decorrelating
from tests.simulation.training.objective_cases import CASES, HERE, check, data


@pytest.mark.parametrize("name", CASES)
def test_a_clients_steps_are_those_of_the_formula(name: str) -> None:
    check("tensorflow", name)


def test_a_model_of_probabilities_has_the_logits_of_their_logarithms() -> None:
    check("tensorflow", "fedntd", "likely")


def test_every_kind_of_run_is_told_apart() -> None:
    """Runs of other objectives share no graph."""
    from simulation.training.trainers import kind_of

    wanted = parse({"model": f"{HERE}:network"})
    kinds = [kind_of(wanted, rule, data()) for rule, _ in CASES.values()]
    assert len({hash(kind) for kind in kinds}) == len(kinds)
    assert kind_of(wanted, calibrating(0.1), data()) == kind_of(wanted, calibrating(0.5), data())


def stubborn(shape: Any, classes: int) -> Any:
    """A model with a step of its own."""
    import keras

    class Own(keras.Sequential):
        def train_step(self, given: Any) -> Any:
            return super().train_step(given)

    model = Own([keras.Input(shape), keras.layers.Dense(classes)], name="own")
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def numbers(shape: Any) -> Any:
    import keras

    return keras.Sequential([keras.Input(shape), keras.layers.Dense(1)], name="numbers")


ONE = "strategy must be one without an objective of its own for model"
WHOSE_LOSS = "whose loss is not the cross-entropy of examples without weights, which that is for"
REFUSED: list[tuple[str, ClientRule, bool, str]] = [
    ("numbers", decorrelating(0.1), False,
     f"{ONE} 'numbers', which does not tell one of several classes for each example"),
    ("stubborn", decorrelating(0.1), False, f"{ONE} 'own', whose own train_step makes its loss"),
    ("network", calibrating(0.1), True, f"{ONE} 'sequential', {WHOSE_LOSS}"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "rule", "weighted", "line"), REFUSED, ids=lambda v: str(v)[:20])
def test_what_does_not_fit_is_refused(
    model: str, rule: ClientRule, weighted: bool, line: str
) -> None:
    import keras

    keras.utils.clear_session()
    given, here = data(), HERE if model == "network" else __name__
    if model == "numbers":
        y = given.y_train.astype(np.float32)
        given = Dataset("made", given.x_train, y, given.x_train, y, None, 1.0, "made")
    wanted = parse({"model": f"{here}:{model}", "resources": {"engine": "inline"}})
    with pytest.raises(ModelError) as caught:
        backend("tensorflow").trainer(wanted, rule, given, weighted)
    assert str(caught.value) == line
