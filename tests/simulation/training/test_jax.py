"""The backend ``jax``: what it gives is what the backend ``tensorflow`` gives.

Keras has one backend in a process: what runs on JAX runs in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jax", reason="the backend jax is not installed (pip install jax)")

from tests.simulation.training.jax_cases import CASES, numbers

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent

TOGETHER = (
    ("cnn", "lenet", "mlp", "logistic"), ("batchnorm", "groupnorm", "frozen", "lora"),
    ("depthwise", "conv1d", "two_inputs"), ("lstm", "embedding", "decayed", "averaged"),
)  # fmt: skip


def on_jax(*arguments: str) -> str:
    """Run Python where Keras is on JAX; return what it printed."""
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("names", TOGETHER, ids="-".join)
def test_clients_train_as_on_tensorflow(names: tuple[str, ...], tmp_path: Path) -> None:
    """Deltas, metrics, evaluation, and the weights to start from."""
    out = tmp_path / "jax.npz"
    on_jax("-m", "tests.simulation.training.jax_cases", "jax", str(out), *names)
    found = np.load(out)
    for name in names:
        for key, expected in numbers(CASES[name], "tensorflow").items():
            scale = max(1.0, float(np.abs(expected).max(initial=0)))
            np.testing.assert_allclose(
                found[f"{name}/{key}"], expected, rtol=0, atol=1e-5 * scale, err_msg=f"{name} {key}"
            )
        deltas = found[f"{name}/deltas"]
        assert (np.abs(deltas).max(1) > 1e-4).all(), "every client has learned something"


def test_every_case_is_compared() -> None:
    assert {name for names in TOGETHER for name in names} == set(CASES)


CORE = ("inside_jax.py", "inside_jax_groups.py", "inside_jax_runs.py", "inside_jax_sums.py")
"""Files of the normal suite: the entries that the others are about are compared with TensorFlow."""


def passes_on_jax(*files: str) -> None:
    """Run files of tests in one process on JAX; all must pass."""
    printed = on_jax("-m", "pytest", "-q", "-x", "-p", "no:xdist", *(str(HERE / f) for f in files))
    assert " passed" in printed
    assert "skipped" not in printed


@pytest.mark.slow
def test_inside_a_process_on_jax() -> None:
    passes_on_jax(*CORE)


@pytest.mark.soak
def test_the_rest_inside_a_process_on_jax() -> None:
    names = {file.name for file in HERE.glob("inside_jax*.py")}
    assert names > set(CORE)
    passes_on_jax(*sorted(names - set(CORE)))
