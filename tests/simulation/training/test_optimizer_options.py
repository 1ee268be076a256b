"""Optimizers with options of their Keras class: the formulas, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment, parse
from simulation.training.backend import ModelError
from tests.simulation.training.optimizer_cases import CASES, check, trained


@pytest.mark.parametrize("name", CASES)
def test_options_are_those_of_the_class(name: str) -> None:
    check("tensorflow", name)


def test_a_table_of_a_name_and_a_momentum_is_what_it_was() -> None:
    given = {"optimizer": {"name": "sgd", "momentum": 0.9}}
    same = {"optimizer": "sgd", "momentum": 0.9}
    assert parse({"training": given}) == parse({"training": same})
    assert parse({"training": {"optimizer": {"name": "adam"}}}).training.optimizer == "adam"
    more = parse({"training": {"optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True}}})
    assert more.training.momentum == 0.9
    assert more.training.optimizer_options == {"nesterov": True}
    assert parse(more.model_dump(mode="json")) == more
    assert more.replace(**{"training.momentum": 0.5}).training.momentum == 0.5
    by_key = parse({"training": {"optimizer": "sgd"}}).replace(
        **{"training.optimizer.nesterov": True, "training.momentum": 0.9}
    )
    assert by_key.digest() == more.digest()
    assert more.digest() != parse({"training": same}).digest()
    assert Experiment().training.optimizer_name is None


BAD: list[tuple[Any, str]] = [
    (3, "training.optimizer must be a name, or a table with a name and options, got 3"),
    (
        {"nesterov": True},
        "training.optimizer must be a name, or a table with a name and options, "
        "got {'nesterov': True}",
    ),
    (
        {"name": "sgd", "learning_rate": 0.1},
        "training.optimizer.learning_rate must be left out: it is training.learning_rate, got 0.1",
    ),
    (
        {"name": "sgd", "clipnorm": {}},
        "training.optimizer.clipnorm must be a number, true or false, text or a list, got {}",
    ),
    (
        {"name": "sgd", "momentum": 0.5},
        "training.momentum must be left out where training.optimizer has one (0.5), got 0.9",
    ),
]


@pytest.mark.parametrize(("optimizer", "line"), BAD, ids=str)
def test_bad_optimizers(optimizer: Any, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"training": {"optimizer": optimizer, "momentum": 0.9}})
    assert str(caught.value) == line


OPTIONS = (
    "momentum, nesterov, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, "
    "ema_momentum, ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps"
)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"nestrov": True},
            f"training.optimizer: option of SGD must be one of {OPTIONS}, got 'nestrov'; "
            "did you mean 'nesterov'?",
        ),
        ({"nesterov": 1}, "training.optimizer.nesterov must be true or false, got 1"),
        ({"clipnorm": "a"}, "training.optimizer.clipnorm must be a number, got 'a'"),
        ({"weight_decay": True}, "training.optimizer.weight_decay must be a number, got True"),
    ],
    ids=str,
)
def test_options_that_the_class_does_not_have(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ModelError) as caught:
        trained("tensorflow", options)
    assert str(caught.value) == line


def test_options_that_do_not_go_together() -> None:
    with pytest.raises(ModelError) as caught:
        trained("tensorflow", {"clipnorm": 1.0, "clipvalue": 1.0})
    text = str(caught.value)
    assert text.startswith("training.optimizer must have options that SGD takes together (")
    assert text.endswith(", got {'clipnorm': 1.0, 'clipvalue': 1.0}") and "\n" not in text


def test_no_momentum_in_the_table_is_none_in_the_section() -> None:
    zero = parse({"training": {"optimizer": {"name": "sgd", "momentum": 0}}})
    assert zero.digest() == parse({"training": {"optimizer": "sgd"}}).digest()
    with pytest.raises(ConfigError) as caught:
        parse({"training": {"optimizer": {"name": "sgd", "momentum": 0}, "momentum": 0.9}})
    assert "must be left out where training.optimizer has one (0), got 0.9" in str(caught.value)
