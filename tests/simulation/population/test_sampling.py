"""Sampling in runs: who is chosen, resuming, what is refused; notes in the rounds' records."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from flwr.serverapp import strategy as flower

from simulation.config.errors import ConfigError
from simulation.config.experiment import parse
from simulation.listeners.listener import Listener
from simulation.population.deal import prepare
from simulation.runs.run import make_strategy, simulate
from strategies import epsilon
from tests.simulation.same_bits import StopAfter

BASE = {
    "dataset": "synthetic(1,1)",
    "model": "logistic",
    "clients": 30,
    "cohort": 5,
    "rounds": 8,
    "partition": "natural",
    "training": {"learning_rate": 0.01, "batch_size": 10},
    "evaluation": {"clients": False, "server": False},
    "resources": {"engine": "inline"},
}


class Notes(Listener):
    """Keeps what a run says of itself."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def weights_in(path):
    return json.loads((path / "config.json").read_text())["weights"]


def chosen(result):
    table = pd.read_parquet(result.path / "clients.parquet")
    return [table[table["round"] == r]["client"].tolist() for r in range(1, 9)], table


def test_by_size_and_in_turn(tmp_path):
    _, parts = prepare(parse(BASE))
    told = Notes()
    plan = parse(BASE | {"sampling": "by-size"})
    by_size = simulate(plan, out=tmp_path / "by-size", listener=told)
    cohort = make_strategy(parse(BASE | {"sampling": "by-size"})).cohort
    expected = [cohort.sample(r, 30, sizes=parts.train_sizes) for r in range(1, 9)]
    assert chosen(by_size)[0] == expected
    # Size has counted when the cohort was drawn.
    assert weights_in(by_size.path) == "uniform"
    assert told.notes[0] == (
        "sampling 'by-size' draws clients by size: their updates weigh alike "
        "(Li et al. 2020, arXiv 1907.02189, scheme I)"
    )
    alike = {"name": "fedavg", "weights": "uniform"}
    again = simulate(parse(BASE | {"sampling": "by-size", "strategy": alike}), out=tmp_path / "u")
    assert again.summary["weights_sha256"] == by_size.summary["weights_sha256"]
    in_turn = simulate(parse(BASE | {"sampling": "round-robin"}), out=tmp_path / "in-turn")
    assert weights_in(in_turn.path) == "examples"
    first = np.concatenate(chosen(in_turn)[0][:6])
    assert sorted(first.tolist()) == list(range(30))


def test_power_of_choice_goes_by_the_losses_reported_and_resumes(tmp_path):
    wanted = parse(BASE | {"sampling": {"kind": "power-of-choice", "candidates": 30}})
    whole = simulate(wanted, out=tmp_path / "whole")
    cohorts, table = chosen(whole)
    # With all as candidates, everybody is met once before anybody is met again.
    assert sorted(np.concatenate(cohorts[:6]).tolist()) == list(range(30))
    losses = table[table["round"] <= 6].set_index("client")["train_loss"]
    assert cohorts[6] == sorted(losses.nlargest(5).index.tolist())
    with pytest.raises(KeyboardInterrupt):
        simulate(wanted, out=tmp_path / "cut", listener=StopAfter(6))
    resumed = simulate(wanted, out=tmp_path / "cut", resume=True)
    assert resumed.summary["weights_sha256"] == whole.summary["weights_sha256"]


@pytest.mark.parametrize("name", ["fedprox-adaptive", "dp-fedavg-adaptive"])
def test_what_the_server_adapts_is_recorded_and_resumed(name, tmp_path):
    options = {"window": 1} if "prox" in name else {}
    wanted = parse(BASE | {"strategy": {"name": name, **options}})
    whole = simulate(wanted, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        simulate(wanted, out=tmp_path / "cut", listener=StopAfter(4))
    resumed = simulate(wanted, out=tmp_path / "cut", resume=True)
    assert resumed.summary["weights_sha256"] == whole.summary["weights_sha256"]
    for ours, theirs in zip(resumed.rounds, whole.rounds, strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}
    told = [line["mu" if "prox" in name else "clip"] for line in whole.rounds[1:]]
    assert len(set(told)) > 1
    if name.startswith("dp"):
        spent = [line["epsilon"] for line in whole.rounds[1:]]
        assert spent == [epsilon(1.0, 5 / 30, r, 30**-1.1) for r in range(1, 9)]
    else:
        losses = [line["train_loss"] for line in whole.rounds[1:]]
        rises = sum(b > a for a, b in pairwise(losses))
        last = told[-1] + 0.1 * (losses[-1] > losses[-2])
        assert last == pytest.approx(0.1 * rises)  # no five falls in a row here


def test_a_target_epsilon_is_kept_at_the_end(tmp_path):
    pytest.importorskip("dp_accounting")
    strategy = {"name": "dp-fedavg", "target_epsilon": 8.0, "delta": 1e-3}
    result = simulate(parse(BASE | {"strategy": strategy}), out=tmp_path / "run")
    assert 7.99 < result.rounds[-1]["epsilon"] <= 8.0
    assert result.rounds[-1]["delta"] == 1e-3


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"sampling": "uniforn"},
            "sampling.kind must be one of uniform, poisson, by-size, round-robin, power-of-choice, "
            "oort, tifl, got 'uniforn'; did you mean 'uniform'?",
        ),
        (
            {"sampling": {"candidates": 10}},
            "sampling.candidates must be left out for the sampling 'uniform', got 10",
        ),
        (
            {"sampling": {"kind": "power-of-choice", "candidates": 4}},
            "sampling.candidates must be between cohort (5) and clients (30), got 4",
        ),
        (
            {
                "sampling": {"kind": "power-of-choice", "candidates": 7},
                "realism": {"over_selection": 0.5},
            },
            "sampling.candidates must be between cohort and realism.over_selection (8) and clients "
            "(30), got 7",
        ),
        (
            {"sampling": "round-robin", "realism": {"availability": 0.5}},
            "sampling must be another than 'round-robin' where realism.availability is below 1: "
            "who is away at its turn would miss it, and others would be asked more often, got 0.5",
        ),
        (
            {"sampling": "by-size", "resources": {"engine": "flower"}},
            "sampling must be uniform, poisson or round-robin with the engine 'flower', whose "
            "server does not know the clients' sizes, got 'by-size'",
        ),
        (
            {"sampling": "by-size", "strategy": "dp-fedavg"},
            "sampling must be 'poisson' or 'uniform' with noise for differential privacy, whose "
            "account takes every client as equally likely, got 'by-size'",
        ),
    ],
)
def test_samplings_that_are_refused(changes, text):
    with pytest.raises(ValueError) as caught:
        make_strategy(parse(BASE | changes))
    assert str(caught.value) == text


def test_flower_strategies_sample_by_themselves():
    with pytest.raises(ConfigError) as caught:
        make_strategy(parse(BASE | {"sampling": "round-robin"}), flower.FedAvg())
    assert str(caught.value) == (
        "sampling must be left out for a Flower strategy, which samples by itself, "
        "got 'round-robin'"
    )


def test_uniform_sampling_leaves_a_runs_identity_alone():
    assert parse(BASE).digest() == parse(BASE | {"sampling": "uniform"}).digest()
    assert "sampling" not in parse(BASE).decisive()
    assert parse(BASE | {"sampling": "by-size"}).digest() != parse(BASE).digest()


@pytest.mark.parametrize(
    ("changes", "revised"),
    [
        ({}, None),
        ({"sampling": "by-size"}, ["uniform weights"]),
        ({"sampling": "power-of-choice", "strategy": "fednova"}, ["uniform weights"]),
        ({"sampling": "by-size", "strategy": {"name": "fedavg", "weights": "examples"}}, None),
        ({"sampling": "by-size", "strategy": "krum"}, None),
        ({"sampling": "by-size", "mode": "centralised"}, None),
        ({"strategy": "fedprox-adaptive"}, ["smoothed loss"]),
        ({"strategy": "rfa"}, ["converged median"]),
        ({"strategy": {"name": "rfa", "iterations": 3}}, None),
        ({"strategy": "fedprox-adaptive", "cohort": None}, None),
        ({"strategy": {"name": "fedprox-adaptive", "window": 1}}, None),
        ({"strategy": "scaffold"}, None),
        ({"strategy": "scaffold", "training": {"momentum": 0.9}}, ["client momentum"]),
        ({"strategy": "fednova", "model": "mine:model"}, ["client momentum"]),
    ],
)
def test_what_is_computed_otherwise_than_before_has_a_new_identity(changes, revised):
    assert parse(BASE | changes).decisive().get("revised") == revised
