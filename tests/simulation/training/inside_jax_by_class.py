"""Means by class, on JAX."""

from __future__ import annotations

import pytest

from tests.simulation.training.by_class_cases import RULES, check


@pytest.mark.parametrize("kind", RULES)
def test_clients_tell_their_classes_and_learn_from_those_of_all(kind: str) -> None:
    check("jax", kind)
