"""Gradients on all that clients have, on TensorFlow."""

from __future__ import annotations

import pytest

from tests.simulation.training.gradient_cases import NAMES, check


@pytest.mark.parametrize("name", NAMES)
def test_clients_upload_the_gradient_of_what_they_received(name: str) -> None:
    check("tensorflow", name)
