"""How many clients Flower's strategies draw: as the experiment says, or one line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord
from flwr.serverapp import strategy as flower
from flwr.supercore.task_identity import TaskIdentity
from typer.testing import CliRunner

from simulation.cli import commands
from simulation.config import flower_sampling
from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment, parse
from simulation.config.flower_sampling import cohort_applied
from simulation.rounds.driver import RoundError, zero_weights
from simulation.runs.run import make_strategy, simulate
from tests.simulation.conftest import SMALL

PLAIN = parse({**SMALL, "model": "logistic", "rounds": 1})


class Grid:
    """As many nodes as are asked for; who waits for more waits for ever."""

    def __init__(self, clients: int) -> None:
        self.clients = clients

    def get_node_ids(self) -> Iterable[int]:
        return range(self.clients)


@pytest.fixture
def identity() -> None:
    """Flower stamps messages with who sends them."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1


def wrapped(inner: Any, count: int) -> Any:
    return flower.DifferentialPrivacyServerSideFixedClipping(inner, 0.1, 1.0, count)


@pytest.mark.parametrize(("clients", "cohort"), [(12, 1), (12, 4), (49, 1), (97, 13), (20, 20)])
@pytest.mark.parametrize("kind", [flower.FedAvg, flower.FedMedian, flower.FedProx])
def test_a_cohort_is_drawn_exactly(kind: Any, clients: int, cohort: int, identity: None) -> None:
    strategy = kind(proximal_mu=0.1) if kind is flower.FedProx else kind()
    before = dict(vars(strategy))
    with cohort_applied(strategy, PLAIN.replace(clients=clients, cohort=cohort)):
        arrays = ArrayRecord({"w": Array(np.zeros(1))})
        sent = list(strategy.configure_train(1, arrays, ConfigRecord(), Grid(clients)))
        assert flower_sampling.trained(strategy, clients) == len(sent) == cohort
    assert vars(strategy) == before


class Tenth(flower.FedAvg):
    def __init__(self, fraction_train: float = 0.1) -> None:
        super().__init__(fraction_train=fraction_train)


class Fixed(flower.FedAvg):
    def __init__(self) -> None:
        super().__init__(fraction_train=0.5)


class Bare(flower.FedAvg):
    """Samples without the attributes of FedAvg."""

    def __init__(self) -> None:
        super().__init__()
        del self.fraction_train


@pytest.mark.parametrize(
    ("strategy", "cohort", "text"),
    [
        (flower.FedAvg(), 4, None),
        (flower.FedAvg(fraction_train=0.5), 6, None),
        (flower.FedAvg(min_train_nodes=6, fraction_train=0.1), 6, None),
        (Tenth(), 4, None),
        (Fixed(), 6, None),
        (wrapped(flower.FedAvg(), 4), 4, None),
        (
            flower.FedAvg(fraction_train=0.5),
            4,
            "cohort must agree with fraction_train = 0.5 of FedAvg, which trains 6 of 12 clients, "
            "got 4",
        ),
        (
            Fixed(),
            0.25,
            "cohort must agree with fraction_train = 0.5 of Fixed, which trains 6 of 12 clients, "
            "got 0.25",
        ),
        (
            flower.FedAvg(min_train_nodes=5),
            4,
            "cohort must be at least min_train_nodes (5) of FedAvg, got 4",
        ),
        (
            Bare(),
            4,
            "cohort must be left out for Bare, which has no fraction_train and samples by itself, "
            "got 4",
        ),
        (
            wrapped(flower.FedAvg(), 12),
            4,
            "num_sampled_clients of DifferentialPrivacyServerSideFixedClipping must be the number "
            "of clients that train in a round (4), got 12",
        ),
    ],
)
def test_a_cohort_is_applied_or_refused(strategy: Any, cohort: Any, text: str | None) -> None:
    named = PLAIN.replace(cohort=cohort)
    if text is None:
        assert make_strategy(named, strategy) is strategy
        return
    with pytest.raises(ConfigError) as caught:
        make_strategy(named, strategy)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("strategy", "text"),
    [
        (
            flower.FedAvg(min_available_nodes=13),
            "min_available_nodes of FedAvg must be at most clients (12), got 13",
        ),
        (
            wrapped(flower.FedMedian(min_train_nodes=20), 20),
            "min_train_nodes of FedMedian must be at most clients (12), got 20",
        ),
        (
            flower.FedAvg(min_evaluate_nodes=30),
            "min_evaluate_nodes of FedAvg must be at most clients (12), got 30",
        ),
        (
            flower.FedAvg(fraction_train=1.5),
            "fraction_train of FedAvg must be in [0, 1], got 1.5",
        ),
        (
            flower.DifferentialPrivacyClientSideFixedClipping(flower.FedAvg(), 0.1, 1.0, 12),
            "strategy must clip on the server, as the clients have no mods that clip, "
            "got DifferentialPrivacyClientSideFixedClipping",
        ),
    ],
)
def test_what_can_never_be_is_refused_at_once(strategy: Any, text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        simulate(PLAIN, strategy, out=tmp_path / "run")
    assert str(caught.value) == text
    assert not (tmp_path / "run").exists()


def test_the_run_draws_the_cohort_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet_again: None
) -> None:
    (tmp_path / "drawing.py").write_text(
        "from flwr.serverapp.strategy import FedAvg, FedMedian\n"
        "def mean(**given): return FedAvg(**given)\n"
        "def median(): return FedMedian(fraction_evaluate=0.5, min_evaluate_nodes=1)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(out: str, *more: str) -> Any:
        given = ("run", "--dataset", "fashion-mnist-mini", "--model", "logistic", "--clients", "12")
        args = (*given, "--engine", "inline", "--rounds", "1", "--out", out, *more)
        return CliRunner().invoke(commands.main, args)

    result = run("mean", "--strategy", "drawing:mean", "--cohort", "4")
    assert result.exit_code == 0, result.output
    assert "1 round of 4 of 12 clients" in result.stdout
    assert "on 12 clients" in result.stdout  # all of them evaluate, as FedAvg's default says
    result = run("own", "--strategy", "drawing:mean", "--set", "strategy.fraction_train=0.25")
    assert "1 round of 3 of 12 clients" in result.stdout, result.output
    result = run("median", "--strategy", "drawing:median", "--cohort", "4")
    assert "1 round of 4 of 12 clients" in result.stdout, result.output
    assert "on 6 clients" in result.stdout
    given = ("--strategy", "drawing:mean", "--set", "strategy.min_available_nodes=13")
    result = run("never", *given)
    line = "sunflower: min_available_nodes of FedAvg must be at most clients (12), got 13\n"
    assert (result.exit_code, result.stderr) == (2, line)


@pytest.mark.parametrize(("fraction", "least", "wanted"), [(0.0, 2, 0), (0.5, 1, 6), (0.1, 3, 3)])
def test_evaluation_fractions_count(
    fraction: float, least: int, wanted: int, tmp_path: Path
) -> None:
    strategy = flower.FedAvg(fraction_evaluate=fraction, min_evaluate_nodes=least)
    record = simulate(PLAIN, strategy, out=tmp_path / "run").rounds[1]
    assert record["clients_evaluated"] == wanted
    assert (record["client_loss"] is None) == (wanted == 0)


class Three(flower.FedAvg):
    """Asks three clients, whatever its fraction says."""

    def configure_train(self, *given: Any) -> Any:
        return list(super().configure_train(*given))[:3]


def test_a_strategy_that_samples_by_itself_cannot_take_a_cohort(tmp_path: Path) -> None:
    with pytest.raises(RoundError) as caught:
        simulate(PLAIN.replace(cohort=4), Three(), out=tmp_path / "four")
    assert str(caught.value) == (
        "cohort must be left out for Three, which samples by itself (3 clients in round 1), got 4"
    )
    assert simulate(PLAIN, Three(), out=tmp_path / "run").rounds[1]["clients"] == 3


@pytest.mark.parametrize("error", [ValueError("total weight"), ZeroDivisionError("by zero")])
def test_weights_of_zero_name_the_round(error: Exception) -> None:
    rows = {"examples": np.zeros(4)}
    text = r"^round 3: all weights are 0, as none of its 4 clients has examples$"
    with pytest.raises(RoundError, match=text), zero_weights(3, rows):
        raise error
    with pytest.raises(type(error)), zero_weights(3, {"examples": np.ones(4)}):
        raise error


def test_a_cohort_is_no_one_elses(small: Experiment) -> None:
    strategy = flower.FedAvg()
    with cohort_applied(strategy, small.replace(cohort=4)):
        assert flower_sampling.trained(strategy, 12) == 4
    assert strategy.fraction_train == 1.0
    with cohort_applied(strategy, small.replace(cohort=8)):
        assert flower_sampling.trained(strategy, 12) == 8
