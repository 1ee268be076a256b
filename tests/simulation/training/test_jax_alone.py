"""``--engine inline --backend jax`` where neither TensorFlow nor Ray is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jax", reason="the backend jax is not installed (pip install jax)")

from simulation.records.reading import is_complete, read_json, read_lines

ROOT = Path(__file__).parents[3]

COMMANDS = """
import sys

MISSING = {"tensorflow", "ray"}

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from simulation.cli import main

for command in sys.stdin.read().splitlines():
    sys.argv = ["sunflower", *command.split()]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (command, end.code)
assert not MISSING & set(sys.modules)
print("all done")
"""


def test_a_run_and_its_figures_need_neither_tensorflow_nor_ray(tmp_path: Path) -> None:
    commands = [
        "run --dataset fashion-mnist-mini --model mlp --clients 6 --rounds 2 --strategy scaffold "
        "--engine inline --backend jax --lanes 2 --out it",
        "plot accuracy it --out figures",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    environment.pop("KERAS_BACKEND", None)
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS], input="\n".join(commands), cwd=tmp_path,
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert done.stdout.endswith("all done\n")
    path = tmp_path / "it"
    config = read_json(path / "config.json") or {}
    assert (config["backend"], config["lanes"]) == ("jax", 2)
    assert is_complete(path, config["hash"])
    assert [line["round"] for line in read_lines(path / "rounds.jsonl")] == [0, 1, 2]
    files = ("model.keras", "clients.parquet", "labels.parquet", "run.log", "checkpoint")
    assert all((path / name).exists() for name in files)
    assert (tmp_path / "figures/accuracy.png").stat().st_size > 1000
