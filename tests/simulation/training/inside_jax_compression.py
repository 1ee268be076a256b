"""Encoded updates of clients that are trained on JAX."""

from __future__ import annotations

from tests.simulation.worker.compression_cases import check


def test_the_server_reads_what_was_encoded() -> None:
    check("jax", "top-k")
