"""Objectives of client rules on JAX, with rows that only fill a batch up."""

from __future__ import annotations

import pytest

from tests.simulation.training.objective_cases import CASES, check


@pytest.mark.parametrize("name", CASES)
def test_a_clients_steps_are_those_of_the_formula(name: str) -> None:
    check("jax", name)
