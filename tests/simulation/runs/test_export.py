"""`sunflower export`: what counts of runs, whole, described as an RO-Crate."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from simulation.cli.commands import main
from simulation.config.errors import ConfigError
from simulation.records import files
from simulation.records.checkpoint import Checkpoint, Position, write
from simulation.runs.export import METADATA, export

MODEL = np.arange(6, dtype=np.float32)


def run(path: Path, status: str = "complete") -> Path:
    """A run folder with all kinds of files."""
    path.mkdir(parents=True)
    cited = [{"title": "FedAvg", "citation": "McMahan et al. (2017)", "bibtex": "@x{y,}"}]
    config = {"label": "FedAvg", "created": "2026-05-01T10:00:00+00:00", "citations": cited}
    (path / "config.json").write_text(json.dumps(config))
    (path / "rounds.jsonl").write_text('{"round": 0}\n')
    digest = files.weights_sha256(MODEL)
    summary = {"status": status, "wall_seconds": 90, "weights_sha256": digest}
    (path / "summary.json").write_text(json.dumps(summary))
    (path / "run.log").write_text("secret")
    (path / "model.keras").write_text("large")
    (path / "report").mkdir()
    (path / "report/report.html").write_text("<p>")
    write(path / "checkpoint", Checkpoint(Position(1, MODEL), {}, {}, 1.0))
    return path


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two runs, and what belongs to them."""
    run(tmp_path / "study/a")
    run(tmp_path / "study/b", "interrupted")
    (tmp_path / "study/tuned.toml").write_text("x = 1\n")
    return tmp_path / "study"


def test_records_are_there_and_nothing_else(study: Path, tmp_path: Path) -> None:
    out = export([study], tmp_path / "crate")
    found = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    mine = ["config.json", "rounds.jsonl", "summary.json"]
    assert found == sorted([METADATA, "tuned.toml", *(f"{r}/{n}" for r in "ab" for n in mine)])
    for name in found[:-2]:
        assert (out / name).read_bytes() == (study / name).read_bytes()


def described(out: Path) -> dict[str, dict[str, Any]]:
    data = json.loads((out / METADATA).read_text())
    assert data["@context"] == "https://w3id.org/ro/crate/1.1/context"
    graph = {entity["@id"]: entity for entity in data["@graph"]}
    assert len(graph) == len(data["@graph"])  # each is described once
    return graph


def test_the_description_is_an_ro_crate(study: Path, tmp_path: Path) -> None:
    licence = "https://creativecommons.org/licenses/by/4.0/"
    out = export([study / "a", study / "b"], tmp_path / "crate", weights=True, license=licence)
    graph = described(out)
    head, root = graph[METADATA], graph["./"]
    assert head["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert head["about"] == {"@id": "./"} and root["license"] == {"@id": licence}
    for key in ("name", "description", "datePublished"):
        assert root[key]
    parts = {part["@id"] for part in root["hasPart"]}
    on_disk = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} - {METADATA}
    assert parts == on_disk and "a/weights.npy" in parts
    for part in parts:
        data = (out / part).read_bytes()
        assert graph[part]["@type"] == "File"
        assert graph[part]["contentSize"] == str(len(data))
        assert graph[part]["sha256"] == hashlib.sha256(data).hexdigest()
    actions = {x["name"]: x for x in graph.values() if x["@type"] == "CreateAction"}
    done = actions["FedAvg, a"]
    assert done["endTime"] == "2026-05-01T10:01:30+00:00"
    assert done["actionStatus"] == {"@id": "http://schema.org/CompletedActionStatus"}
    assert {"@id": "a/rounds.jsonl"} in done["result"] and done["object"]["@id"] in parts
    assert actions["FedAvg, b"]["actionStatus"]["@id"].endswith("FailedActionStatus")
    references = [x["@id"] for x in root["citation"] + root["mentions"]]
    assert all(reference in graph for reference in references)
    model = np.load(out / "a/weights.npy")
    assert files.weights_sha256(model) == files.weights_sha256(MODEL)


def test_an_archive_by_the_command(study: Path, tmp_path: Path, quiet_again: None) -> None:
    out = tmp_path / "mine/crate.zip"
    done = CliRunner().invoke(main, ["export", str(study), "--out", str(out)])
    assert (done.exit_code, done.stdout) == (0, f"{out}\n")
    names = zipfile.ZipFile(out).namelist()
    assert f"crate/{METADATA}" in names and "crate/a/config.json" in names
    again = CliRunner().invoke(main, ["export", str(study), "--out", str(out)])
    assert again.exit_code == 2
    assert again.stderr == f"sunflower: out: {out} must not exist\n"


def test_what_is_not_there_is_told(study: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^runs: .*nothing holds no run$"):
        export([tmp_path / "nothing"], tmp_path / "out")
    for file in (study / "a/checkpoint").iterdir():
        file.unlink()
    with pytest.raises(ConfigError, match=r"^weights: .*a must have the checkpoint of its final"):
        export([study], tmp_path / "out", weights=True)
    assert not (tmp_path / "out").exists()


def test_weights_of_who_has_no_common_model_are_left_out(study: Path, tmp_path: Path) -> None:
    file = study / "a/config.json"
    config = json.loads(file.read_text()) | {"experiment": {"mode": "local"}}
    file.write_text(json.dumps(config))
    out = export([study / "a"], tmp_path / "crate", weights=True)
    assert list(out.rglob("config.json")) and not list(out.rglob("weights.npy"))
