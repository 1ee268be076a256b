"""Tuning: learning rates chosen on validation data alone, and used by the comparison."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from simulation.cli.commands import main
from simulation.config.errors import ConfigError
from simulation.config.experiment import parse
from simulation.records.reading import read_rounds
from simulation.studies import campaign
from simulation.studies.study import parse_study
from simulation.studies.tuning import FACTORS, Choice, Trial, choose, lines, rates, record, trials
from strategies import catalog

STUDY = """
strategies = ["fedavg", "fedadam"]
seeds = [3, 4]

[sweep]
partition.alpha = [0.3, 3.0]

[tune]
learning_rates = [1e-6, 0.05]
server_learning_rates = [1e-6, 0.01]
options = { fedadam = {} }

[experiment]
dataset = "fashion-mnist-mini"
model = "logistic"
clients = 4
rounds = 1
resources = { engine = "inline" }
"""


def sunflower(*args: str) -> Result:
    return CliRunner().invoke(main, list(args))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet_again: None) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("study.toml").write_text(STUDY)
    return tmp_path


def test_the_best_on_validation_data_is_chosen_and_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # FedAvg's server takes the mean as it is; where a grid is given, it is tuned too.
    tuned = sunflower("tune", "study.toml")
    assert (tuned.exit_code, tuned.stderr) == (0, "")
    data = tomllib.loads(Path("study.tuned.toml").read_text())
    runs: dict[str, list[dict[str, Any]]] = {}
    for config in Path("runs/study-tuning").glob("*/config.json"):
        found = json.loads(config.read_text())
        assert found["experiment"]["seed"] == 3
        runs[found["hash"]] = read_rounds(config.parent)
    assert len(runs) == 2 * 2 * 2 * 2  # strategies, clients' and server's rates, alphas
    for records in runs.values():  # the test set is not looked at
        assert all(record["server_accuracy"] is None for record in records)
    for entry, name in zip(data["chosen"], ("fedavg", "fedadam"), strict=True):
        assert entry["strategy"] == name
        scores = {}
        for point in entry["grid"]:
            measured = [runs[digest][-1]["client_accuracy"] for digest in point["runs"]]
            assert len(measured) == 2 and point["score"] == np.mean(measured)
            scores[point["learning_rate"], point["server_learning_rate"]] = point["score"]
        best = max(scores, key=scores.__getitem__)
        assert (entry["learning_rate"], entry["server_learning_rate"]) == best
        assert scores[best] > min(scores.values())
    again = sunflower("tune", "study.toml")
    assert again.stdout.splitlines()[0].startswith("16 runs: 16 complete")

    seen: list[Any] = []
    monkeypatch.setattr(campaign, "simulate", lambda experiment, **_: seen.append(experiment))
    assert sunflower("compare", "study.toml", "--out", "with").exit_code == 0
    assert len(seen) == 2 * 2 * 2
    for entry in data["chosen"]:
        mine = [one for one in seen if one.strategy.name == entry["strategy"]]
        assert {one.training.learning_rate for one in mine} == {entry["learning_rate"]}
        servers = {one.strategy.options["learning_rate"] for one in mine}
        assert servers == {entry["server_learning_rate"]}
    assert Path("with/tuned.toml").read_bytes() == Path("study.tuned.toml").read_bytes()
    seen.clear()
    assert sunflower("compare", "study.toml", "--out", "without", "--untuned").exit_code == 0
    assert {one.training.learning_rate for one in seen} == {None}


def test_a_choice_for_another_study_is_refused(folder: Path) -> None:
    Path("study.tuned.toml").write_text('study = "old"')
    result = sunflower("compare", "study.toml")
    assert (result.exit_code, result.stderr) == (
        2,
        "sunflower: study.tuned.toml must be made for this experiment and sweep, which have "
        "changed; run 'sunflower tune' again, or compare with --untuned\n",
    )
    assert not Path("runs").exists()


BASE: dict[str, Any] = {"dataset": "fashion-mnist-mini", "model": "logistic", "clients": 4}


def test_the_grid_is_around_the_rates_as_they_are() -> None:
    base = {**BASE, "training": {"learning_rate": 0.1}}
    found, plan = trials(parse_study({"experiment": base, "strategies": ["fedavg", "fedadam"]}))
    rates = [pytest.approx(0.1 * factor, rel=0.01) for factor in FACTORS]
    assert [t.client for t in found if t.strategy == 0] == rates
    assert {t.server for t in found if t.strategy == 0} == {None}
    servers = sorted({t.server for t in found if t.strategy == 1 and t.server is not None})
    assert servers == [pytest.approx(0.01 * factor, rel=0.01) for factor in FACTORS]
    assert len(plan) == 3 + 9 * len(catalog.entry("fedadam").grids["tau"])
    assert not any(one.evaluation.server for one in plan.values())


def grid_of(strategy: Any, **study: Any) -> list[tuple[dict[str, float], float | None]]:
    """Options and server's learning rates that a study tries for its one strategy."""
    base = {**BASE, "training": {"learning_rate": 0.1}}
    found, plan = trials(parse_study({"experiment": base, "strategies": [strategy], **study}))
    assert len(plan) == len(found) == len({trial.runs for trial in found})
    clients = {trial.client for trial in found}
    assert len(clients) == 3
    return [(dict(t.options), t.server) for t in found if t.client == min(clients)]


def test_the_options_of_the_catalogue_are_tuned() -> None:
    assert grid_of("fedprox") == [({"mu": mu}, None) for mu in (0.001, 0.01, 0.1, 1.0)]
    assert grid_of("feddyn") == [({"alpha": alpha}, None) for alpha in (0.001, 0.01, 0.1)]
    assert [options for options, _ in grid_of("q-fedavg")] == [{"q": q} for q in (0.001, 0.1, 1.0)]
    assert len(grid_of("fedadam")) == 3 * 3 and {"tau": 0.01} in [o for o, _ in grid_of("fedadam")]
    assert grid_of("fedavg") == [({}, None)]
    # What the study says is not tuned.
    assert grid_of({"name": "fedprox", "mu": 0.5}) == [({}, None)]
    base = {**BASE, "training": {"learning_rate": 0.1}}
    swept = {"experiment": base, "strategies": ["fedprox"], "sweep": {"strategy.mu": [0.2, 0.3]}}
    assert {trial.options for trial in trials(parse_study(swept))[0]} == {()}
    mine = {"fedprox": {"mu": [0.2, 0.4]}}
    assert grid_of("fedprox", tune={"options": mine}) == [({"mu": m}, None) for m in (0.2, 0.4)]
    assert grid_of("fedprox", tune={"options": {"fedprox": {}}}) == [({}, None)]
    whole = {"fedprox-adaptive": {"patience": [2, 5]}}
    assert {"patience": 5} in [o for o, _ in grid_of("fedprox-adaptive", tune={"options": whole})]


def test_a_servers_momentum_is_a_step_of_one_over_one_minus_beta() -> None:
    """Rates from 1 - beta, where steady updates move the model by their mean, up to 1."""
    grid = grid_of("fedavgm")
    assert {options["beta"] for options, _ in grid} == {0.7, 0.9, 0.97}
    for beta in (0.7, 0.9, 0.97):
        rates = [server for options, server in grid if options == {"beta": beta}]
        expected = [1 - beta, (1 - beta) ** 0.5, 1.0]
        assert rates == pytest.approx(expected, rel=0.01)
    around = [
        server for _, server in grid_of({"name": "fedavgm", "beta": 0.9, "learning_rate": 0.1})
    ]
    assert around == pytest.approx([0.1 * factor for factor in FACTORS], rel=0.01)


def test_options_chosen_are_used_and_edges_told(tmp_path: Path) -> None:
    study = parse_study({"experiment": BASE, "strategies": ["fedprox"]})
    found = [Trial(0, 0.1, None, (f"run{mu}",), (("mu", mu),)) for mu in (0.01, 0.1, 1.0)]
    scores = dict(zip(found, (0.5, 0.6, 0.7), strict=True))
    choice = Choice("fedprox", found[2], dict(scores))
    assert list(lines([choice])) == [
        "mu of 'fedprox' is the last of its grid; a wider one may hold a better: "
        "tune.options.fedprox.mu"
    ]
    plan = {f"run{mu}": parse({**BASE, "seed": i}) for i, mu in enumerate((0.01, 0.1, 1.0))}
    record(study, [choice], plan, tmp_path / "study.tuned.toml")
    table = {"name": "fedprox", "mu": 1.0}
    assert rates(study, tmp_path / "study.tuned.toml") == [(table, {"training.learning_rate": 0.1})]


@pytest.mark.parametrize(
    ("study", "text"),
    [
        (
            {"experiment": BASE, "tune": {"options": {"fedprx": {"mu": [0.1]}}}},
            "tune.options.fedprx must be a strategy of the study, "
            "got ['fedavg', 'fedprox', 'fedadam']",
        ),
        (
            {
                "experiment": {**BASE, "training": {"learning_rate": 0.1}},
                "strategies": [{"name": "fedprox", "mu": 0.1}],
                "tune": {"options": {"fedprox": {"mu": [0.1]}}},
            },
            "tune.options.fedprox.mu must be left out where the study sets or sweeps it",
        ),
        (
            {
                "experiment": {**BASE, "training": {"learning_rate": 0.1}},
                "strategies": ["fedprox"],
                "tune": {"options": {"fedprox": {"mux": [0.1]}}},
            },
            "strategy: option of fedprox must be one of mu, learning_rate, weights, got 'mux'; "
            "did you mean 'mu'?",
        ),
        (
            {"experiment": {**BASE, "partition": {"validation": 0.0}}},
            "partition.validation must be > 0 for tuning, which measures on the clients' "
            "validation examples, got 0.0",
        ),
        (
            {"experiment": {**BASE, "evaluation": {"clients": False}}},
            "evaluation.clients must be true for tuning, got False",
        ),
        (
            {"experiment": BASE, "sweep": {"training.learning_rate": [0.1]}},
            "sweep.training.learning_rate must be left out where it is tuned",
        ),
        (
            {"experiment": BASE, "tune": {}},
            "tune.learning_rates must be given where training.learning_rate is not, got none",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_tuned(study: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as error:
        trials(parse_study({"tune": {"learning_rates": [0.1]}, **study}))
    assert str(error.value) == text


def test_a_rate_that_fails_is_not_chosen_and_an_edge_is_told(tmp_path: Path) -> None:
    study = parse_study({"experiment": BASE, "strategies": ["fedavg"]})
    found = [Trial(0, rate, None, (f"run{rate}",)) for rate in (0.1, 1.0, 10.0)]
    for rate, accuracy in ((0.1, 0.5), (1.0, 0.7)):
        path = tmp_path / f"run{rate}"
        path.mkdir()
        (path / "summary.json").write_text('{"status": "complete"}')
        records = [{"round": n, "client_accuracy": 0.0 if n < 8 else accuracy} for n in range(10)]
        (path / "rounds.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (choice,) = choose(study, found, tmp_path)
    assert choice.best.client == 1.0
    assert list(choice.scores.values()) == [0.5, 0.7, None]
    assert list(lines([choice])) == []  # 10 was tried
    edge = Choice("fedavg", found[2], choice.scores)
    assert list(lines([edge])) == [
        "learning_rate of 'fedavg' is the last of its grid; a wider one may hold a better: "
        "tune.learning_rates"
    ]
    with pytest.raises(RuntimeError, match="no learning rate of the grid lets 'fedavg' finish"):
        choose(study, found[2:], tmp_path)
