"""A run that was stopped and resumed is the run that was not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from simulation import checkpoint
from simulation.experiment import Experiment
from simulation.results import RunError, read_rounds
from simulation.run import Listener, simulate


class StopAfter(Listener):
    """Press Ctrl-C when the line of a round has been written."""

    def __init__(self, round: int) -> None:
        self.round = round

    def line(self, record: Mapping[str, Any]) -> None:
        if record["round"] == self.round:
            raise KeyboardInterrupt


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
    simulate(experiment(small, {"name": "fedavg"}), out=tmp_path / "run")
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
