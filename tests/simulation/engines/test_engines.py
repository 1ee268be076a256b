"""One experiment, three engines, any number of workers: the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.serverapp import strategy as flower

from simulation.config.experiment import Experiment
from simulation.runs.run import Result, simulate
from strategies import FedAvg
from tests.simulation.tools import answering, messaging


def run(experiment: Experiment, out: Path, strategy: Any = None, **changes: Any) -> Result:
    return simulate(experiment.replace(**changes), strategy, out=out)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Result:
    from simulation.config.experiment import parse
    from tests.simulation.conftest import SMALL

    return simulate(parse(SMALL), out=tmp_path_factory.mktemp("reference") / "run")


def check_on_ray(workers: int, reference: Result, small: Experiment, out: Path) -> None:
    changes = {"resources.engine": "ray", "resources.workers": workers}
    result = run(small, out, **changes)
    assert result.summary["weights_sha256"] == reference.summary["weights_sha256"]
    for ours, theirs in zip(result.rounds, reference.rounds, strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}


def test_ray_gives_the_bits_of_inline(
    reference: Result, small: Experiment, tmp_path: Path, lent: Any
) -> None:
    check_on_ray(2, reference, small, tmp_path / "run")


@pytest.mark.soak
@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_the_bits_of_inline(
    workers: int, reference: Result, small: Experiment, tmp_path: Path, ray_cluster: Any
) -> None:
    check_on_ray(workers, reference, small, tmp_path / "run")


@pytest.mark.slow
def test_flowers_own_runtime_agrees(
    reference: Result,
    small: Experiment,
    tmp_path: Path,
    ray_cluster: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With one of Flower's actors: one has room where each holds three of four CPUs."""
    monkeypatch.setattr(ray_cluster, "shutdown", lambda: None)  # Flower ends a Ray that it joined.
    changes = {"resources.engine": "flower", "resources.client_cpus": 3}
    result = run(small, tmp_path / "run", **changes)
    np.testing.assert_allclose(result.weights, reference.weights, atol=1e-6)
    assert result.rounds[-1]["clients"] == 12


def test_flower_fedavg_object_agrees_with_ours(small: Experiment, tmp_path: Path) -> None:
    theirs = run(small, tmp_path / "theirs", flower.FedAvg(), rounds=1)
    ours = run(small, tmp_path / "ours", rounds=1)
    np.testing.assert_allclose(theirs.weights, ours.weights, atol=1e-6)
    for key in ("train_loss", "client_accuracy", "server_accuracy"):
        assert theirs.rounds[1][key] == pytest.approx(ours.rounds[1][key], rel=1e-5)


@pytest.mark.parametrize("made", [flower.FedAdam(eta=0.01), flower.FedMedian()])
def test_flower_strategies_run_unmodified(made: Any, small: Experiment, tmp_path: Path) -> None:
    result = run(small, tmp_path / "run", made)
    assert result.rounds[-1]["server_loss"] < result.rounds[0]["server_loss"]


def test_our_strategy_by_messages_gives_the_bits_of_the_fast_path(
    reference: Result, small: Experiment, tmp_path: Path
) -> None:
    from simulation.population.deal import prepare
    from simulation.worker.setup import Setup

    grid = answering()
    grid.start(Setup(small), *prepare(small))
    info = grid.info()
    driver = messaging(FedAvg(spec=info.spec), grid, info.spec, small)
    model = info.initial
    for round in (1, 2):
        model = driver.train(round, model).model
    np.testing.assert_allclose(model, reference.weights, atol=1e-6)


def test_one_client_alone_is_centralised_training(small: Experiment, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"clients": 1, "model": "logistic", "partition": {"kind": "iid"}}
    alone = run(small, tmp_path / "one", **changes)
    pooled = run(small, tmp_path / "all", **changes, mode="centralised")
    assert alone.rounds[-1]["examples"] == pooled.rounds[-1]["examples"] == 5400
    # The rows are the same, their order is not.
    for key in ("train_loss", "server_loss"):
        assert alone.rounds[-1][key] == pytest.approx(pooled.rounds[-1][key], rel=0.05)


@pytest.mark.soak
def test_strategies_with_client_state_run_alike_on_ray(
    small: Experiment, tmp_path: Path, ray_cluster: Any
) -> None:
    changes: dict[str, Any] = {"strategy": {"name": "scaffold"}, "cohort": 6, "rounds": 3}
    wanted = small.replace(**changes)
    inline = simulate(wanted, out=tmp_path / "inline")
    ray = simulate(wanted.replace(**{"resources.engine": "ray"}), out=tmp_path / "ray")
    assert ray.summary["weights_sha256"] == inline.summary["weights_sha256"]
