"""Metrics by name on JAX: their definitions, whatever fills a batch up."""

from __future__ import annotations

import pytest

from tests.simulation.training.metric_cases import CASES, check


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_all_examples(name: str) -> None:
    check("jax", name)
