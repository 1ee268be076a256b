"""Clients with models of their own: their formulas, on TensorFlow."""

from __future__ import annotations

import pytest

from tests.simulation.training.personal_cases import CASES, check, check_frozen


@pytest.mark.parametrize("name", CASES)
def test_a_clients_rounds_are_those_of_the_formula(name: str) -> None:
    check("tensorflow", name)


def test_frozen_weights_stay_what_they_are() -> None:
    check_frozen("tensorflow")
