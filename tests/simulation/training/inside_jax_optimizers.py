"""Options of optimizers on JAX: the formulas that hold on TensorFlow."""

from __future__ import annotations

import pytest

from tests.simulation.training.optimizer_cases import CASES, check


@pytest.mark.parametrize("name", CASES)
def test_options_are_those_of_the_class(name: str) -> None:
    check("jax", name)
