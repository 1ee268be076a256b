"""The code blocks of the README run as printed there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from simulation.config.experiment import parse
from simulation.runs.run import simulate
from strategies import Algorithm, Federated

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def block(part: str) -> str:
    (found,) = (b for b in BLOCKS if part in b)
    return found


def test_parts_combine() -> None:
    names: dict = {}
    exec(block("clipped("), names)
    assert isinstance(names["mine"], Algorithm)


def test_a_new_strategy_has_at_most_ten_lines_and_works(tmp_path: Path) -> None:
    text = block("def fading")
    body = text[text.index("def fading") :].strip().splitlines()
    assert len(body) <= 10
    names: dict = {}
    exec(text, names)
    made = names["fading"]()
    assert made.client.share(5) == {"mu": 0.1}
    g, w, w0 = np.array([1.0]), np.array([3.0]), np.array([1.0])
    assert made.client.hook(g, w, w0, {"mu": 0.1}, {}) == g + 0.1 * (w - w0)
    assert Federated(made).algorithm is made
    small = {"dataset": "fashion-mnist-mini", "model": "logistic", "clients": 5, "rounds": 2}
    wanted = parse({**small, "resources": {"engine": "inline"}})
    result = simulate(wanted, made, out=tmp_path / "run")
    accuracies = [line["server_accuracy"] for line in result.rounds]
    assert accuracies[-1] > 0.6 > 0.2 > accuracies[0]


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), pytest.param(("FedMedian",), marks=pytest.mark.soak)])
def test_the_python_api_in_a_driver_that_never_loads_what_computes(
    more: tuple[str, ...], tmp_path: Path
) -> None:
    checks = """
import sys
assert result.summary["status"] == "complete"
assert (result.path / "model.keras").exists()
assert not {"tensorflow", "keras", "jax"} & sys.modules.keys()
"""
    text = "\n".join((block("result = simulate("), *map(block, more), checks))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    accuracy = float(done.stdout.split()[0])
    assert 0.2 < accuracy <= 1
