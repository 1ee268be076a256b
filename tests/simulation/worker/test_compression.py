"""Encoded updates in a run: what the server reads, what clients keep, which bytes are recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flwr.serverapp import strategy as flower

from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment, parse
from simulation.runs.preflight import check_resume
from simulation.runs.run import make_strategy, simulate
from simulation.worker.faults import TooManyLost
from strategies import Krum, average, plain
from strategies.algorithm import Algorithm
from tests.simulation.same_bits import StopAfter
from tests.simulation.worker.compression_cases import check, inputs_of

TOP = {"kind": "top-k", "fraction": 0.02}


@pytest.mark.parametrize("kind", ["top-k", "qsgd", "majority-vote"])
def test_the_server_reads_what_was_encoded(kind: str) -> None:
    check("tensorflow", kind)


def test_attackers_encode_what_they_send(small: Experiment) -> None:
    plainly, encoded = (
        inputs_of(small.replace(attack={"kind": "scale", "fraction": 1}, compression=kind))
        for kind in ("none", {"kind": "top-k", "fraction": 0.1})
    )
    delta = np.asarray(plainly([3])[0].update.delta)
    found = np.asarray(encoded([3])[0].update.delta)
    kept = np.flatnonzero(found)
    np.testing.assert_array_equal(found[kept], delta[kept])
    # Of entries of one size, which there may be, any may be the last one.
    largest = np.sort(np.abs(delta))[-int(0.1 * delta.size) :]
    np.testing.assert_array_equal(np.sort(np.abs(found[kept])), largest)


def test_a_run_that_was_stopped_goes_on_with_memory_and_draws(
    small: Experiment, tmp_path: Path
) -> None:
    wanted = small.replace(
        model="logistic", rounds=3, cohort=6, compression={"kind": "random-k", "fraction": 0.1}
    )
    whole = simulate(wanted, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        simulate(wanted, out=tmp_path / "cut", listener=StopAfter(2))
    resumed = simulate(wanted, out=tmp_path / "cut", resume=True)
    assert resumed.summary["weights_sha256"] == whole.summary["weights_sha256"]
    for ours, theirs in zip(resumed.rounds, whole.rounds, strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}
    forgetful = wanted.replace(**{"compression.error_feedback": False})
    assert simulate(forgetful).summary["weights_sha256"] != whole.summary["weights_sha256"]


def test_recorded_bytes_and_the_clocks_uplink_are_those_of_the_message(tmp_path: Path) -> None:
    base = {
        "dataset": "fashion-mnist-mini", "model": "logistic", "clients": 4, "rounds": 1,
        "resources": {"engine": "inline"},
    }  # fmt: skip
    devices = {"step_seconds": 1e-9, "up": 1000.0}
    size = 7850  # 784 x 10 and 10
    places = 157 * 32 + 157 * 13  # 2 % of them, each of 32 bits and a place of 13
    for kind, length in (("none", 4 * size), (TOP, -(-places // 8)), ("sign", 8 + -(-size // 8))):
        out = tmp_path / str(length)
        result = simulate(parse(base | {"compression": kind, "devices": devices}), out=out)
        assert result.rounds[1]["bytes_up"] == 4 * length
        assert result.rounds[1]["bytes_down"] == 4 * 4 * size
        assert result.rounds[1]["virtual_seconds"] == pytest.approx(length / 1000)
        assert (pd.read_parquet(out / "events.parquet")["bytes_up"] == length).all()


def test_the_baselines_send_nothing(small: Experiment) -> None:
    local = small.replace(mode="local", rounds=1)
    plainly, encoded = (simulate(local.replace(compression=kind)) for kind in ("none", TOP))
    assert encoded.summary["weights_sha256"] == plainly.summary["weights_sha256"]


def test_an_update_that_is_not_finite_is_found(small: Experiment, tmp_path: Path) -> None:
    wild = small.replace(
        compression="sign", faults={"on_client_error": "skip"}, training={"learning_rate": 1e30}
    )
    with pytest.raises(TooManyLost, match=r"client 0: its update must be finite, got [1-9]"):
        simulate(wild, out=tmp_path / "run")


def krum() -> Algorithm:
    return Algorithm("Krum", plain(), Krum(1), average())


VOTE = {"kind": "majority-vote", "step": 0.01}
REFUSED: list[tuple[dict[str, Any], Callable[[], Any] | None, str]] = [
    ({}, flower.FedAvgM,
     "compression must be left out with a Flower strategy, whose messages hold whole arrays, "
     "got 'top-k'"),
    ({"strategy": {"name": "dp-fedavg", "noise_multiplier": 1.0}}, None,
     "compression must be left out with noise for differential privacy, got 'top-k'"),
    ({"strategy": "scaffold"}, None,
     "compression must be left out with SCAFFOLD, whose clients send more than their update, "
     "got 'top-k'"),
    ({"strategy": {"name": "fedper"}}, None,
     "compression must be left out with FedPer, of whose model a part stays on the clients, "
     "got 'top-k'"),
    ({"attack": "alie"}, None,
     "attack.kind must be that of clients which act alone with the compression 'top-k', as what "
     "colluding ones send is not encoded, got 'alie'"),
    ({"compression": VOTE}, krum,
     "strategy must average its clients' updates with the compression 'majority-vote', whose "
     "server counts signs, got Krum"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "strategy", "line"), REFUSED, ids=lambda v: getattr(v, "__name__", str(v)[:30])
)
def test_what_does_not_fit_is_refused(
    changes: dict[str, Any], strategy: Any, line: str, small: Experiment, tmp_path: Path
) -> None:
    wanted = small.replace(**{"compression": TOP} | changes)
    with pytest.raises(ConfigError) as caught:
        simulate(wanted, strategy and strategy(), out=tmp_path / "run")
    assert str(caught.value) == line
    assert not (tmp_path / "run").exists()


def test_what_flower_does_not_give_out_is_not_resumed(small: Experiment) -> None:
    wanted = small.replace(compression=TOP, **{"resources.engine": "flower"})
    with pytest.raises(ConfigError) as caught:
        check_resume(wanted, make_strategy(wanted))
    assert str(caught.value) == (
        "resources.engine must be 'ray' or 'inline' to resume a run whose clients keep state, got "
        "'flower', which does not give it out"
    )
    check_resume(wanted.replace(compression="qsgd"), make_strategy(wanted))


@pytest.mark.parametrize("kind", ["buffered", "asynchronous"])
def test_clients_sent_out_one_by_one_keep_no_memory(
    kind: str, small: Experiment, tmp_path: Path
) -> None:
    wanted = small.replace(
        model="logistic", cohort=4, devices={"kind": "lognormal", "up": 1e4}, schedule=kind
    )
    with pytest.raises(ConfigError) as caught:
        simulate(wanted.replace(compression="top-k"), out=tmp_path / "run")
    assert str(caught.value) == (
        f"compression.error_feedback must be false with the schedule {kind!r}, whose clients keep "
        "nothing between their updates, got true"
    )
    assert not (tmp_path / "run").exists()
    plain, encoded = (simulate(wanted.replace(compression=c)) for c in ("none", "ternary"))
    assert encoded.rounds[1]["bytes_up"] < plain.rounds[1]["bytes_up"] / 15
    assert encoded.rounds[2]["virtual_seconds"] < plain.rounds[2]["virtual_seconds"]


BAD: list[tuple[Any, str]] = [
    ("gzip", "compression.kind must be one of none, top-k, random-k, qsgd, sign, majority-vote, "
     "ternary, rounding, low-rank, sketch, got 'gzip'"),
    ({"kind": "top-k", "fraction": 0}, "compression.fraction must be > 0, got 0"),
    ({"kind": "top-k", "bits": 4}, "compression.bits must be left out for the compression 'top-k', "
     "got 4"),
    ({"fraction": 0.1}, "compression.fraction must be left out for the compression 'none', "
     "got 0.1"),
    ({"kind": "qsgd", "error_feedback": True}, "compression.error_feedback must be left out for "
     "the compression 'qsgd', got True"),
    ({"kind": "qsgd", "bits": 1}, "compression.bits must be from 2 to 16, got 1"),
    ({"kind": "rounding", "bits": 17}, "compression.bits must be from 1 to 16, got 17"),
    ("majority-vote", "compression.step must be given for the compression 'majority-vote', "
     "got none"),
    ({"kind": "sign", "step": 0.1}, "compression.step must be left out for the compression 'sign', "
     "got 0.1"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "line"), BAD, ids=str)
def test_bad_sections(given: Any, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"compression": given})
    assert str(caught.value) == line


def test_a_run_without_it_keeps_its_identity() -> None:
    assert "compression" not in Experiment().decisive()
    assert parse({"compression": "none"}).digest() == Experiment().digest()
    assert parse({"compression": "top-k"}).digest() != Experiment().digest()
