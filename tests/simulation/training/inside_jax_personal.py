"""Clients with models of their own on JAX."""

from __future__ import annotations

import pytest

from tests.simulation.training.personal_cases import (
    CASES,
    TUNED,
    check,
    check_best,
    check_frozen,
    check_together,
    check_tuned,
)


@pytest.mark.parametrize("name", CASES)
def test_a_clients_rounds_are_those_of_the_formula(name: str) -> None:
    check("jax", name)


def test_frozen_weights_stay_what_they_are() -> None:
    check_frozen("jax")


@pytest.mark.parametrize("name", TUNED)
def test_a_clients_model_is_tuned_where_it_is_measured(name: str) -> None:
    check_tuned("jax", name)


def test_a_client_trains_the_model_that_fits_its_data() -> None:
    check_best("jax")


@pytest.mark.parametrize("name", ["fedrep", "ditto", "apfl", "pfedme"])
def test_clients_side_by_side_have_the_bits_of_clients_alone(name: str) -> None:
    check_together("jax", name)
