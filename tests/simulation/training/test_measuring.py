"""What a round records of costs, and who is measured at the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment, parse
from simulation.population.partition import Partition
from simulation.records.rows import client_table
from simulation.rounds import fairness
from simulation.rounds.processed import examples_seen
from simulation.runs.run import simulate
from strategies.personal import local_entries


def of(train: list[int], validation: list[int]) -> Partition:
    sizes = np.add(train, validation)
    rows = np.arange(sizes.sum(), dtype=np.int32)
    ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Partition(rows, ends, np.asarray(train, np.int32))


@pytest.mark.parametrize(("rounds", "wanted"), [(1, False), (5, False), (6, True)])
def test_all_clients_are_measured_where_it_is_cheap(rounds: int, wanted: bool) -> None:
    """Ten clients of 90 and 15 rows, one a round: 50 < 0.1 * rounds * 90 from six rounds on."""
    parts = of([90] * 10, [15] * 10)
    one = parse({"clients": 10, "cohort": 1, "rounds": rounds})
    assert fairness.is_wanted(one, parts) is wanted
    assert wanted is (0.1 * rounds * 90 > 10 * 15 / 3)
    for said in (True, False):
        assert fairness.is_wanted(one.replace(**{"evaluation.all_clients": said}), parts) is said
    assert not fairness.is_wanted(one.replace(rounds=99), of([90] * 10, [0] * 10))


def test_a_run_whose_steps_hear_one_client_is_as_cheap_as_that() -> None:
    """As above: what counts is who trains, not who is at work at a time."""
    parts = of([90] * 10, [15] * 10)
    one = {"clients": 10, "cohort": 5, "devices": "equal", "schedule": "asynchronous"}
    assert not fairness.is_wanted(parse({**one, "rounds": 5}), parts)
    assert fairness.is_wanted(parse({**one, "rounds": 6}), parts)


def test_the_key_is_known_and_changes_no_identity() -> None:
    plain = Experiment()
    assert "all_clients" not in plain.decisive()["evaluation"]
    assert plain.replace(**{"evaluation.all_clients": True}).digest() != plain.digest()
    with pytest.raises(ConfigError, match=r"^evaluation.all_clients must be false or 'auto' with"):
        parse({"evaluation": {"all_clients": True}, "resources": {"engine": "flower"}})


@pytest.mark.parametrize("batch", [1, 7, 32, None])
def test_examples_seen_are_those_of_the_batches(batch: int | None) -> None:
    sizes, steps = np.array([5, 32, 100, 33]), np.array([3, 2, 9, 1])
    expected = 0
    for n, tau in zip(sizes, steps, strict=True):
        each = n if batch is None else batch
        batches = [min(each, n - start) for start in range(0, n, each)]
        expected += sum(batches[i % len(batches)] for i in range(tau))
    assert examples_seen({"examples": sizes, "steps": steps}, batch) == expected
    assert examples_seen({"examples": sizes}, batch) is None


def test_the_clients_table_says_who_attacks_and_how_much_was_measured() -> None:
    rows = {"client": np.array([3, 5]), "examples": np.array([10, 20]),
            "train_loss": np.ones(2), "train_accuracy": np.ones(2)}  # fmt: skip
    found = {"client": np.array([5]), "examples": np.array([4]), "loss": np.ones(1),
             "accuracy": np.ones(1)}  # fmt: skip
    table = client_table(1, rows, found, {5})
    assert table["validation"].tolist() == [0, 4] and table["attacker"].tolist() == [False, True]
    assert not client_table(1, rows, found)["attacker"].any()


@pytest.mark.parametrize("strategy", ["fedper", "flwr.serverapp.strategy:FedAvg"])
def test_traffic_and_steps_are_those_made(strategy: str, tmp_path: Path) -> None:
    experiment = parse(
        {
            "dataset": "fashion-mnist-mini", "model": "mlp", "clients": 4, "cohort": 2, "rounds": 1,
            "training": {"local_epochs": 3}, "realism": {"stragglers": 0.5},
            "resources": {"engine": "inline"}, "strategy": strategy,
        }
    )  # fmt: skip
    result = simulate(experiment, out=tmp_path / "run")
    local = ("last:1",) if strategy == "fedper" else ()
    kept = len(local_entries(result.spec, local)) if local else 0
    line = result.rounds[-1]
    sent = 4 * (result.spec.size - kept) * line["clients"]
    if kept:
        assert (line["bytes_up"], line["bytes_down"]) == (sent, 4 * (result.spec.size - kept) * 2)
    assert 0 < line["examples_seen"] <= 3 * line["examples"]
