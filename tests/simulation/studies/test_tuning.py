"""Tuning: learning rates chosen on validation data alone, and used by the comparison."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
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
from simulation.studies.tuned import rates, record
from simulation.studies.tuning import FACTORS, Choice, Trial, choose, lines, trials
from simulation.studies.widening import further, next_value
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
    # FedAvg's server takes the mean as it is: the grid of all strategies is not for it.
    tuned = sunflower("tune", "study.toml")
    assert (tuned.exit_code, tuned.stderr) == (0, "")
    data = tomllib.loads(Path("study.tuned.toml").read_text())
    runs: dict[str, list[dict[str, Any]]] = {}
    for config in Path("runs/study-tuning").glob("*/config.json"):
        found = json.loads(config.read_text())
        assert found["experiment"]["seed"] == 3
        runs[found["hash"]] = read_rounds(config.parent)
    assert len(runs) == (1 + 2) * 2 * 2  # servers' rates of both, clients' rates, alphas
    for records in runs.values():  # the test set is not looked at
        assert all(record["server_accuracy"] is None for record in records)
    for entry, name in zip(data["chosen"], ("fedavg", "fedadam"), strict=True):
        assert entry["strategy"] == name
        scores = {}
        for point in entry["grid"]:
            measured = [runs[digest][-1]["client_accuracy"] for digest in point["runs"]]
            assert len(measured) == 2 and point["score"] == np.mean(measured)
            scores[point["learning_rate"], point.get("server_learning_rate")] = point["score"]
        best = max(scores, key=scores.__getitem__)
        assert (entry["learning_rate"], entry.get("server_learning_rate")) == best
        assert scores[best] > min(scores.values())
        assert (name == "fedavg") == ("server_learning_rate" not in entry)
        assert (entry["seeds"], entry["rounds"]) == ([3], 1)
    again = sunflower("tune", "study.toml")
    assert again.stdout.splitlines()[0].startswith("12 runs: 12 complete")

    seen: list[Any] = []
    monkeypatch.setattr(campaign, "simulate", lambda experiment, **_: seen.append(experiment))
    assert sunflower("compare", "study.toml", "--out", "with").exit_code == 0
    assert len(seen) == 2 * 2 * 2
    for entry in data["chosen"]:
        mine = [one for one in seen if one.strategy.name == entry["strategy"]]
        assert {one.training.learning_rate for one in mine} == {entry["learning_rate"]}
        servers = {one.strategy.options.get("learning_rate") for one in mine}
        assert servers == {entry.get("server_learning_rate")}
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
    own = catalog.entry("fedprox").options["mu"]  # what it would be run with is always tried
    with_own = [({"mu": mu}, None) for mu in (own, 0.2, 0.4)]
    assert grid_of("fedprox", tune={"options": mine}) == with_own
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


def servers_of(strategy: Any, rates: Any) -> list[float | None]:
    """Server's learning rates that a study tries for its one strategy, where it says which."""
    grid = grid_of(strategy, tune={"server_learning_rates": rates, "options": {}})
    return list(dict.fromkeys(server for _, server in grid))


def test_rates_for_all_are_for_servers_that_have_a_step_to_tune() -> None:
    mine = (0.001, 0.03)
    for name in ("fedavg", "fedprox", "scaffold", "feddyn", "median"):
        assert servers_of(name, mine) == [None], name
    assert servers_of("fedadam", mine) == [0.001, 0.01, 0.03]  # its own among them
    assert servers_of({"name": "fedyogi", "learning_rate": 0.5}, mine) == [0.001, 0.03, 0.5]
    assert servers_of({"name": "fedavgm", "beta": 0.9}, mine) == [0.001, 0.03, 1.0]
    assert servers_of({"name": "fedavg", "learning_rate": 0.5}, mine) == [0.001, 0.03, 0.5]


def test_rates_may_be_given_for_each_strategy(tmp_path: Path) -> None:
    assert servers_of("fedavg", {"fedavg": [0.5]}) == [0.5, 1.0]
    base = {**BASE, "training": {"learning_rate": 0.1}}
    tune = {"learning_rates": {"fedavg": [0.5, 1.0]}, "server_learning_rates": {"fedadam": [0.3]}}
    study = {"experiment": base, "strategies": ["fedavg", "fedadam"], "tune": tune}
    found, _ = trials(parse_study(study))
    clients = [sorted({t.client for t in found if t.strategy == i}) for i in (0, 1)]
    assert clients == [[0.1, 0.5, 1.0], [0.0316, 0.1, 0.316]]
    assert {t.server for t in found if t.strategy == 1} == {0.01, 0.3}
    # Of the others the table may speak where only some are tuned.
    assert trials(parse_study({**study, "strategies": ["fedavg"]}), None, ["fedadam"])


def choice(strategy: Any, rate: float) -> Choice:
    trial = Trial(0, rate, None, (f"{strategy}{rate}",))
    return Choice(strategy, trial, {trial: 0.5})


def test_strategies_are_tuned_part_by_part(tmp_path: Path) -> None:
    prox = {"name": "fedprox", "mu": 0.5}
    study = parse_study({"experiment": BASE, "strategies": ["fedavg", prox, "fedadam"]})
    file = tmp_path / "study.tuned.toml"
    plan = {f"{s}{r}": parse(BASE) for s in ("fedavg", prox) for r in (0.1, 0.2, 0.3)}
    record(study, [choice("fedavg", 0.1)], plan, file)
    record(study, [choice(prox, 0.2)], plan, file)
    record(study, [choice("fedavg", 0.3)], plan, file)  # chosen anew
    key = "training.learning_rate"
    found = [("fedavg", {key: 0.3}), (prox, {key: 0.2}), ("fedadam", {})]
    assert rates(study, file) == (found, ["fedadam"])
    other = study.model_copy(update={"experiment": {**BASE, "rounds": 2}})
    record(other, [choice(prox, 0.1)], plan, file)  # a choice for another experiment is none
    assert rates(other, file)[1] == ["fedavg", "fedadam"]


def test_a_choice_is_of_a_strategy_whatever_it_is_called(tmp_path: Path) -> None:
    base = {**BASE, "training": {"learning_rate": 0.1}}
    labelled = {"name": "fedprox", "label": "Ours"}
    study = parse_study({"experiment": base, "strategies": [labelled]})
    found, plan = trials(study)
    assert len({trial.runs for trial in found}) == len(plan) == 3 * 4  # rates, values of mu
    file = tmp_path / "study.tuned.toml"
    record(study, [choice("fedprox", 0.2)], {"fedprox0.2": parse(base)}, file)
    expected = ([(labelled, {"training.learning_rate": 0.2})], [])
    assert rates(study, file) == expected


def test_a_part_is_that_of_the_file_and_the_rest_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = STUDY.replace('"fedadam"]', '{ name = "fedadam", tau = 0.1 }, "scaffold"]')
    Path("study.toml").write_text(text.replace("server_learning_rates = [1e-6, 0.01]", ""))
    assert sunflower("tune", "study.toml", "--strategies", "fedadam,fedavg").exit_code == 0
    data = tomllib.loads(Path("study.tuned.toml").read_text())
    tuned = [entry["strategy"] for entry in data["chosen"]]
    assert tuned == [{"name": "fedadam", "tau": 0.1}, "fedavg"]
    monkeypatch.setattr(campaign, "simulate", lambda experiment, **_: None)
    result = sunflower("compare", "study.toml", "--out", "with")
    assert result.exit_code == 0
    assert "'scaffold' is not tuned: it runs as the study says" in result.stdout
    assert "'fedavg' is not tuned" not in result.stdout


def test_options_chosen_are_used_and_edges_told(tmp_path: Path) -> None:
    study = parse_study({"experiment": BASE, "strategies": ["fedprox"]})
    found = [Trial(0, 0.1, None, (f"run{mu}",), (("mu", mu),)) for mu in (0.01, 0.1, 1.0)]
    scores = dict(zip(found, (0.5, 0.6, 0.7), strict=True))
    choice = Choice("fedprox", found[2], dict(scores))
    assert list(lines([choice])) == [
        "mu of 'fedprox' is the last of its grid; a wider one may hold a better: "
        "tune.options.fedprox.mu, or tune.widen"
    ]
    plan = {f"run{mu}": parse({**BASE, "seed": i}) for i, mu in enumerate((0.01, 0.1, 1.0))}
    record(study, [choice], plan, tmp_path / "study.tuned.toml")
    table = {"name": "fedprox", "mu": 1.0}
    assert rates(study, tmp_path / "study.tuned.toml") == (
        [(table, {"training.learning_rate": 0.1})],
        [],
    )


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
            {"experiment": BASE, "tune": {"learning_rates": {"fedsgd": [0.1]}}},
            "tune.learning_rates.fedsgd must be a strategy of the study, "
            "got ['fedavg', 'fedprox', 'fedadam']",
        ),
        (
            {
                "experiment": {**BASE, "training": {"learning_rate": 0.1}},
                "strategies": ["q-fedavg"],
                "tune": {"server_learning_rates": {"q-fedavg": [0.1]}},
            },
            "tune.server_learning_rates.q-fedavg must be left out, as the server of q-fedavg has "
            "no learning rate",
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
        "tune.learning_rates, or tune.widen"
    ]
    with pytest.raises(RuntimeError, match="no learning rate of the grid lets 'fedavg' finish"):
        choose(study, found[2:], tmp_path)


WIDENED = """
strategies = ["fedavg", { name = "fedadam", learning_rate = 0.01, tau = 0.001 }]

[tune]
learning_rates = [1e-4, 1e-3]
server_learning_rates = { fedadam = [1e-2, 3e-2] }
widen = 3

[experiment]
dataset = "fashion-mnist-mini"
model = "logistic"
clients = 4
rounds = 1
training.learning_rate = 1e-3
resources = { engine = "inline" }
"""


def test_a_grid_grows_where_its_best_is_at_its_end(folder: Path) -> None:
    """By steps of its own, with all else as it was chosen, three times at most."""
    Path("wide.toml").write_text(WIDENED)
    planned = sunflower("tune", "wide.toml", "--dry-run")
    assert planned.exit_code == 0
    assert "up to 3 values more" in planned.output
    tuned = sunflower("tune", "wide.toml")
    assert tuned.exit_code == 0, tuned.output
    fedavg, fedadam = tomllib.loads(Path("wide.tuned.toml").read_text())["chosen"]
    rates_tried = [point["learning_rate"] for point in fedavg["grid"]]
    assert rates_tried == [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    scores = {point["learning_rate"]: point["score"] for point in fedavg["grid"]}
    assert fedavg["learning_rate"] == max(scores, key=scores.__getitem__)
    # Each further one is tried with the best of the other axis at that time.
    more = fedadam["grid"][4:]
    assert more and all("failed" not in point for point in more)
    assert len({(p["learning_rate"], p["server_learning_rate"]) for p in fedadam["grid"]}) == len(
        fedadam["grid"]
    )


def test_a_grid_ends_at_a_value_that_the_strategy_does_not_take() -> None:
    study = parse_study(
        {
            "strategies": ["fedavgm"],
            "experiment": {"dataset": "fashion-mnist-mini", "training": {"learning_rate": 0.1}},
            "tune": {"options": {"fedavgm": {"beta": [0.5, 0.9]}}},
        }
    )
    best = Trial(0, 0.1, 0.5, (), (("beta", 0.9),))
    others = [replace(best, client=rate) for rate in (0.01, 1.0)]
    low = replace(best, options=(("beta", 0.5),))
    # The server's rate was not varied with these options: nothing to widen there.
    choice = Choice("fedavgm", best, {best: 1.0, others[0]: 0.5, others[1]: 0.2, low: 0.1})
    assert list(choice.at_edge) == ["beta"]
    assert further(study, [choice], {}) == ([], {})  # 0.9 * 0.9 / 0.5 = 1.62


def test_the_next_value_of_a_grid() -> None:
    assert next_value([0.1, 0.3, 1.0], 1.0) == float(f"{1 / 0.3:.3g}")
    assert next_value([0.1, 0.3, 1.0], 0.1) == float(f"{0.1**2 / 0.3:.3g}")
    assert next_value([0.25, 0.5, 0.75], 0.75) == 1.0
    assert next_value([0.25, 0.5, 0.75], 0.25) == 0.0
    assert next_value([0.25, 0.5, 0.75], 0.5) is None
    assert next_value([0.0, 0.1], 0.0) is None
    assert next_value([0.1], 0.1) is None
    assert repr(next_value([2, 5], 5)) == "12" and repr(next_value([2.0, 5], 5)) == "12.5"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([0.1, -1], "tune.learning_rates.1 must be > 0, got -1"),
        ({"fedavg": [0]}, "tune.learning_rates.fedavg.0 must be > 0, got 0"),
        ({"fedavg": ["x"]}, "tune.learning_rates.fedavg.0 must be a finite number, got 'x'"),
        (
            {"fedavg": 3},
            "tune.learning_rates.fedavg must be a list, or a table of lists by strategy, got 3",
        ),
        (
            {"fedavg": [1, 1]},
            "tune.learning_rates.fedavg must name nothing twice, got [1, 1]",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_rates_that_are_none(given: Any, text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_study({"tune": {"learning_rates": given}})
    assert str(error.value) == text
