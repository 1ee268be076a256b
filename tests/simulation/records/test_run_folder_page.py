"""docs/run-folder.md says what is in a run folder: every file, column and key, and nothing else."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from simulation.config.experiment import Experiment
from simulation.records.reading import read_json, read_rounds
from simulation.records.timeline import COLUMNS
from simulation.runs.run import simulate
from simulation.worker.faults import Lost

PAGE = Path(__file__).parents[3] / "docs/run-folder.md"
NAME = re.compile(r"`([\w./]+)`")

SOMETIMES = {"timeline.parquet", "lost.jsonl", "replies.jsonl", "model.safetensors"}
"""Files that the runs of this test do not have: of Ray, of failing clients, of apps."""

ELSEWHERE = {"learning_rate", "local_epochs", "batch_size"}
ELSEWHERE |= {"train_NAME", "client_NAME", "server_NAME"}
"""Keys of a round's line that the runs of this test do not have: of Flower's strategies, of models
that are compiled with further metrics (see test_cases.py)."""


def rows(title: str) -> dict[str, str]:
    """Return the table below a line of the page: its first column's names, and what is said."""
    text = PAGE.read_text(encoding="utf-8").partition(title)[2].lstrip("\n")
    table = text.partition("\n\n")[0].splitlines()[2:]
    cells = [line.strip("| ").split(" | ", 1) for line in table]
    return {name: told for first, told in cells for name in NAME.findall(first)}


FILES = rows("is the version of what is described here.\n")
LINES = rows("A line of `rounds.jsonl`:\n")


KEPT = {"best": True, "every": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs with all that a strategy of ours may add, dropout and a clock, natural clients."""
    base = Experiment(
        dataset="fashion-mnist-mini", model="logistic", clients=4, rounds=1,
        resources={"engine": "inline"},
    )  # fmt: skip
    changes: list[dict[str, Any]] = [
        {"strategy": {"name": "dp-fedavg-adaptive"}, "cohort": 3, "save": KEPT},
        {"strategy": {"name": "fedprox-adaptive"}, "realism.dropout": 0.3, "devices": "equal"},
    ]
    home = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    (home / "hospitals").mkdir()
    for client in range(4):
        x = rng.normal(size=(12, 4)).astype(np.float32)
        np.savez(home / f"hospitals/{client}.npz", x=x, y=(x[:, 0] > 0).astype(int))
    changes.append({"dataset": str(home / "hospitals"), "partition": "natural"})
    return [
        simulate(base.replace(**each), out=home / str(n)).path for n, each in enumerate(changes)
    ]


def told(found: set[str], page: set[str], what: str) -> None:
    """Compare names; the message says what to write."""
    assert not found - page, f"docs/run-folder.md must name {sorted(found - page)} of {what}"
    assert not page - found, f"docs/run-folder.md names {sorted(page - found)}, not in {what}"


def test_the_files(runs: list[Path]) -> None:
    found = {p.name + ("/" if p.is_dir() else "") for path in runs for p in path.iterdir()}
    told(found, set(FILES) - SOMETIMES, "a run folder")


@pytest.mark.parametrize("name", ["config.json", "summary.json"])
def test_the_keys_of_an_object(name: str, runs: list[Path]) -> None:
    found = {key for path in runs for key in read_json(path / name) or {}}
    named = set(NAME.findall(FILES[name]))
    missing = sorted(found - named)
    assert not missing, f"docs/run-folder.md must name {missing} in its row of {name}"


def test_the_keys_of_a_line(runs: list[Path]) -> None:
    found = {key for path in runs for record in read_rounds(path) for key in record}
    told(found, set(LINES) - ELSEWHERE, "a line of rounds.jsonl")


@pytest.mark.parametrize("name", ["clients.parquet", "labels.parquet", "owners.parquet"])
def test_the_columns_of_a_table(name: str, runs: list[Path]) -> None:
    files = [path / name for path in runs if (path / name).exists()]
    found = {column for file in files for column in pq.read_schema(file).names}
    told(found, set(NAME.findall(FILES[name])) - {"natural"}, name)


def test_the_columns_of_events(runs: list[Path]) -> None:
    files = [path / "events.parquet" for path in runs if (path / "events.parquet").exists()]
    (found,) = (set(pq.read_schema(file).names) for file in files)
    values = {"devices", "late", "dropped", "failed", "stale"}
    told(found, set(NAME.findall(FILES["events.parquet"])) - values, "events.parquet")


def test_what_other_runs_write() -> None:
    told(set(COLUMNS), set(NAME.findall(FILES["timeline.parquet"])) - {"ray"}, "timeline.parquet")
    told({f.name for f in fields(Lost)}, set(NAME.findall(FILES["lost.jsonl"])), "lost.jsonl")
