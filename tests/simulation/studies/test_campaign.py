"""Plans: runs known by their hash, what they will take, and how it is shown."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from simulation.config.experiment import Experiment, parse
from simulation.engines.policy import POLICY
from simulation.records.run_folder import RunFolder
from simulation.runs import memory
from simulation.studies import campaign
from simulation.studies.campaign import DataSize, Prospect, adopt, carry_out, survey
from simulation.studies.forecast import (
    MEASURING,
    REFERENCE,
    START,
    forecast,
    in_words,
    parameters,
    passes,
)
from simulation.studies.screen import StudyScreen
from simulation.studies.study import expand, parse_study

BASE: dict[str, Any] = {
    "dataset": "fashion-mnist-mini",
    "model": "mlp",
    "clients": 10,
    "cohort": 5,
    "rounds": 4,
    "resources": {"engine": "inline"},
}


def finish(path: Path, experiment: Experiment, status: str = "complete", **summary: Any) -> None:
    config = {
        "hash": experiment.digest(),
        "experiment": experiment.model_dump(mode="json"),
        "data": {"train": 6000, "test": 1000},
        "parameters": 7,
    }
    RunFolder.create(path, config).finish({"status": status, **summary})


def test_a_run_is_known_by_its_hash_whatever_its_folder_is_called(tmp_path: Path) -> None:
    plan = expand(parse_study({"experiment": BASE, "strategies": ["fedavg", "fedprox", "fedadam"]}))
    one, two, three = plan.values()
    finish(tmp_path / "old", one)
    finish(tmp_path / "older", one, "failed")
    finish(tmp_path / "mine", two, "interrupted")
    found = adopt(plan, tmp_path)
    assert found == {"old": one, "mine": two, "fedadam-seed0": three}
    prospect = survey(plan, tmp_path)
    assert prospect.states == {"old": "complete", "mine": "interrupted", "fedadam-seed0": "new"}
    assert list(prospect.waiting) == list(prospect.rows) == ["mine", "fedadam-seed0"]


def test_a_name_that_another_run_is_at_home_in_is_not_taken(tmp_path: Path) -> None:
    one, two = (parse({**BASE, "seed": seed}) for seed in (0, 1))
    finish(tmp_path / "b", one)
    assert adopt({"a": one, "b": two}, tmp_path) == {"b": one, "b-2": two}


def test_runs_that_differ_in_where_they_run_alone_are_known_by_name(tmp_path: Path) -> None:
    few, many = (
        parse({**BASE, "resources": {"engine": "ray", "workers": workers}}) for workers in (1, 2)
    )
    assert few.digest() == many.digest()
    finish(tmp_path / "few", few)
    assert list(adopt({"few": few, "many": many}, tmp_path)) == ["few", "many"]
    assert len(campaign._groups({"few": few, "many": many})) == 2


def test_nothing_runs_again_when_the_order_of_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = {
        "experiment": BASE,
        "strategies": ["fedavg", "fedprox"],
        "sweep": {"partition.alpha": [0.1, 1.0]},
        "seeds": [0, 1],
        "baselines": ["centralised", "local"],
    }
    for name, experiment in expand(parse_study(study)).items():
        finish(tmp_path / name, experiment)
    monkeypatch.setattr(campaign, "simulate", lambda *a, **k: pytest.fail("ran again"))
    turned = {key: v[::-1] if isinstance(v, list) else v for key, v in study.items()}
    turned["sweep"] = {"partition.alpha": [1.0, 0.1]}
    plan = expand(parse_study(turned))
    assert len(plan) == 2 * 2 * 2 + 2 + 4
    assert carry_out(plan, tmp_path).complete == list(plan)


ROWS = DataSize(5400, 600, 1000, 5_000_000, (28, 28, 1), 10)


def test_passes_count_what_is_trained_and_measured() -> None:
    federated = parse({**BASE, "training": {"local_epochs": 3}, "evaluation": {"every": 2}})
    trained = 5400 * 3 / 2 + 5 * POLICY.client_cost
    assert passes(federated, ROWS) == pytest.approx(
        4 * (trained + MEASURING * (1000 + 600 / 2) / 2)
    )
    few = {"kind": "buffered", "buffer": 2}  # of 5 at work
    buffered = federated.replace(devices="equal", schedule=few)
    assert 5 * passes(buffered, ROWS) == pytest.approx(
        2 * passes(federated, ROWS) + 3 * 4 * MEASURING * 1000 / 2
    )
    local = parse({**BASE, "mode": "local"})
    assert passes(local, ROWS) == pytest.approx(
        4 * (5400 + 10 * POLICY.client_cost + MEASURING * (10 * 1000 + 600))
    )


@pytest.mark.parametrize("model", list(REFERENCE))
def test_the_size_of_built_in_models(model: str) -> None:
    from simulation.training.keras import models

    for shape, classes in (((28, 28, 1), 10), ((32, 32, 3), 7)):
        rows = DataSize(1, 1, 1, 1, shape, classes)
        built = models.build(model, shape, classes, 0)
        assert parameters(model, rows) == built.count_params()
    assert parameters("mine:model", ROWS) is None


def test_the_time_is_learned_from_finished_runs(tmp_path: Path) -> None:
    plan = expand(parse_study({"experiment": BASE, "strategies": ["fedavg", "fedprox"]}))
    names, experiments = list(plan), list(plan.values())
    prospect = survey(plan, tmp_path)
    work = passes(experiments[0], ROWS)
    first = forecast(prospect, tmp_path)
    each = passes(experiments[0], prospect.rows[names[0]])
    assert first.seconds == pytest.approx(2 * each / REFERENCE["mlp"])
    assert (first.workers, first.measured) == (1, 0)
    finish(tmp_path / names[0], experiments[0], busy_seconds=50 * work)
    prospect = survey(plan, tmp_path)
    second = forecast(prospect, tmp_path)
    assert second.seconds == pytest.approx(50 * passes(experiments[1], prospect.rows[names[1]]))
    assert second.measured == 1
    assert second.memory is not None and second.memory > memory.worker_bytes(7)
    lines = in_words(prospect, second)
    assert lines[0] == "2 runs: 1 complete, 1 new; 4 rounds to go"
    assert "on 1 worker (an estimate, from the speed of 1 finished run)" in lines[1]


def test_what_is_not_known_is_said() -> None:
    own = parse({**BASE, "model": "mine:model", "resources": {"engine": "ray", "workers": 2}})
    prospect = Prospect({"a": own}, {"a": "new"}, {"a": ROWS})
    found = forecast(prospect, Path("nowhere"))
    assert (found.seconds, found.memory) == (None, None)
    assert in_words(prospect, found)[1] == "time unknown until a run of its model is finished"
    known = parse({**BASE, "resources": {"engine": "ray", "workers": 2}})
    prospect = Prospect({"a": known}, {"a": "new"}, {"a": ROWS})
    seconds = forecast(prospect, Path("nowhere")).seconds
    assert seconds == pytest.approx(START + passes(known, ROWS) / REFERENCE["mlp"] / 2)


def test_the_table_shows_what_matters_where_not_all_fits(tmp_path: Path) -> None:
    plan = {f"run{i}": parse({**BASE, "seed": i}) for i in range(6)}
    finish(tmp_path / "run0", plan["run0"])
    (tmp_path / "run0/rounds.jsonl").write_text(json.dumps({"round": 4, "server_accuracy": 0.5}))
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    screen = StudyScreen(plan, tmp_path, console)
    with screen, screen.watch("run0", plan["run0"], "complete"):
        pass
    with pytest.raises(RuntimeError), screen.watch("run1", plan["run1"], "new"):
        raise RuntimeError
    with screen.watch("run4", plan["run4"], "new") as listener:
        listener.begin(plan["run4"], 2, 0)
        record = dict.fromkeys(("server_loss", "client_accuracy", "train_loss"))
        listener.line({**record, "round": 3, "seconds": 1.0, "server_accuracy": 0.25})
        console.print(screen.table(3))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    rows = [line.split("│")[1:-1] for line in text.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row[:4]] for row in rows] == [
        ["run0", "complete", "4/4", "50.00%"],
        ["run1", "failed", "0/4", ""],
        ["run4", "running", "3/4", "25.00%"],
    ]
    assert "and 3 new" in text
    assert "run4: round 3/4  accuracy 25.0%  1.0 s" in text
    assert screen.begun and screen.rows["run4"].state == "complete"
