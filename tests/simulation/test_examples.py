"""The examples: every study parses and fits together, and one's own strategy runs."""

from pathlib import Path

import numpy as np
import pytest

from simulation.config.experiment import parse, read
from simulation.population.deal import prepare
from simulation.runs.run import make_strategy, simulate
from simulation.studies.study import carry_out, expand, parse_study

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_ones_own_strategy_learns(tmp_path):
    experiment = parse(
        {
            "dataset": "fashion-mnist-mini",
            "model": "logistic",
            "clients": 10,
            "rounds": 3,
            "strategy": {"name": "examples.my_strategy:signed", "learning_rate": 0.02},
            "resources": {"engine": "inline"},
        }
    )
    result = simulate(experiment, out=tmp_path / "run")
    accuracies = [line["server_accuracy"] for line in result.rounds]
    assert accuracies[-1] > 0.5 > 0.2 > accuracies[0]


STUDIES = ["fedprox_synthetic", "byzantine", "heterogeneity", "compression", "asynchronous"]


@pytest.mark.parametrize("name", STUDIES)
def test_studies_fit_together(name):
    plan = expand(parse_study(read(EXAMPLES / f"{name}.toml")))
    for experiment in plan.values():
        make_strategy(experiment)
    if name == "fedprox_synthetic":
        assert len(plan) == 2 * 5
        prepare(next(iter(plan.values())))
    if name == "asynchronous":
        kinds = [one.schedule.kind for one in plan.values()]
        assert sorted({*kinds}) == ["asynchronous", "buffered", "deadline", "synchronous"]
        assert len(plan) == 4 * 5


@pytest.mark.soak
def test_the_study_of_heterogeneity_in_small(tmp_path):
    """One seed, one round, a small model; then the report, again without running anything."""
    import analysis

    study = parse_study({**read(EXAMPLES / "heterogeneity.toml"), "seeds": [0]})
    small = {"rounds": 1, "model": "logistic", "resources.engine": "inline"}
    plan = expand(study, small)
    kinds = [one.mode for one in plan.values()]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "federated": 3 * 2,
        "local": 2,
        "centralised": 1,
    }
    out = tmp_path / "runs"
    assert carry_out(plan, out).complete == list(plan)
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*.json*")}
    assert carry_out(plan, out).complete == list(plan)
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*.json*")} == before
    names = {path.name for path in analysis.report([out], tmp_path / "report")}
    assert {"report.html", "accuracy.pdf", "comparison.pdf", "alpha.pdf"} <= names


@pytest.mark.soak
def test_fedprox_beats_fedavg_where_nine_in_ten_are_slow(tmp_path):
    """A short cut of the study: fewer rounds, the mean of the last of them."""
    data = read(EXAMPLES / "fedprox_synthetic.toml")
    plan = expand(parse_study({**data, "seeds": [0]}), {"rounds": 20, "resources.engine": "inline"})
    late = {}
    for name, experiment in plan.items():
        lines = simulate(experiment, out=tmp_path / name).rounds
        late[name] = [line["server_loss"] for line in lines[-10:]]
        if name.startswith("fedavg"):
            # Nine of every ten straggle, exactly, and are dropped.
            assert [line["clients"] for line in lines[1:]] == [1] * experiment.rounds
    assert sum(late["fedprox-mu-1.0-stragglers-0.9-seed0"]) < sum(
        late["fedavg-stragglers-0.9-seed0"]
    )


def test_the_character_model_learns_from_topics(tmp_path):
    data = read(EXAMPLES / "characters.toml") | {"rounds": 3, "evaluation": {"clients": False}}
    experiment = parse(data | {"resources": {"engine": "inline"}})
    result = simulate(experiment, out=tmp_path / "run")
    dataset, partition = prepare(experiment)
    assert len(partition) == 30 and dataset.x_train.shape[1:] == (24,)
    # The most frequent character alone would be right about as often as it occurs.
    most = (dataset.y_test == np.bincount(dataset.y_train).argmax()).mean()
    losses = [line["server_loss"] for line in result.rounds]
    assert losses[-1] < 0.8 * losses[0]
    assert result.rounds[-1]["server_accuracy"] >= 0.9 * most


def test_the_table_model_learns(tmp_path):
    pytest.importorskip("sklearn")
    data = read(EXAMPLES / "tabular.toml") | {"rounds": 5}
    result = simulate(parse(data | {"resources": {"engine": "inline"}}), out=tmp_path / "run")
    assert result.rounds[-1]["server_accuracy"] > 0.9
