"""Cases of strategies, apps, scripts and clusters, run as people run them: see test_cases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simulation.cli import commands
from tests.simulation.runs.case_tools import FEW, Case, Ran, case

__all__ = ["case"]  # a fixture


def test_30_what_a_strategy_tells_its_clients(case: Case) -> None:
    options = ["--dataset", "fashion-mnist-mini", "--model", "logistic", "--clients", "4"]
    told = case.works(*options, "--rounds", "2", "--strategy", "my_strategy:Decay")
    lines = [json.loads(line) for line in (told.path / "rounds.jsonl").read_text().splitlines()]
    assert [(n["learning_rate"], n["local_epochs"]) for n in lines[1:]] == [
        (pytest.approx(0.1), 1),
        (pytest.approx(0.01), 2),
    ]
    one = case.works(*options, "--rounds", "1", "--learning-rate", "0.1")
    assert lines[1]["server_loss"] == pytest.approx(one.final["server_loss"], rel=1e-6)


WORST = {
    "02": ["clean.parquet", "logistic", "--set", "data.owner=site", "--partition", "natural"],
    "06": ["my_data:load", "my_model:build"],
    "14": ["fashion-mnist-mini", "my_model:build"],
    "21": ["my_data:load", "my_model:m_dice"],
    "22": ["my_data:load", "my_model:build"],
    "25": ["my_data:floats", "my_model:two"],
    "30": ["fashion-mnist-mini", "logistic", "--strategy", "my_strategy:Decay"],
    "48": ["my_data:load", "my_model:build"],
}
"""Cases that had a wrong value: dataset, model and further options."""


@pytest.mark.soak
@pytest.mark.parametrize("name", WORST)
def test_the_worst_on_ray(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet_again: None
) -> None:
    monkeypatch.chdir(tmp_path)
    case = Case(name, tmp_path)
    if name == "02":
        case.make()
    dataset, model, *more = WORST[name]
    options = ["--dataset", dataset, "--model", model, *more, "--clients", "4", "--rounds", "2"]
    found = {}
    for engine in ("ray", "inline"):
        # A process of its own, as on a user's machine: the driver loads no Keras.
        out = tmp_path / engine
        command = [
            sys.executable,
            "-m",
            "simulation.cli",
            "run",
            "--engine",
            engine,
            *options,
        ]
        environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1"}
        subprocess.run([*command, "--out", str(out)], check=True, env=environment)
        summary = json.loads((out / "summary.json").read_text())
        found[engine] = summary["weights_sha256"], summary["final"]["server_loss"]
    assert found["ray"] == found["inline"]


@pytest.mark.soak
@pytest.mark.parametrize("script", ["study", "direct", "main_name"])
def test_a_script_on_ray(script: str, tmp_path: Path) -> None:
    """Functions of a script, with a guard or without; by name or as they are."""
    Case("33", tmp_path)
    command = [sys.executable, f"{script}.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list(tmp_path.glob("runs/*/model.keras"))) == 1
    assert script == "direct" or "accuracy 0." in done.stdout


def test_35_a_run_goes_on_to_more_rounds(case: Case) -> None:
    options = ["--dataset", "fashion-mnist-mini", "--model", "logistic", "--clients", "10"]
    options += ["--cohort", "5"]
    first = case.works(*options, "--rounds", "2")
    whole = case.works(*options, "--rounds", "4")
    out = str(first.path)
    again = CliRunner().invoke(commands.main, ["run", "--resume", "--out", out, "--rounds", "4"])
    assert again.exit_code == 0, again.output
    kept = [json.loads((path / "summary.json").read_text()) for path in (first.path, whole.path)]
    assert kept[0]["weights_sha256"] == kept[1]["weights_sha256"]
    line = case.refused(*options, "--model", str(first.path / "model.keras"), "--rounds", "1")
    assert "init" in line


def app(case: Case, *options: str) -> Ran:
    ran = case.run("--app", ".", *options)
    assert ran.status == 0, ran.said
    return ran


def test_40_an_old_app_leaves_model_and_metrics(case: Case) -> None:
    ran = app(case, "--clients", "4", "--run-config", "num-server-rounds=2")
    assert (ran.path / "model.safetensors").is_file()
    assert ran.final["client_mae"] > 0 and ran.final["train_mse"] > 0
    assert "train_note" not in ran.final


def test_41_an_app_of_another_library(case: Case) -> None:
    ran = case.run("--app", ".", "--clients", "3")
    # A client with one class alone fails in scikit-learn: it is named, the others go on.
    assert ran.status == 3 and "3 client results were lost" in ran.said
    lost = [json.loads(line) for line in (ran.path / "lost.jsonl").read_text().splitlines()]
    assert {(one["round"], one["client"]) for one in lost} == {(1, 0), (2, 0), (3, 0)}
    assert 0 < ran.final["client_accuracy"] <= 1


def test_43_an_app_whose_clients_have_no_examples(case: Case) -> None:
    ran = case.run("--app", ".", "--clients", "4")
    assert ran.status == 1 and "Traceback" not in ran.said
    assert "round 1: all weights are 0, as none of its 4 clients has examples" in ran.said


def test_46_a_dataset_of_pictures_on_this_disk(case: Case) -> None:
    case.make()
    options = ["--model", "logistic", "--clients", "4", "--rounds", "1"]
    own = ["--set", "data.owner=camera", "--partition", "natural"]
    ran = case.works("--dataset", "hf:./cams", *own, *options)
    assert ran.final["clients"] == 4
    assert "must have one size and type" in case.refused("--dataset", "hf:./odd", *options)


def test_47_weights_beside_a_model(case: Case) -> None:
    case.make()
    ran = case.agrees("fashion-mnist-mini", "--model", "my_model:loaded", *FEW)
    assert ran.final["server_accuracy"] > 0.1


def test_52_a_cohort_for_a_strategy_of_flowers(case: Case) -> None:
    options = ["--dataset", "fashion-mnist-mini", "--model", "logistic", "--clients", "8"]
    options += ["--cohort", "4", "--rounds", "1"]
    for name in ("mean", "median"):
        ran = case.works(*options, "--strategy", f"my_strategy:{name}")
        assert ran.final["clients"] == 4 and "4 of 8 clients" in ran.said
