"""Studies: what they expand to, what is skipped, resumed and reported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from simulation.config.errors import ConfigError, RunError
from simulation.config.experiment import Experiment, parse
from simulation.records.reading import is_complete
from simulation.records.run_folder import RunFolder
from simulation.rounds.driver import RoundError
from simulation.runs.run import Listener, simulate
from simulation.studies import campaign
from simulation.studies.study import carry_out, expand, parse_study, read_study, slug, state_of

BASE: dict[str, Any] = {
    "dataset": "fashion-mnist-mini",
    "model": "logistic",
    "clients": 4,
    "rounds": 1,
    "resources": {"engine": "inline"},
}


def test_strategies_times_seeds() -> None:
    study = parse_study(
        {
            "experiment": BASE,
            "strategies": ["fedavg", {"name": "fedprox", "mu": 0.1}],
            "seeds": [3, 5],
            "centralised": True,
        }
    )
    plan = expand(study)
    assert plan == {
        "fedavg-seed3": parse({**BASE, "seed": 3, "strategy": "fedavg"}),
        "fedprox-mu-0.1-seed3": parse(
            {**BASE, "seed": 3, "strategy": {"name": "fedprox", "mu": 0.1}}
        ),
        "centralised-seed3": parse({**BASE, "seed": 3, "mode": "centralised"}),
        "fedavg-seed5": parse({**BASE, "seed": 5, "strategy": "fedavg"}),
        "fedprox-mu-0.1-seed5": parse(
            {**BASE, "seed": 5, "strategy": {"name": "fedprox", "mu": 0.1}}
        ),
        "centralised-seed5": parse({**BASE, "seed": 5, "mode": "centralised"}),
    }
    assert len({experiment.digest() for experiment in plan.values()}) == len(plan)


def test_a_label_names_a_strategys_runs_and_changes_nothing_else() -> None:
    prox = {"name": "fedprox", "mu": 0.1}
    study = {"experiment": BASE, "strategies": ["fedavg", {**prox, "label": "Ours"}], "seeds": [3]}
    plan = expand(parse_study(study))
    assert set(plan) == {"fedavg-seed3", "ours-seed3"}
    ours = plan["ours-seed3"]
    assert (ours.label, ours.strategy.options) == ("Ours", {"mu": 0.1})
    assert ours.digest() == parse({**BASE, "seed": 3, "strategy": prox}).digest()
    swept = {**study, "strategies": [{"name": "fedprox", "label": "Ours"}]}
    plan = expand(parse_study({**swept, "sweep": {"strategy.mu": [0.1, 1.0]}}))
    assert [e.label for e in plan.values()] == ["Ours(mu=0.1)", "Ours(mu=1)"]


@pytest.mark.parametrize(
    ("strategies", "text"),
    [
        ([{"name": "fedavg", "label": 3}], "strategies.0.label must be some text, got 3"),
        (["fedprox", {"name": "fedavg", "label": " "}],
         "strategies.1.label must be some text, got ' '"),
        ([{"name": "fedavg", "label": "A"}, {"name": "fedprox", "label": "A"}],
         "strategies.1.label must be of one strategy alone, got 'A' twice"),
    ],
)  # fmt: skip
def test_labels_that_are_none(strategies: list[Any], text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_study({"experiment": BASE, "strategies": strategies})
    assert str(error.value) == text


def test_what_is_given_goes_over_the_base() -> None:
    plan = expand(parse_study({"experiment": BASE}), {"rounds": 7, "partition.alpha": 0.3})
    assert [e.rounds for e in plan.values()] == [7, 7, 7]
    assert {e.partition.kind for e in plan.values()} == {"dirichlet"}


def test_a_problem_of_all_runs_is_told_once() -> None:
    with pytest.raises(ConfigError) as error:
        expand(parse_study({"experiment": {**BASE, "rounds": 0}}))
    assert str(error.value) == "rounds must be >= 1, got 0"


def test_runs_must_have_names_of_their_own() -> None:
    strategies = ["fedavg", {"name": "fedavg"}]
    with pytest.raises(ConfigError) as error:
        expand(parse_study({"experiment": BASE, "strategies": strategies}))
    assert str(error.value) == f"strategies must have different labels, got {strategies!r}"


def test_a_study_is_called_like_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("seeds = [1]")
    assert read_study(file).name == "mine"
    file.write_text('name = "yours"')
    assert read_study(file).name == "yours"


def test_the_example_is_a_study() -> None:
    plan = expand(read_study(Path(__file__).parents[3] / "examples/strategies.toml"))
    assert [e.strategy.name for e in plan.values()] == ["fedavg", "fedprox", "fedadam"]
    assert {e.clients for e in plan.values()} == {100}
    assert {e.partition.alpha for e in plan.values()} == {0.3}


def test_slugs() -> None:
    assert slug("FedProx(mu=0.1)") == "fedprox-mu-0.1"
    assert slug("mine.py:Make It!") == "mine.py-make-it"


def test_how_far_a_run_is(tmp_path: Path) -> None:
    experiment, path = parse(BASE), tmp_path / "run"
    assert state_of(path, experiment) == "new"
    config = {"hash": experiment.digest(), "experiment": experiment.model_dump(mode="json")}
    folder = RunFolder.create(path, config)
    assert state_of(path, experiment) == "interrupted"
    folder.finish({"status": "failed"})
    assert state_of(path, experiment) == "interrupted"
    folder.finish({"status": "complete"})
    assert state_of(path, experiment) == "complete"
    assert state_of(path, experiment.replace(rounds=3)) == "interrupted"
    with pytest.raises(RunError) as error:
        state_of(path, experiment.replace(rounds=3, **{"training.momentum": 0.9}))
    assert str(error.value) == (
        f"resume: {path} is a run of another experiment: "
        "rounds was 1, is 3; training.momentum was 0.0, is 0.9"
    )


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    plan = {"one": parse(BASE)}
    (tmp_path / "one").mkdir()
    (tmp_path / "one/notes.txt").write_text("mine")
    with pytest.raises(RunError) as error:
        carry_out(plan, tmp_path)
    assert str(error.value) == (
        f"out: {tmp_path / 'one'} exists already and is never overwritten; choose another"
    )


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Record what would be run, instead of running it."""
    made: list[tuple[str, bool]] = []

    def record(experiment: Experiment, *, out: Path, resume: bool, **given: Any) -> None:
        made.append((out.name, resume))
        if experiment.strategy.name == "fedprox":
            raise RoundError("round 1: none of 4 clients answered; ")

    monkeypatch.setattr(campaign, "simulate", record)
    return made


def test_failures_stop_no_other_run(calls: list[tuple[str, bool]], tmp_path: Path) -> None:
    plan = expand(parse_study({"experiment": BASE}))
    outcome = carry_out(plan, tmp_path)
    assert calls == [(name, False) for name in plan]
    assert outcome.complete == ["fedavg-seed0", "fedadam-seed0"]
    assert {name: str(error) for name, error in outcome.failed.items()} == {
        "fedprox-seed0": "round 1: none of 4 clients answered; "
    }


def test_nothing_starts_when_one_run_is_bad(calls: list[tuple[str, bool]], tmp_path: Path) -> None:
    plan = {"good": parse(BASE), "bad": parse({**BASE, "clients": 6001})}
    with pytest.raises(ValueError, match="clients must be at most the number of training") as error:
        carry_out(plan, tmp_path)
    assert str(error.value).endswith("(6000), got 6001")
    assert calls == []
    assert list(tmp_path.iterdir()) == []


class Stop(Listener):
    """Press Ctrl-C after round 0."""

    def line(self, record: Any) -> None:
        raise KeyboardInterrupt


def test_complete_runs_are_skipped_and_interrupted_ones_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = expand(parse_study({"experiment": BASE, "strategies": ["fedavg", "fedadam"]}))
    first, second = plan
    simulate(plan[first], out=tmp_path / first)
    with pytest.raises(KeyboardInterrupt):
        simulate(plan[second], out=tmp_path / second, listener=Stop())
    created = json.loads((tmp_path / second / "config.json").read_text())["created"]
    before = (tmp_path / first / "summary.json").stat().st_mtime_ns
    seen = {}

    @contextmanager
    def watch(name: str, experiment: Experiment, state: str) -> Iterator[Listener]:
        seen[name] = state
        yield Listener()

    outcome = carry_out(plan, tmp_path, watch)
    assert seen == {first: "complete", second: "interrupted"}
    assert outcome.complete == [first, second]
    assert (tmp_path / first / "summary.json").stat().st_mtime_ns == before
    assert json.loads((tmp_path / second / "config.json").read_text())["created"] == created
    for name, experiment in plan.items():
        assert is_complete(tmp_path / name, experiment.digest())
    monkeypatch.setattr(campaign, "simulate", lambda *a, **k: pytest.fail("ran again"))
    assert carry_out(plan, tmp_path).complete == [first, second]
