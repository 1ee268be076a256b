"""Flower's strategies on our engines: the weighted means fold, all resume, FedProx pulls."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp import strategy as flower

from simulation.config.experiment import parse
from simulation.engines.inline import InlineEngine
from simulation.flower import their_strategies
from simulation.flower.grid import MessageGrid
from simulation.population.deal import prepare
from simulation.runs.run import simulate
from simulation.worker.setup import Setup
from strategies import FedProx, WeightedMean
from tests.simulation.conftest import SMALL
from tests.simulation.same_bits import StopAfter
from tests.simulation.tools import answering, messaging

MADE: dict[str, Any] = {
    "FedAvg": lambda kind=flower.FedAvg: kind(fraction_train=0.5),
    "FedAvgM": lambda kind=flower.FedAvgM: kind(fraction_train=0.5, server_momentum=0.9),
    "FedProx": lambda kind=flower.FedProx: kind(fraction_train=0.5, proximal_mu=1.0),
    "FedAdagrad": lambda kind=flower.FedAdagrad: kind(fraction_train=0.5, eta=0.01),
    "FedAdam": lambda kind=flower.FedAdam: kind(fraction_train=0.5, eta=0.01, tau=0.1),
    "FedYogi": lambda kind=flower.FedYogi: kind(fraction_train=0.5, eta=0.01, tau=0.1),
}
PLAIN = parse({**SMALL, "model": "logistic"})


def seeing_all(kind: type) -> type:
    """Return a subclass that must see every reply, and counts them."""

    class Seeing(kind):  # type: ignore[misc]
        seen = 0

        def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
            replies = list(replies)
            self.seen += len(replies)
            return super().aggregate_train(server_round, replies)

    return Seeing


@pytest.fixture(scope="module")
def engines() -> dict[bool, InlineEngine]:
    """One executor for strategies without mu, one with."""
    found = {}
    for told in (False, True):
        found[told] = answering()
        rule = their_strategies.client_rule(
            flower.FedProx(proximal_mu=1.0) if told else flower.FedAvg()
        )
        found[told].start(Setup(PLAIN, rule, WeightedMean()), *prepare(PLAIN))
    return found


def rounds(strategy: Any, engine: InlineEngine, count: int = 3) -> tuple[np.ndarray, list[Any]]:
    info = engine.info()
    driver, model, trained = messaging(strategy, engine, info.spec, PLAIN), info.initial, []
    for number in range(1, count + 1):
        trained.append(driver.train(number, model))
        model = trained[-1].model
    return model, trained


def test_the_list_is_of_exact_types() -> None:
    assert {kind.__name__ for kind in their_strategies.WEIGHTED_MEANS} == set(MADE)
    assert all(their_strategies.needs_only_the_mean(make()) for make in MADE.values())


@pytest.mark.parametrize("name", MADE)
def test_one_reply_with_the_mean_gives_what_all_replies_give(
    name: str, engines: dict[bool, InlineEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, kind = engines[name == "FedProx"], getattr(flower, name)
    patient = MADE[name](seeing_all(kind))
    by_messages, slow = rounds(patient, engine)
    assert patient.seen == 3 * 6

    def refuse(*_: object) -> None:
        raise AssertionError("a message was sent")

    monkeypatch.setattr(MessageGrid, "send_and_receive", refuse)
    folded, fast = rounds(MADE[name](), engine)
    np.testing.assert_allclose(folded, by_messages, atol=1e-6)
    for ours, theirs in zip(fast, slow, strict=True):
        assert ours.rows["client"].tolist() == theirs.rows["client"].tolist()
        assert ours.bytes_down == theirs.bytes_down and ours.bytes_up == theirs.bytes_up
        for column in ("examples", "train_loss", "train_accuracy"):
            np.testing.assert_allclose(ours.rows[column], theirs.rows[column], rtol=1e-4)


class Configuring(flower.FedAvg):
    """Sends every client a record of its own: what it says is for the client to read."""

    def configure_train(self, *given: Any) -> list[Message]:
        messages = list(super().configure_train(*given))
        return [Message(m.content.copy(), m.metadata.dst_node_id, "train") for m in messages]


class Logging(flower.FedAvg):
    def summary(self) -> None: ...


class Rounding(flower.FedAvg):
    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        return super().aggregate_train(server_round, list(replies)[:1])


@pytest.mark.parametrize(
    ("strategy", "only_mean"),
    [
        (Logging(), True),
        (Configuring(), True),
        (Rounding(), False),
        (flower.FedAvg(weighted_by_key="num-steps"), False),
        (flower.FedAvg(train_metrics_aggr_fn=lambda replies, key: MetricRecord()), False),
        (flower.FedMedian(), False),
        (flower.FedTrimmedAvg(), False),
        (flower.Krum(num_malicious_nodes=1), False),
        (flower.QFedAvg(client_learning_rate=0.1), False),
        (flower.DifferentialPrivacyServerSideFixedClipping(flower.FedAvg(), 0.1, 1.0, 6), False),
        (FedProx(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_who_is_on_the_list(strategy: Any, only_mean: bool) -> None:
    assert their_strategies.needs_only_the_mean(strategy) == only_mean
    strategy.aggregate_train = lambda *_: (None, None)
    assert not their_strategies.needs_only_the_mean(strategy)


def test_messages_that_differ_are_sent(engines: dict[bool, InlineEngine]) -> None:
    folded, _ = rounds(MADE["FedAvg"](), engines[False], 1)
    sent, _ = rounds(MADE["FedAvg"](Configuring), engines[False], 1)
    np.testing.assert_allclose(sent, folded, atol=1e-6)
    assert np.any(sent != folded)  # one sums in float64, the other in Flower's float32


def test_flowers_fedprox_is_fedprox(engines: dict[bool, InlineEngine], tmp_path: Path) -> None:
    strategy = flower.FedProx(proximal_mu=1.0)
    theirs, _ = rounds(strategy, engines[True], 2)
    ours = simulate(PLAIN.replace(strategy={"name": "fedprox", "mu": 1.0}), out=tmp_path / "run")
    np.testing.assert_allclose(theirs, ours.weights, atol=1e-6)
    # Clients of an executor that expects no mu find it in their message.
    surprised, _ = rounds(seeing_all(flower.FedProx)(proximal_mu=1.0), engines[False], 2)
    np.testing.assert_allclose(surprised, ours.weights, atol=1e-6)
    plain, _ = rounds(flower.FedAvg(), engines[False], 2)
    assert np.abs(plain - theirs).max() > 1e-3


@pytest.mark.soak
def test_any_pool_gives_the_same_bits(tmp_path: Path, ray_cluster: Any) -> None:
    inline = simulate(PLAIN, MADE["FedAdam"](), out=tmp_path / "inline")
    pool = PLAIN.replace(resources={"engine": "ray", "workers": 3})
    ray = simulate(pool, MADE["FedAdam"](), out=tmp_path / "ray")
    assert ray.summary["weights_sha256"] == inline.summary["weights_sha256"]
    for ours, theirs in zip(ray.rounds, inline.rounds, strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}


def noisy() -> Any:
    inner = flower.FedAvgM(fraction_train=0.5, server_momentum=0.9)
    return flower.DifferentialPrivacyServerSideAdaptiveClipping(inner, 0.01, 6)


@pytest.mark.parametrize("make", [MADE["FedAvgM"], MADE["FedYogi"], noisy])
def test_a_resumed_run_is_the_undisturbed_one(make: Any, tmp_path: Path) -> None:
    wanted = PLAIN.replace(rounds=4)
    random.seed(1)
    whole = simulate(wanted, make(), out=tmp_path / "whole")
    random.seed(2)
    with pytest.raises(KeyboardInterrupt):
        simulate(wanted, make(), out=tmp_path / "cut", listener=StopAfter(2))
    resumed = simulate(wanted, make(), out=tmp_path / "cut", resume=True)
    assert resumed.summary["weights_sha256"] == whole.summary["weights_sha256"]
    other = simulate(wanted.replace(seed=9), make(), out=tmp_path / "other")
    assert other.summary["weights_sha256"] != whole.summary["weights_sha256"]


def test_what_a_strategy_keeps_comes_back() -> None:
    made = noisy()
    made.strategy.momentum_vector = [np.ones(2, np.float32), np.zeros((1, 2))]
    made.strategy.current_arrays = ArrayRecord([np.arange(3.0)])
    made.by_name = {"a/b": np.ones(1)}
    made.clipping_norm = 0.25
    state = {
        k: np.array(v) if np.ndim(v) else v for k, v in their_strategies.state_of(made).items()
    }
    again = noisy()
    their_strategies.restore(again, state)
    assert again.clipping_norm == 0.25 and again.strategy.server_momentum == 0.9
    assert [v.tolist() for v in again.strategy.momentum_vector] == [[1, 1], [[0, 0]]]
    assert again.by_name.keys() == {"a/b"}
    (array,) = again.strategy.current_arrays.to_numpy_ndarrays()
    assert array.tolist() == [0, 1, 2]
    assert again.strategy.train_metrics_aggr_fn is made.strategy.train_metrics_aggr_fn


def test_global_generators_are_given_back() -> None:
    random.seed(5)
    np.random.seed(5)
    wanted = random.random(), np.random.random()
    random.seed(5)
    np.random.seed(5)
    drawn = []
    for _ in range(2):
        with their_strategies.seeded(0, 1, their_strategies.CONFIGURE):
            drawn.append((random.random(), np.random.random()))
    assert drawn[0] == drawn[1] != wanted
    assert (random.random(), np.random.random()) == wanted


def test_realism_holds_for_folded_flower_strategies(tmp_path: Path) -> None:
    late = PLAIN.replace(realism={"dropout": 0.5})
    folded = simulate(late, flower.FedAvg(), out=tmp_path / "folded")
    sent = simulate(late, seeing_all(flower.FedAvg)(), out=tmp_path / "sent")
    np.testing.assert_allclose(folded.weights, sent.weights, atol=1e-6)
    for ours, theirs in zip(folded.rounds, sent.rounds, strict=True):
        for key in ("clients", "clients_lost", "examples", "bytes_up", "bytes_down"):
            assert ours[key] == theirs[key]
        assert ours.get("clients_absent") == theirs.get("clients_absent")
