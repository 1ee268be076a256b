"""Examples that the server keeps: no client has them, and a strategy's server trains on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulation import simulate
from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment
from simulation.population.deal import prepare
from simulation.population.root import root_rows
from simulation.worker.executor import Executor
from simulation.worker.setup import Setup
from strategies import catalog
from tests.simulation.same_bits import StopAfter

ROOT = {"kind": "dirichlet", "alpha": 0.5, "root": 60}


@pytest.mark.parametrize("kind", ["iid", "dirichlet", "on-demand", "shards"])
def test_no_client_has_what_the_server_keeps(small: Experiment, kind: str) -> None:
    small = small.replace(partition={"kind": kind, "root": 60})
    data, parts = prepare(small)
    held = root_rows(small, len(data.y_train))
    assert held is not None and len(set(held.tolist())) == 60
    every = np.concatenate([parts.rows(client) for client in range(len(parts))])
    assert not np.isin(held, every).any()
    if kind != "on-demand":
        assert sorted([*every.tolist(), *held.tolist()]) == list(range(len(data.y_train)))
    again = root_rows(small.replace(clients=3), len(data.y_train))
    assert again is not None and again.tolist() == held.tolist()
    other = root_rows(small.replace(seed=9), len(data.y_train))
    assert other is not None and other.tolist() != held.tolist()


def test_the_server_trains_as_a_client_that_has_its_examples(small: Experiment) -> None:
    """To the bit: as the client of that number whose rows they are."""
    small = small.replace(partition=ROOT, model="logistic", **{"training.local_epochs": 2})
    algorithm = catalog.build("fltrust")
    data, parts = prepare(small)
    executor = Executor(Setup(small, algorithm.client, algorithm.reducer), data, parts)
    start = executor.trainer.info.initial
    found = executor.train_on_server(3, start, {})

    class WithServer:
        """The partition with one client more."""

        def train_rows(self, client: int) -> Any:
            return executor.root if client == len(parts) else parts.train_rows(client)

    executor.partition = WithServer()  # type: ignore[assignment]
    total = executor.train(3, np.array([len(parts)]), start, {}, [None])[0].partial
    np.testing.assert_array_equal(found, total.deltas[0])
    assert np.abs(found).max() > 1e-4


def test_a_run_goes_on_to_the_bit_and_tells_of_clients_alone(
    small: Experiment, tmp_path: Path
) -> None:
    attack = {"kind": "sign-flip", "fraction": 0.4}
    small = small.replace(
        strategy="fltrust", partition=ROOT, model="logistic", cohort=6, rounds=3, attack=attack
    )
    whole = simulate(small, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        simulate(small, out=tmp_path / "part", listener=StopAfter(2))
    resumed = simulate(small, out=tmp_path / "part", resume=True)
    assert whole.weights.tobytes() == resumed.weights.tobytes()
    parameters = whole.weights.size
    for line in whole.rounds[1:]:
        assert line["clients"] == 6
        assert line["bytes_up"] == line["bytes_down"] == 6 * 4 * parameters


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no examples": (
        {"partition": {"kind": "iid"}},
        "partition.root must be given with FLTrust, whose server trains on examples of its own, "
        "got none",
    ),
    "all of them": (
        {"partition": {"kind": "iid", "root": 10**6}},
        "partition.root must be less than the {rows} training examples, got 1000000",
    ),
    "messages": (
        {"resources": {"engine": "flower"}},
        "resources.engine must be 'ray' or 'inline' with FLTrust, whose server trains as clients "
        "do, got 'flower'",
    ),
    "edges": (
        {"devices": "equal", "schedule": {"kind": "hierarchical", "edges": 2}},
        "schedule must be one without edges with FLTrust, whose server trains on examples of its "
        "own, got 'hierarchical'",
    ),
    "cloud": (
        {
            "strategy": "fedavg",
            "devices": "equal",
            "schedule": {"kind": "hierarchical", "edges": 2, "cloud": "fltrust"},
        },
        "schedule.cloud must be another strategy, as its server trains as clients do, which edges "
        "do not, got 'FLTrust'",
    ),
    "one by one": (
        {"devices": "equal", "schedule": "buffered"},
        "strategy must be another with the schedule 'buffered', as the reducer compares updates "
        "with each other, which must start from one model, got 'FLTrust'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_had_is_one_line(
    case: str, small: Experiment, tmp_path: Path, rows_of: Callable[[Experiment], int]
) -> None:
    changes, line = REFUSED[case]
    asked = small.replace(**{"strategy": "fltrust", "partition": ROOT, **changes})
    with pytest.raises(ConfigError) as caught:
        simulate(asked, out=tmp_path / "run")
    assert str(caught.value) == line.format(rows=rows_of(small))
    assert not (tmp_path / "run").exists()


@pytest.fixture
def rows_of() -> Callable[[Experiment], int]:
    return lambda experiment: len(prepare(experiment)[0].y_train)
