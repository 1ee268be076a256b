"""`sunflower verify`: a run is trained again in part; what differs is named."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from simulation import Experiment, simulate
from simulation.cli.commands import main
from simulation.config.errors import ConfigError
from simulation.runs.verification import verify
from strategies import catalog

SETTINGS: dict[str, Any] = {
    "dataset": "fashion-mnist-mini",
    "model": "logistic",
    "clients": 4,
    "rounds": 3,
    "strategy": "scaffold",  # whose clients keep something
    "faults": {"checkpoint_every": 1},
    "resources": {"engine": "inline"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three rounds."""
    path = tmp_path_factory.mktemp("verified") / "run"
    return simulate(Experiment.model_validate(SETTINGS), out=path).path


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def bytes_of(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def edit(path: Path, change: Callable[[dict[str, Any]], object], round: int) -> None:
    file = path / "rounds.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    change(lines[round])
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_run_is_the_same_again(run: Path) -> None:
    before = bytes_of(run)
    found = verify(run)
    digest = json.loads((run / "summary.json").read_text())["weights_sha256"]
    assert found.wrong == []
    assert found.checked == [
        "4 lines of rounds.jsonl agree with the other files",
        f"rounds 0 to 3 trained again: equal to the bit, weights {digest[:12]}",
    ]
    assert bytes_of(run) == before


def test_a_result_that_was_edited_is_named(run: Path, quiet_again: None) -> None:
    edit(run, lambda line: line.update(server_accuracy=0.99), 1)
    done = CliRunner().invoke(main, ["verify", str(run), "--rounds", "1"])
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "sunflower: rounds.jsonl: round 1: server_accuracy is 0.99, trained again 0."
    )
    assert "round 3 trained again: equal to the bit, weights" in done.stdout


def test_records_that_contradict_each_other_are_named(run: Path) -> None:
    edit(run, lambda line: line.update(clients=3), 2)
    edit(run, lambda line: line.update(server_loss=0.5), 3)
    wrong = verify(run, rounds=0).wrong
    loss = json.loads((run / "summary.json").read_text())["final"]["server_loss"]
    assert wrong[:2] == [
        f"rounds.jsonl: round 3: server_loss is 0.5, in summary.json {loss!r}",
        "rounds.jsonl: round 2: clients is 3, of clients.parquet 4",
    ]
    assert wrong[2] == f"rounds.jsonl: round 3: server_loss is 0.5, trained again {loss!r}"


def config(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = path / "config.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def test_what_cannot_be_trained_again_is_told(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^verify: {tmp_path} holds no run$"):
        verify(tmp_path)
    config(run, lambda data: data.update(strategy={"title": "Mine"}))
    with pytest.raises(ConfigError, match=r"run was run with a strategy object, which it does not"):
        verify(run)
    config(run, lambda data: data.update(strategy={"title": "SCAFFOLD", "options": {}}))
    config(run, lambda data: data["experiment"].update(seed=5))
    with pytest.raises(ConfigError, match=r"config.json: hash must be that of its experiment, wh"):
        verify(run)
    config(run, lambda data: data.update(experiment={"app": "mine"}))
    with pytest.raises(ConfigError, match=r"run is a run of an app, which only the app can train"):
        verify(run)


def test_other_versions_have_some_room(run: Path) -> None:
    config(run, lambda data: data.update(versions={"keras": "3.0"}))
    edit(run, lambda line: line.update(server_loss=line["server_loss"] * 1.001), 1)
    found = verify(run, rounds=1)
    assert found.wrong == []
    assert found.checked[1] == "rounds 0 to 1 trained again: equal within 0.001"
    (wrong,) = verify(run, rounds=1, tolerance=1e-4).wrong
    assert wrong.startswith("rounds.jsonl: round 1: server_loss is ")


@pytest.mark.soak
@pytest.mark.parametrize("name", ["fedavg", "scaffold", "fedadam"])
def test_another_number_of_workers_gives_the_same_bits(
    name: str, tmp_path: Path, ray_cluster: None
) -> None:
    resources = {"engine": "ray", "workers": 1}
    settings = {**SETTINGS, "strategy": name, "resources": resources}
    made = simulate(Experiment.model_validate(settings), out=tmp_path / "run").path
    found = verify(made)
    assert name in catalog.names() and found.wrong == []
    assert "equal to the bit" in found.checked[1]


def test_a_run_that_ended_early_is_checked_to_its_end(tmp_path: Path) -> None:
    early = SETTINGS | {"strategy": "fedavg", "rounds": 9, "stop": {"accuracy": 0.01}}
    path = simulate(Experiment.model_validate(early), out=tmp_path / "run").path
    digest = json.loads((path / "summary.json").read_text())["weights_sha256"]
    found = verify(path)
    assert not found.wrong and found.checked[1:] == [
        f"rounds 0 to 1 trained again: equal to the bit, weights {digest[:12]}"
    ]
