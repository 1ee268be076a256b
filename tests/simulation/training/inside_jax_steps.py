"""Local work on JAX: the steps that are taken on TensorFlow."""

from __future__ import annotations

import pytest

from simulation.config.local_work import LocalWork
from tests.simulation.training.steps_cases import WORK, check


@pytest.mark.parametrize("work", WORK, ids=str)
def test_training_takes_these_steps(work: LocalWork) -> None:
    check("jax", work)
