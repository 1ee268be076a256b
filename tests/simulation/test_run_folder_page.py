"""docs/run-folder.md says what is in a run folder: every file, column and key, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from simulation.experiment import parse
from simulation.run import simulate

PAGE = Path(__file__).parents[2] / "docs" / "run-folder.md"
ROW = re.compile(r"^\| (`.*?) \| (.*) \|$", flags=re.MULTILINE)
CODE = re.compile(r"`([a-z_0-9]+)`")

NOT_ALWAYS = {"timeline.parquet", "lost.jsonl", "replies.jsonl", "model.safetensors"}
"""Files that this run has no cause to write: no Ray, nothing lost, no Flower app."""


def test_the_page_matches_the_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for client in range(3):
        x = rng.normal(size=(12, 4)).astype(np.float32)
        np.savez(tmp_path / f"hospital{client}.npz", x=x, y=(x[:, 0] > 0).astype(int))
    plan = {
        "dataset": str(tmp_path),
        "model": "logistic",
        "clients": 3,
        "rounds": 1,
        "partition": "natural",
        "resources": {"engine": "inline"},
    }
    folder = simulate(parse(plan), out=tmp_path / "run").path
    files, keys = PAGE.read_text(encoding="utf-8").split("A line of `rounds.jsonl`")
    rows = [(name, text) for names, text in ROW.findall(files) for name in names.split(", ")]
    about = {name.strip("`/"): text for name, text in rows}
    there = {path.name for path in folder.iterdir()} - {"run.lock"}
    assert there <= set(about) and set(about) - there <= NOT_ALWAYS
    for name in there:
        told = set(CODE.findall(about[name]))
        if name.endswith(".parquet"):
            assert set(pq.read_schema(folder / name).names) == told - {"natural"}, name
        if name in ("config.json", "summary.json"):
            assert set(json.loads((folder / name).read_text())) <= told, name
    told = {key for name, _ in ROW.findall(keys) for key in CODE.findall(name)}
    for line in (folder / "rounds.jsonl").read_text().splitlines():
        assert set(json.loads(line)) <= told
