"""The learning rate of a round on JAX."""

from __future__ import annotations

from tests.simulation.training.decay_cases import check


def test_clients_and_their_control_variates_see_the_rate_of_the_round() -> None:
    check("jax", "scaffold")
