"""`sunflower thin`: complete runs keep the checkpoint that they go on from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from simulation.cli.commands import main
from simulation.config.errors import ConfigError
from simulation.records import checkpoint
from simulation.records.checkpoint import Checkpoint, Position, write
from simulation.runs.thin import thin
from tests.simulation.runs.test_export import MODEL, run


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A complete run and one that was interrupted, with two checkpoints each."""
    for name, status in (("done", "complete"), ("cut", "interrupted")):
        folder = run(tmp_path / "study" / name, status)
        write(folder / "checkpoint", Checkpoint(Position(2, 2 * MODEL), {}, {}, 2.0))
    return tmp_path / "study"


def test_the_last_checkpoint_stays(study: Path) -> None:
    before, cut = size(study), size(study / "cut")
    done = thin([study])
    names = [path.name for path in done.runs], [path.name for path in done.left]
    assert names == (["done"], ["cut"])
    assert done.freed == before - size(study) > 0
    assert size(study / "cut") == cut
    left = sorted(path.name for path in (study / "done/checkpoint").iterdir())
    assert left == ["round-000002.safetensors", "round-000002.sha256"]
    newest = checkpoint.latest(study / "done/checkpoint")
    assert newest is not None and np.array_equal(newest.position.model, 2 * MODEL)
    assert thin([study]).freed == 0


def test_the_one_before_stays_where_the_last_is_damaged(study: Path) -> None:
    (study / "done/checkpoint/round-000002.safetensors").write_bytes(b"half")
    assert thin([study]).freed == 0
    newest = checkpoint.latest(study / "done/checkpoint")
    assert newest is not None and newest.position.round == 1


def test_all_of_them_on_request(study: Path) -> None:
    freed = size(study / "done/checkpoint")
    result = CliRunner().invoke(main, ["thin", str(study), "--all"])
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == f"{freed / 1e6:,.1f} MB freed in 1 run"
    assert "1 run not complete and left alone" in result.stdout
    assert not (study / "done/checkpoint").exists() and (study / "cut/checkpoint").exists()


def test_a_folder_without_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        thin([tmp_path])
