"""Clients that fail: who it was is said, the policy decides, the others' bits stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord
from flwr.serverapp import strategy as flower
from typer.testing import CliRunner

from simulation.cli import commands
from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment, parse
from simulation.records.reading import read_lines
from simulation.runs.run import Result, simulate
from simulation.worker import faults
from simulation.worker.faults import ClientError, TooManyLost
from strategies import WeightedMean
from strategies.updates import Update
from tests.simulation.engines.ray.failing import Failing

REASONS = {
    "raise": "KeyError: 'client 3 has no such thing'",
    "memory": "MemoryError: Unable to allocate",
    "nan": "its update must be finite, got 1 NaN or infinite of ",
    "shape": "its update must have shape (",
}


@pytest.fixture(autouse=True)
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulation.runs.machinery.MessageExecutor", Failing)


def run(small: Experiment, out: Path, fault: str = "", **changes: Any) -> Result:
    named = small.replace(name=fault or "none:none", rounds=1, **changes)
    return simulate(named, out=out)


@pytest.mark.parametrize("what", REASONS)
def test_a_failing_client_fails_the_run_and_is_named(
    what: str, small: Experiment, tmp_path: Path
) -> None:
    with pytest.raises(ClientError) as caught:
        run(small, tmp_path / "run", f"{what}:3")
    assert str(caught.value).startswith(f"round 1, client 3: {REASONS[what]}")
    status = json.loads((tmp_path / "run/summary.json").read_text())["status"]
    assert status == ("diverged" if what == "nan" else "failed")


@pytest.mark.parametrize("what", REASONS)
def test_a_failing_client_is_left_out(what: str, small: Experiment, tmp_path: Path) -> None:
    skip = {"faults.on_client_error": "skip"}
    result = run(small, tmp_path / "run", f"{what}:3", **skip)
    (lost,) = read_lines(tmp_path / "run/lost.jsonl")
    assert (lost["round"], lost["client"]) == (1, 3)
    assert lost["reason"].startswith(REASONS[what])
    assert result.rounds[1]["clients_lost"] == result.summary["clients_lost"] == 1
    assert result.rounds[1]["clients"] == 11
    # The same bits, whatever the failure: the client contributes nothing.
    other = run(small, tmp_path / "other", "raise:3", **skip)
    assert result.summary["weights_sha256"] == other.summary["weights_sha256"]
    whole = run(small, tmp_path / "whole")
    assert whole.summary["weights_sha256"] != result.summary["weights_sha256"]
    assert whole.summary["clients_lost"] == 0 and not (tmp_path / "whole/lost.jsonl").exists()


def test_survivors_are_averaged_as_if_the_others_were_not(
    small: Experiment, tmp_path: Path
) -> None:
    """Skipping all but one client gives that client's model."""
    bad = " ".join(f"nan:{c}" for c in range(12) if c != 4)
    skip = {"faults.on_client_error": "skip"}
    one = run(small, tmp_path / "one", bad, **skip)
    from simulation.engines.cohort import train_cohort
    from simulation.engines.inline import InlineEngine
    from simulation.population.deal import prepare
    from simulation.worker.setup import Setup

    grid = InlineEngine()
    grid.start(Setup(small, reducer=WeightedMean()), *prepare(small))
    model = grid.info().initial
    partial = train_cohort(grid, 1, [4], model, {}).total
    np.testing.assert_array_equal(
        one.weights, (model + WeightedMean().finish(partial).delta).astype(np.float32)
    )


def test_a_fraction_may_be_lost(small: Experiment, tmp_path: Path) -> None:
    most = {"faults.on_client_error": 0.2}
    assert run(small, tmp_path / "two", "raise:3 nan:5", **most).summary["clients_lost"] == 2
    with pytest.raises(TooManyLost) as caught:
        run(small, tmp_path / "three", "raise:3 nan:5 raise:9", **most)
    assert str(caught.value) == (
        "round 1: 3 of 12 clients were lost, faults.on_client_error allows 0.2 of them; "
        "the first: client 3: KeyError: 'client 3 has no such thing'"
    )


def test_replies_that_are_needed(small: Experiment, tmp_path: Path) -> None:
    skip = {"faults.on_client_error": "skip", "faults.min_replies": 11}
    assert run(small, tmp_path / "one", "raise:3", **skip).rounds[1]["clients"] == 11
    with pytest.raises(TooManyLost, match=r"10 of 12 clients answered, faults.min_replies is 11"):
        run(small, tmp_path / "two", "raise:3 raise:4", **skip)


def test_nobody_is_left(small: Experiment, tmp_path: Path) -> None:
    everyone = " ".join(f"raise:{c}" for c in range(12))
    with pytest.raises(TooManyLost, match="0 of 12 clients answered"):
        run(small, tmp_path / "run", everyone, **{"faults.on_client_error": "skip"})


@pytest.mark.parametrize("strategy", ["scaffold", "median", "krum"])
def test_every_kind_of_reducer_and_state(strategy: str, small: Experiment, tmp_path: Path) -> None:
    skip = {"faults.on_client_error": "skip"}
    changes: dict[str, Any] = {"strategy": strategy, "rounds": 2, **skip}
    ran = [
        simulate(small.replace(name=f"{what}:3", **changes), out=tmp_path / what)
        for what in ("raise", "nan")
    ]
    assert [r.summary["clients_lost"] for r in ran] == [2, 2]
    assert ran[0].summary["weights_sha256"] == ran[1].summary["weights_sha256"]


def test_a_failed_run_goes_on_with_another_policy(small: Experiment, tmp_path: Path) -> None:
    with pytest.raises(ClientError):
        run(small, tmp_path / "run", "raise:3")
    wanted = small.replace(name="raise:3", rounds=1, **{"faults.on_client_error": "skip"})
    assert simulate(wanted, out=tmp_path / "run", resume=True).summary["clients_lost"] == 1


class Watched(flower.FedAvg):
    """An aggregation of its own, which goes by messages."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        self.seen = list(replies)
        return super().aggregate_train(server_round, self.seen)


def test_messages_of_a_flower_strategy(small: Experiment, tmp_path: Path) -> None:
    watched = Watched()
    skip = small.replace(rounds=1, **{"faults.on_client_error": "skip"})

    def poison(app: Any, message: Any, *more: Any) -> Any:
        reply, state = original(app, message, *more)
        client = message.metadata.dst_node_id
        if message.metadata.message_type == "train" and client in (2, 5):
            name, array = next(iter(reply.content["arrays"].items()))
            values = array.numpy() * np.nan if client == 2 else array.numpy()[:1]
            reply.content["arrays"] = ArrayRecord({name: type(array)(values)})
        return reply, state

    from simulation.flower import client_app

    original = client_app.answer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simulation.flower.executor.answer", poison)
        result = simulate(skip, watched, out=tmp_path / "run")
        with pytest.raises(ClientError, match=r"round 1, client 2: its .* must be finite"):
            simulate(small.replace(rounds=1), Watched(), out=tmp_path / "fails")
    answered = sorted(m.metadata.src_node_id for m in watched.seen)
    assert answered == [c for c in range(12) if c not in (2, 5)]
    lost = {one["client"]: one["reason"] for one in read_lines(tmp_path / "run/lost.jsonl")}
    assert "must be finite, got NaN or infinity" in lost[2]
    assert "must have shape" in lost[5]
    assert result.summary["clients_lost"] == 2


def test_one_look_at_a_total_sees_every_client() -> None:
    reducer, total = WeightedMean(), None
    for client in range(3):
        delta = np.ones(10, np.float32)
        if client == 1:
            delta[4] = -np.inf
        total = reducer.fold(total, Update(client, 5, delta))
        assert faults.is_finite(total) == (client < 1)
    assert faults.is_finite(np.array([1, 2])) and faults.is_finite(None)


@pytest.mark.parametrize("value", ["never", 0, 1, 1.5, True, -0.1, [1], None])
def test_bad_policies(value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"faults": {"on_client_error": value}})
    assert str(caught.value) == (
        f"faults.on_client_error must be 'fail', 'skip' or a fraction in (0, 1), got {value!r}"
    )


def test_more_replies_than_are_asked_for() -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"clients": 20, "cohort": 5, "faults": {"min_replies": 6}})
    assert str(caught.value) == "faults.min_replies must be at most the cohort (5), got 6"


def test_defaults_leave_the_identity_of_a_run(small: Experiment) -> None:
    loose = small.replace(**{"faults.on_client_error": "skip"})
    assert loose.digest() == small.digest()
    assert "realism" not in small.decisive()
    assert small.replace(**{"realism.dropout": 0.1}).digest() != small.digest()


def test_a_message_that_takes_workers_down(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is answered with an error; the others of its call are sent again."""
    from simulation.engines.calls import Call, Poisoned
    from simulation.engines.inline import InlineEngine
    from simulation.flower.grid import Answer

    class Fragile(InlineEngine):
        def submit(self, call: Call, *more: Any) -> Any:
            ticket: Any = super().submit(call, *more)
            ticket.call = call
            return ticket

        def result(self, ticket: Any, timeout: float | None = None) -> Any:
            if isinstance(ticket.call, Answer):
                metas = [m.metadata for m, _ in ticket.call.asked]
                if any(m.dst_node_id == 2 and m.message_type == "train" for m in metas):
                    raise Poisoned("its worker died (3 times)")
            return super().result(ticket, timeout)

    monkeypatch.setattr("simulation.engines.inline.InlineEngine", Fragile)
    skip = small.replace(rounds=1, **{"faults.on_client_error": "skip"})
    result = simulate(skip, Watched(), out=tmp_path / "run")
    assert result.rounds[1]["clients"] == 11
    assert read_lines(tmp_path / "run/lost.jsonl") == [
        {"round": 1, "client": 2, "reason": "its worker died (3 times)"}
    ]


def test_the_command_says_that_clients_were_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet_again: None
) -> None:
    monkeypatch.chdir(tmp_path)
    base = "run --dataset fashion-mnist-mini --model mlp --clients 12 --rounds 1 --engine inline"
    name = ["--set", "name='raise:3'", "--out", "out"]
    found = CliRunner().invoke(commands.main, [*base.split(), *name])
    assert found.exit_code == 1
    told = "round 1, client 3: KeyError: 'client 3 has no such thing'"
    assert found.stderr == f"sunflower: the run failed: {told}; see out/run.log\n"
    skip = ["run", "--resume", "--out", "out", "--set", "faults.on_client_error=skip"]
    found = CliRunner().invoke(commands.main, skip)
    assert found.exit_code == 3
    assert f"warning: lost: {told}" in " ".join(found.stdout.split())
    assert "Client results lost" in found.stdout
    assert found.stderr == ("sunflower: 1 client result was lost on the way; see out/lost.jsonl\n")
