"""Local-only training: every client for itself, with no server that averages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simulation.config.errors import ConfigError
from simulation.config.experiment import parse
from simulation.population.deal import prepare
from simulation.runs.run import make_strategy, simulate
from simulation.studies.study import expand, parse_study
from simulation.worker.executor import Executor
from simulation.worker.setup import Setup
from strategies import FedAvg
from strategies.client_rule import ClientRule
from tests.simulation.same_bits import StopAfter
from tests.simulation.tools import train_one

BASE: dict[str, Any] = {
    "mode": "local",
    "dataset": "fashion-mnist-mini",
    "model": "logistic",
    "clients": 4,
    "cohort": 2,
    "rounds": 2,
    "partition": {"alpha": 0.5, "validation": 0.2},
    "training": {"optimizer": "adam", "learning_rate": 0.01},
    "resources": {"engine": "inline"},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return simulate(parse(BASE), out=tmp_path_factory.mktemp("local") / "run")


def test_every_client_trains_alone_and_the_mean_is_recorded(whole: Any) -> None:
    experiment = parse(BASE)
    data, parts = prepare(experiment)
    executor = Executor(Setup(experiment, ClientRule()), data, parts)
    trainer, clients = executor.trainer, range(len(parts))
    models = {c: trainer.initial for c in clients}
    slots = dict.fromkeys(clients, trainer.initial_slots)
    for round in (1, 2):
        for c in clients:
            at = parts.train_rows(c)
            x, y = data.x_train[at], data.y_train[at]
            done = train_one(trainer, c, round, models[c], x, y, slots=slots[c])
            models[c], slots[c] = models[c] + done.update.delta, done.slots
        line = whole.rounds[round]
        found = [executor.evaluate_test(0, len(data.x_test), models[c]) for c in clients]
        accuracy = np.mean([m.right[0] / m.count[0] for m in found])
        loss = np.mean([m.loss[0] / m.count[0] for m in found])
        assert line["server_accuracy"] == pytest.approx(accuracy, abs=1e-12)
        assert line["server_loss"] == pytest.approx(loss, rel=1e-6)
        assert line["clients"] == 4  # all of them, whatever the cohort
        assert (line["bytes_up"], line["bytes_down"]) == (0, 0)
        own = [executor.evaluate_clients(np.array([c]), models[c])["accuracy"][0] for c in clients]
        table = pd.read_parquet(whole.path / "clients.parquet")
        assert table[table["round"] == round]["accuracy"].tolist() == pytest.approx(own)
    assert not (whole.path / "model.keras").exists()


def test_the_pooled_data_is_sent_nowhere(tmp_path: Path) -> None:
    one = parse({**BASE, "mode": "centralised", "rounds": 1})
    line = simulate(one, out=tmp_path / "run").rounds[1]
    assert (line["bytes_up"], line["bytes_down"]) == (0, 0)


def test_a_resumed_run_gives_the_same_models(whole: Any, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        simulate(parse(BASE), out=tmp_path / "cut", listener=StopAfter(1))
    again = simulate(parse(BASE), out=tmp_path / "cut", resume=True)
    assert again.summary["weights_sha256"] == whole.summary["weights_sha256"]
    assert again.rounds[-1]["server_accuracy"] == whole.rounds[-1]["server_accuracy"]


@pytest.mark.soak
def test_ray_gives_the_bits_of_inline(whole: Any, tmp_path: Path, ray_cluster: Any) -> None:
    wanted = parse({**BASE, "resources": {"engine": "ray", "workers": 2}})
    result = simulate(wanted, out=tmp_path / "run")
    assert result.summary["weights_sha256"] == whole.summary["weights_sha256"]
    assert result.rounds[-1]["server_loss"] == pytest.approx(whole.rounds[-1]["server_loss"])


def test_a_strategy_has_nothing_to_do() -> None:
    text = "strategy must be left out in the mode 'local', whose clients train alone, got "
    with pytest.raises(ConfigError) as error:
        make_strategy(parse({**BASE, "strategy": "fedprox"}))
    assert str(error.value) == f"{text}'fedprox'"
    with pytest.raises(ConfigError) as error:
        make_strategy(parse(BASE), FedAvg())
    assert str(error.value) == f"{text}'Federated'"


def test_baselines_of_a_study() -> None:
    base = {k: v for k, v in BASE.items() if k != "mode"}
    study = {
        "experiment": base,
        "strategies": ["fedavg", "fedprox"],
        "baselines": ["local", "centralised"],
        "sweep": {"partition.alpha": [0.1, 1.0], "cohort": [1, 2]},
    }
    plan = expand(parse_study(study))
    kept = [name for name, one in plan.items() if one.mode != "federated"]
    assert kept == ["centralised-seed0", "local-alpha-0.1-seed0", "local-alpha-1-seed0"]
    assert len(plan) == len(kept) + 2 * 2 * 2
