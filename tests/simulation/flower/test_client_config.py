"""What a strategy tells its clients: learning rate, epochs and batch size, on every path."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import strategy as flower

from simulation.config.experiment import parse
from simulation.flower import client_config
from simulation.rounds.driver import RoundError
from simulation.runs.run import simulate
from simulation.training.client_config import ClientConfig
from tests.simulation.conftest import SMALL
from tests.simulation.flower.test_their_strategies import seeing_all

PLAIN = parse({**SMALL, "model": "logistic", "rounds": 1})


def telling(base: type = flower.FedAvg, **says: Any) -> Any:
    """Return a strategy that tells all clients the same; ``_`` of the keys becomes ``-``."""

    class Telling(base):  # type: ignore[misc]
        def configure_train(self, round: int, arrays: Any, config: Any, grid: Any) -> Any:
            told = {key.replace("_", "-"): value for key, value in says.items()}
            return super().configure_train(round, arrays, ConfigRecord({**config, **told}), grid)

    return Telling()


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({}, ClientConfig()),
        ({"server-round": 3, "proximal-mu": 0.1, "momentum": 0.9}, ClientConfig()),
        ({"lr": 0.1, "local-epochs": 2, "batch-size": 8}, ClientConfig(0.1, 2, 8)),
        ({"learning_rate": 1, "epochs": 2.0, "batch_size": 8}, ClientConfig(1.0, 2, 8)),
        ({"learning-rate": 0.5, "lr": 0.5, "local_epochs": 3}, ClientConfig(0.5, 3)),
    ],
)
def test_names_of_settings(config: dict[str, Any], wanted: ClientConfig) -> None:
    assert client_config.read(config) == wanted


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"lr": -0.1}, "lr must be a number > 0, got -0.1 from Decay"),
        ({"lr": "fast"}, "lr must be a number > 0, got 'fast' from Decay"),
        ({"lr": float("nan")}, "lr must be a number > 0, got nan from Decay"),
        ({"local-epochs": 0}, "local-epochs must be a whole number >= 1, got 0 from Decay"),
        ({"epochs": 1.5}, "epochs must be a whole number >= 1, got 1.5 from Decay"),
        ({"batch_size": True}, "batch_size must be a whole number >= 1, got True from Decay"),
        (
            {"lr": 0.1, "learning-rate": 0.2},
            "learning-rate must be lr (0.1), which says the same, got 0.2 from Decay",
        ),
    ],
)
def test_a_value_that_is_none_is_one_line(config: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError) as caught:
        client_config.read(config, "Decay")
    assert str(caught.value) == text


def test_keys_that_nobody_knows() -> None:
    known = {"lr": 0, "local_epochs": 0, "server_round": 0, "proximal-mu": 0, "shared.mu": 0}
    assert client_config.unknown({**known, "warmup": 1, "augment": True}) == ["augment", "warmup"]


def test_means_are_weighted_by_examples() -> None:
    told = [ClientConfig(0.1, 1), ClientConfig(0.4, 3, 8)]
    assert client_config.means(told, [2, 1]) == pytest.approx(
        {"learning_rate": (2 * 0.1 + 0.4) / 3, "local_epochs": (2 * 1 + 3) / 3}
    )
    assert client_config.means([], []) == {}


@pytest.mark.parametrize("base", [flower.FedAvg, seeing_all(flower.FedAvg)], ids=["fold", "send"])
def test_what_is_told_is_what_a_run_with_these_settings_does(base: Any, tmp_path: Path) -> None:
    told = telling(base, lr=0.02, local_epochs=2, batch_size=8)
    found = simulate(PLAIN, told, out=tmp_path / "told")
    training = {"learning_rate": 0.02, "local_epochs": 2, "batch_size": 8}
    wanted = simulate(PLAIN.replace(training=training), base(), out=tmp_path / "set")
    np.testing.assert_array_equal(found.weights, wanted.weights)
    plain = simulate(PLAIN, base(), out=tmp_path / "plain")
    assert np.abs(found.weights - plain.weights).max() > 1e-3
    record = found.rounds[1]
    assert (record["learning_rate"], record["local_epochs"], record["batch_size"]) == (0.02, 2, 8)
    assert "learning_rate" not in plain.rounds[1]


def test_the_rate_of_one_round_is_not_that_of_the_next(tmp_path: Path) -> None:
    """Round 1 trains at another rate; round 2, told nothing, at the experiment's."""

    class First(flower.FedAvg):
        def configure_train(self, round: int, arrays: Any, config: Any, grid: Any) -> Any:
            record = ConfigRecord({"lr": 0.5} if round == 1 else {})
            return super().configure_train(round, arrays, record, grid)

    both = simulate(PLAIN.replace(rounds=2), First(), out=tmp_path / "both")
    assert [line.get("learning_rate") for line in both.rounds] == [None, 0.5, None]
    slow = simulate(PLAIN.replace(rounds=2), telling(lr=0.5), out=tmp_path / "slow")
    assert both.rounds[1]["update_norm"] == slow.rounds[1]["update_norm"]
    assert both.rounds[2]["update_norm"] < 0.5 * slow.rounds[2]["update_norm"]


def test_each_client_may_be_told_its_own(tmp_path: Path) -> None:
    """Clients with even numbers train at a rate of nothing; the others move."""
    moved: dict[int, bool] = {}

    class Own(flower.FedAvg):
        def configure_train(self, *given: Any) -> list[Message]:
            found = []
            for message in super().configure_train(*given):
                node = message.metadata.dst_node_id
                told = ConfigRecord({"lr": 1e-30 if node % 2 == 0 else 0.05, "server-round": 1})
                content = RecordDict({"arrays": given[1], "config": told})
                found.append(Message(content, node, "train"))
            self.sent = given[1].to_numpy_ndarrays()
            return found

        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            for reply in replies:
                pairs = zip(reply.content["arrays"].to_numpy_ndarrays(), self.sent, strict=True)
                change = max(np.abs(now - before).max() for now, before in pairs)
                moved[reply.metadata.src_node_id] = bool(change > 1e-9)
            return super().aggregate_train(server_round, replies)

    run = simulate(PLAIN, Own(), out=tmp_path / "own")
    assert moved == {client: client % 2 == 1 for client in range(PLAIN.clients)}
    assert 1e-30 < run.rounds[1]["learning_rate"] < 0.05


def test_unknown_keys_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "sunflower"):
        simulate(PLAIN.replace(rounds=3), telling(warmup=2, lr=0.05), out=tmp_path / "run")
    lines = [r.getMessage() for r in caplog.records if "warmup" in r.getMessage()]
    assert lines == [
        "Telling tells clients 'warmup', which they do not know and leave aside "
        "(they know lr, learning-rate, epochs, local-epochs, batch-size)"
    ]


def test_a_bad_value_ends_the_run_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RoundError) as caught:
        simulate(PLAIN, telling(local_epochs=0), out=tmp_path / "run")
    wanted = "local-epochs must be a whole number >= 1, got 0 from Telling in round 1"
    assert str(caught.value) == wanted


def scheduled(shape: Any, classes: int) -> Any:
    import keras

    model = keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes)]
    )
    rate = keras.optimizers.schedules.ExponentialDecay(0.05, 10, 0.9)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate), loss)
    return model


def test_a_schedule_takes_no_rate_from_a_strategy(tmp_path: Path) -> None:
    own = PLAIN.replace(model=f"{__name__}:scheduled")
    with pytest.raises(RoundError, match=r"^lr must be left out for a model whose optimizer has a"):
        simulate(own, telling(lr=0.05), out=tmp_path / "rate")
    simulate(own, telling(epochs=2), out=tmp_path / "epochs")


@pytest.mark.parametrize(
    ("told", "section", "line"),
    [
        ({"local_epochs": 2}, {"training.local_steps": 3},
         "training.local_steps must be left out where the strategy tells local_epochs, got 2"),
        ({"lr": 0.5}, {"training.decay": "cosine"},
         "training.decay must be left out where the strategy tells lr, got 0.5"),
    ],
)  # fmt: skip
def test_what_the_strategy_would_set_aside_is_refused(
    told: dict[str, Any], section: dict[str, Any], line: str, tmp_path: Path
) -> None:
    with pytest.raises(RoundError) as caught:
        simulate(PLAIN.replace(**section), telling(**told), out=tmp_path / "run")
    assert str(caught.value).startswith(line)
