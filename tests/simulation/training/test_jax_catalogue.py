"""Every entry of the catalogue gives on the backend ``jax`` what it gives on TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax", reason="the backend jax is not installed (pip install jax)")

from simulation.config.experiment import Experiment
from strategies.entries import ENTRIES
from tests.simulation.training.jax_catalogue import (
    BASE,
    CASES,
    QUICK,
    ROUNDS,
    TRAIN_AS_OTHERS,
    outcome,
)
from tests.simulation.training.test_jax import on_jax

NAMES = [pytest.param(n, marks=() if n in QUICK else pytest.mark.soak) for n in CASES]
CLOSE = 1e-5
"""Of the largest weight: fifty times what rounding comes to after three rounds."""


@pytest.fixture(scope="module")
def on_jax_they_give(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Any:
    """What all the cases that are asked for give in one process on JAX."""
    out = tmp_path_factory.mktemp("jax") / "catalogue.npz"
    asked = {i.callspec.params.get("name") for i in request.session.items if hasattr(i, "callspec")}
    on_jax("-m", "tests.simulation.training.jax_catalogue", "jax", str(out), *(asked & {*CASES}))
    return np.load(out)


@pytest.mark.parametrize("name", NAMES)
def test_rounds_are_those_of_tensorflow(name: str, on_jax_they_give: Any) -> None:
    if name.startswith("dp-"):
        pytest.importorskip("dp_accounting", reason="the extra dp is not installed")
    for key, expected in outcome(name, "tensorflow").items():
        found = on_jax_they_give[f"{name}/{key}"]
        scale = max(1.0, float(np.nanmax(np.abs(expected))))
        np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE * scale, err_msg=key)


def test_every_entry_is_compared_and_no_case_is_another_one(on_jax_they_give: Any) -> None:
    assert set(ENTRIES) <= {*QUICK, *TRAIN_AS_OTHERS} <= set(CASES)
    assert Experiment(**BASE).rounds == ROUNDS
    weights = {key: on_jax_they_give[key] for key in on_jax_they_give if key.endswith("/weights")}
    weights.pop("personal/weights", None)  # Measured otherwise than that of fedper.
    for name in ("ditto", "apfl"):
        weights.pop(f"{name}/weights", None)  # What is sent is what FedAvg's clients send.
    for name in ("fedproto", "feddistill"):
        weights.pop(f"{name}/weights", None)  # Models stay on the clients.
    names: dict[bytes, list[str]] = {}
    for name, some in weights.items():
        names.setdefault(some.tobytes(), []).append(name)
    assert not [alike for alike in names.values() if len(alike) > 1]
