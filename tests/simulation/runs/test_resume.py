"""A run that was stopped and resumed is the run that was not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from flwr.serverapp.strategy import FedAvg

from simulation.config.errors import RunError
from simulation.config.experiment import Experiment
from simulation.records import checkpoint
from simulation.records.reading import is_complete, read_json, read_rounds
from simulation.records.run_folder import RunFolder
from simulation.runs.run import simulate
from simulation.studies.campaign import carry_out, state_of
from strategies import Algorithm, WeightedMean, average, clipped, plain
from strategies.privacy import GaussianNoise
from tests.simulation.same_bits import StopAfter

STRATEGIES = [{"name": "fedavg"}, {"name": "fedadam"}, {"name": "scaffold"}]


def experiment(small: Experiment, strategy: Mapping[str, Any]) -> Experiment:
    return small.replace(rounds=4, cohort=6, strategy=strategy)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s["name"])
@pytest.mark.parametrize("stop", [0, 2])
def test_resumed_equals_undisturbed(
    strategy: Mapping[str, Any], stop: int, small: Experiment, tmp_path: Path
) -> None:
    wanted = experiment(small, strategy)
    whole = simulate(wanted, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        simulate(wanted, out=tmp_path / "cut", listener=StopAfter(stop))
    assert json.loads((tmp_path / "cut/summary.json").read_text())["status"] == "interrupted"
    resumed = simulate(wanted, out=tmp_path / "cut", resume=True)
    assert resumed.summary["weights_sha256"] == whole.summary["weights_sha256"]
    assert [r["round"] for r in resumed.rounds] == [0, 1, 2, 3, 4]
    for ours, theirs in zip(resumed.rounds, whole.rounds, strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}


EXTENDED: list[Any] = [
    pytest.param({"strategy": {"name": "fedadam"}}, marks=pytest.mark.soak),
    {"strategy": {"name": "scaffold"}, "sampling": "power-of-choice"},
    {"strategy": {"name": "flwr.serverapp.strategy:FedAvgM"}},
    {"mode": "centralised"},
    {"mode": "local"},
]


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [{**record, "seconds": 0} for record in read_rounds(path)]


@pytest.mark.parametrize("changes", EXTENDED, ids=str)
def test_more_rounds_equal_a_run_of_so_many(
    changes: dict[str, Any], small: Experiment, tmp_path: Path
) -> None:
    # Round 3 is measured because it is the last: the longer run does not measure it.
    wanted = small.replace(cohort=6, rounds=4, **{"evaluation.every": 2}, **changes)
    whole = simulate(wanted, out=tmp_path / "whole")
    simulate(wanted.replace(rounds=1), out=tmp_path / "short")
    simulate(wanted.replace(rounds=3), out=tmp_path / "short", resume=True)
    assert lines_of(tmp_path / "short")[3]["server_accuracy"] is not None
    longer = simulate(wanted, out=tmp_path / "short", resume=True)
    assert longer.summary["weights_sha256"] == whole.summary["weights_sha256"]
    assert lines_of(tmp_path / "short") == lines_of(tmp_path / "whole")
    for name in ("clients.parquet", "timeline.parquet"):
        if (tmp_path / "whole" / name).exists():
            tables = [pd.read_parquet(tmp_path / run / name) for run in ("short", "whole")]
            pd.testing.assert_frame_equal(*tables)
    assert is_complete(tmp_path / "short", wanted.digest())
    config = read_json(tmp_path / "short/config.json")
    assert config is not None and config["experiment"] == wanted.model_dump(mode="json")


def test_fewer_rounds_than_begun_for(small: Experiment, tmp_path: Path) -> None:
    wanted = small.replace(rounds=4, **{"evaluation.every": 3})
    short = simulate(wanted.replace(rounds=2), out=tmp_path / "short")
    with pytest.raises(KeyboardInterrupt):
        simulate(wanted, out=tmp_path / "cut", listener=StopAfter(2))
    with pytest.raises(RunError) as caught:
        simulate(wanted.replace(rounds=1), out=tmp_path / "cut", resume=True)
    assert str(caught.value) == (
        f"rounds must be at least those that {tmp_path / 'cut'} has done (2), got 1"
    )
    ended = simulate(wanted.replace(rounds=2), out=tmp_path / "cut", resume=True)
    assert ended.summary["weights_sha256"] == short.summary["weights_sha256"]
    assert lines_of(tmp_path / "cut") == lines_of(tmp_path / "short")


class Counted(FedAvg):
    """A strategy that may learn from what clients measure."""

    def aggregate_evaluate(self, server_round: int, replies: Any) -> Any:
        return super().aggregate_evaluate(server_round, replies)


@dataclass(frozen=True)
class Planned(GaussianNoise):
    """Noise that is chosen for a number of rounds, without the library that would find it."""

    def prepared(self, rounds: int, *_: Any) -> Planned:
        return replace(self, multiplier=1.0 / rounds, target_epsilon=None, delta=None)


def test_what_depends_on_the_number_of_rounds_is_refused(small: Experiment, tmp_path: Path) -> None:
    path = tmp_path / "run"
    noisy = Algorithm(
        "Noisy", plain(), clipped(WeightedMean("uniform"), 1.0), average(),
        noise=Planned(target_epsilon=1.0),
    )  # fmt: skip
    wanted = small.replace(rounds=1)
    simulate(wanted, noisy, out=path)
    with pytest.raises(RunError) as caught:
        simulate(wanted.replace(rounds=2), noisy, out=path, resume=True)
    assert str(caught.value) == (
        f"rounds must stay 1 in {path}, as the noise of 'Noisy' is made for that many rounds, got 2"
    )
    other = tmp_path / "other"
    wanted = wanted.replace(**{"evaluation.every": 2})
    simulate(wanted, Counted(), out=other)
    with pytest.raises(RunError) as caught:
        simulate(wanted.replace(rounds=2), Counted(), out=other, resume=True)
    assert str(caught.value) == (
        f"rounds must stay 1 in {other}, as its strategy has seen an evaluation in round 1, its "
        "last, got 2"
    )
    for file in (other / "checkpoint").iterdir():
        file.unlink()
    with pytest.raises(RunError) as caught:
        simulate(wanted, Counted(), out=other, resume=True)
    assert str(caught.value) == (
        f"resume: {other} must have an undamaged checkpoint to go on from, got none"
    )


@pytest.mark.parametrize(
    ("options", "goes_on"), [({"noise_multiplier": 1.0}, True), ({"target_epsilon": 3.0}, False)]
)
def test_privacy_goes_on_unless_it_has_a_target(
    options: dict[str, float], goes_on: bool, small: Experiment, tmp_path: Path
) -> None:
    pytest.importorskip("dp_accounting", reason="the extra dp is not installed")
    wanted = small.replace(strategy={"name": "dp-fedavg", **options}, cohort=6)
    config = {"hash": wanted.digest(), "experiment": wanted.model_dump(mode="json")}
    RunFolder.create(tmp_path / "run", config)
    more = wanted.replace(rounds=5)
    if goes_on:
        assert state_of(tmp_path / "run", more) == "interrupted"
        return
    with pytest.raises(RunError, match=r"^rounds must stay 2 in .*, as the noise of 'DP-FedAvg' "):
        state_of(tmp_path / "run", more)


def test_a_study_goes_on_to_more_rounds(small: Experiment, tmp_path: Path) -> None:
    wanted = small.replace(rounds=1, model="logistic")
    carry_out({"one": wanted}, tmp_path / "study")
    longer = wanted.replace(rounds=2)
    outcome = carry_out({"one": longer}, tmp_path / "study")
    assert outcome.complete == ["one"] and not outcome.failed
    assert is_complete(tmp_path / "study/one", longer.digest())
    whole = simulate(longer, out=tmp_path / "whole")
    assert lines_of(tmp_path / "study/one") == lines_of(whole.path)
    with pytest.raises(RunError, match=r"^rounds must be at least those that .* has done \(2\)"):
        carry_out({"one": wanted}, tmp_path / "study")


def test_a_damaged_checkpoint_costs_one_round(
    small: Experiment, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = experiment(small, {"name": "fedavg"})
    whole = simulate(wanted, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        simulate(wanted, out=tmp_path / "cut", listener=StopAfter(2))
    newest = max((tmp_path / "cut/checkpoint").glob("*.safetensors"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    resumed = simulate(wanted, out=tmp_path / "cut", resume=True)
    assert f"checkpoint {newest} is damaged (its sha256 is not the recorded one)" in caplog.text
    assert resumed.summary["weights_sha256"] == whole.summary["weights_sha256"]
    assert [r["round"] for r in read_rounds(tmp_path / "cut")] == [0, 1, 2, 3, 4]


def test_two_checkpoints_are_kept(small: Experiment, tmp_path: Path) -> None:
    every = experiment(small, {"name": "fedavg"}).replace(**{"faults.checkpoint_every": 1})
    simulate(every, out=tmp_path / "run")
    kept = sorted(p.name for p in (tmp_path / "run/checkpoint").iterdir())
    assert kept == [f"round-00000{r}.{kind}" for r in (3, 4) for kind in ("safetensors", "sha256")]
    found = checkpoint.latest(tmp_path / "run/checkpoint")
    assert found is not None and found.position.round == 4


def test_another_experiment_is_refused(small: Experiment, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        simulate(small, out=tmp_path / "run", listener=StopAfter(1))
    with pytest.raises(RunError) as caught:
        simulate(small.replace(seed=5), out=tmp_path / "run", resume=True)
    assert str(caught.value) == (
        f"resume: {tmp_path / 'run'} is a run of another experiment: seed was 0, is 5"
    )
