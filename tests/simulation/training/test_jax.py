"""The backend ``jax``: what it gives is what the backend ``tensorflow`` gives.

Keras has one backend in a process: what runs on JAX runs in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax", reason="the backend jax is not installed (pip install jax)")

from tests.simulation.training.jax_cases import CASES, numbers

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent


def on_jax(*arguments: str, optimised: bool = False) -> str:
    """Run Python where Keras is on JAX; return what it printed.

    Small programs are compiled longer than they run, a third of it for passes that make them fast.
    """
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    environment |= {} if optimised else {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    return done.stdout


LIKE_OTHERS = ("lenet", "mlp", "depthwise", "groupnorm", "averaged", "conv1d", "two_inputs")
"""Cases that ask no more of a backend than others do."""

NAMES = [pytest.param(n, marks=pytest.mark.soak if n in LIKE_OTHERS else ()) for n in CASES]


@pytest.fixture(scope="module")
def on_jax_they_give(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Any:
    """What all the cases that are asked for give in one process on JAX."""
    out = tmp_path_factory.mktemp("jax") / "cases.npz"
    asked = {i.callspec.params.get("name") for i in request.session.items if hasattr(i, "callspec")}
    on_jax("-m", "tests.simulation.training.jax_cases", "jax", str(out), *(asked & {*CASES}))
    return np.load(out)


@pytest.mark.parametrize("name", NAMES)
def test_clients_train_as_on_tensorflow(name: str, on_jax_they_give: Any) -> None:
    """Deltas, metrics, evaluation, and the weights to start from."""
    for key, expected in numbers(CASES[name], "tensorflow").items():
        found = on_jax_they_give[f"{name}/{key}"]
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale, err_msg=key)
    deltas = on_jax_they_give[f"{name}/deltas"]
    assert (np.abs(deltas).max(1) > 1e-4).all(), "every client has learned something"


CORE = ("inside_jax.py", "inside_jax_groups.py", "inside_jax_runs.py", "inside_jax_sums.py")
"""Files of the normal suite: the entries that the others are about are compared with TensorFlow."""


def passes_on_jax(*given: str, optimised: bool = False) -> None:
    """Run files of tests in one process on JAX; all must pass."""
    printed = on_jax("-m", "pytest", "-q", "-x", "-p", "no:xdist", *given, optimised=optimised)
    assert " passed" in printed
    assert "skipped" not in printed


@pytest.mark.slow
def test_inside_a_process_on_jax() -> None:
    passes_on_jax(*(str(HERE / name) for name in CORE))


@pytest.mark.soak
def test_all_inside_a_process_on_jax() -> None:
    files = sorted(HERE.glob("inside_jax*.py"))
    assert {file.name for file in files} > set(CORE)
    passes_on_jax("-m", "soak or not soak", *map(str, files), optimised=True)
