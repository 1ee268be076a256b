"""Clients with models of their own: their formulas, on TensorFlow."""

from __future__ import annotations

from typing import Any

import pytest

from simulation.config.experiment import parse
from simulation.training.backend import ModelError, backend
from simulation.training.trainers import kind_of
from simulation.worker.executor import Executor
from simulation.worker.setup import Setup
from strategies.client_rule import ClientRule
from strategies.phases import Phase
from strategies.sharpness import sharpness_aware
from tests.simulation.training.objective_cases import HERE, data
from tests.simulation.training.personal_cases import (
    CASES,
    TUNED,
    Dealt,
    check,
    check_best,
    check_frozen,
    check_tuned,
)


@pytest.mark.parametrize("name", CASES)
def test_a_clients_rounds_are_those_of_the_formula(name: str) -> None:
    check("tensorflow", name)


def test_frozen_weights_stay_what_they_are() -> None:
    check_frozen("tensorflow")


@pytest.mark.parametrize("name", TUNED)
def test_a_clients_model_is_tuned_where_it_is_measured(name: str) -> None:
    check_tuned("tensorflow", name)


def test_every_kind_of_run_is_told_apart() -> None:
    """Runs of other phases or directions share no graph; those of other numbers do."""
    wanted = parse({"model": f"{HERE}:network"})
    kinds = [kind_of(wanted, rule, data()) for rule, _ in CASES.values()]
    assert len({hash(kind) for kind in kinds}) == len(kinds)
    one, other = (kind_of(wanted, sharpness_aware(rho), data()) for rho in (0.1, 0.2))
    assert one == other


def stubborn(shape: Any, classes: int) -> Any:
    """A model with a step of its own."""
    import keras

    class Own(keras.Sequential):
        def train_step(self, given: Any) -> Any:
            return super().train_step(given)

    model = Own([keras.Input(shape), keras.layers.Dense(classes)], name="own")
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def scaled(shape: Any, classes: int) -> Any:
    """A model whose loss is scaled."""
    import keras

    model = keras.Sequential([keras.Input(shape), keras.layers.Dense(classes)], name="scaled")
    sgd = keras.optimizers.SGD(loss_scale_factor=2.0)
    model.compile(sgd, "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        (ClientRule(frozen=("*",)), "frozen must leave weights to be trained, got ['*']"),
        (ClientRule(local=("*",)), "local must leave weights to be averaged, got ['*']"),
        (
            ClientRule(phases=(Phase(), Phase(frozen=("*",)))),
            "frozen must leave weights to be trained, got ['*']",
        ),
        (
            ClientRule(tuned=Phase(frozen=("*",))),
            "frozen must leave weights to be trained, got ['*']",
        ),
    ],
    ids=["frozen", "local", "phase", "tuned"],
)
def test_patterns_that_leave_nothing_are_refused_before_anybody_trains(
    rule: ClientRule, line: str
) -> None:
    wanted = parse({"model": f"{HERE}:network", "resources": {"engine": "inline"}})
    partition: Any = Dealt()
    with pytest.raises(ModelError) as caught:
        Executor(Setup(wanted, rule), data(), partition)
    assert str(caught.value) == line


@pytest.mark.parametrize("name", ["stubborn", "scaled"])
def test_models_that_make_their_gradients_are_refused(name: str) -> None:
    wanted = parse({"model": f"{__name__}:{name}", "resources": {"engine": "inline"}})
    with pytest.raises(ModelError) as caught:
        backend("tensorflow").trainer(wanted, sharpness_aware(0.1), data(), False)
    assert str(caught.value) == (
        "strategy must be one that takes gradients at the weights alone for model "
        f"{'own' if name == 'stubborn' else name!r}, which has a train_step of its own or scales "
        "its loss"
    ).replace("model own", "model 'own'")


def test_a_client_trains_the_model_that_fits_its_data() -> None:
    check_best("tensorflow")
