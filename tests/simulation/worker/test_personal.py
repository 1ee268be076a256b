"""Layers that stay on the clients, in runs."""

import numpy as np
import pytest

from simulation.config.errors import ConfigError
from simulation.config.experiment import parse
from simulation.population.deal import prepare
from simulation.records.run_folder import RunFolder
from simulation.runs.run import make_strategy, simulate
from simulation.worker.executor import Executor
from simulation.worker.setup import Setup
from strategies.client_rule import ClientRule
from strategies.personal import local_entries
from tests.simulation.same_bits import StopAfter
from tests.simulation.tools import answering, messaging, train_one

BASE = {
    "dataset": "fashion-mnist-mini",
    "model": "mlp",
    "clients": 10,
    "cohort": 5,
    "rounds": 4,
    "partition": {"kind": "pathological", "classes_per_client": 2, "validation": 0.3},
    "resources": {"engine": "inline"},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("personal") / "run"
    return simulate(parse(BASE | {"strategy": "fedper"}), out=out)


def test_local_layers_never_reach_the_server(whole, tmp_path):
    start = simulate(parse(BASE | {"strategy": "fedper", "rounds": 1}), out=tmp_path / "one")
    local = local_entries(whole.spec, ("last:1",))
    rest = np.setdiff1d(np.arange(whole.spec.size), local)
    np.testing.assert_array_equal(whole.weights[local], start.weights[local])
    assert not np.any(np.isclose(whole.weights[rest], start.weights[rest], atol=1e-9).all())
    plain = simulate(parse(BASE | {"rounds": 1}), out=tmp_path / "plain")
    # In round 1 nothing is kept yet: all other layers move as FedAvg moves them.
    np.testing.assert_array_equal(start.weights[rest], plain.weights[rest])
    assert np.any(start.weights[local] != plain.weights[local])


def test_no_accuracy_is_claimed_for_a_model_that_is_not_whole(whole):
    """The server's copy of local layers is the initial one, however well the clients do."""
    assert [line["server_accuracy"] for line in whole.rounds] == [None] * 5
    assert [line["server_loss"] for line in whole.rounds] == [None] * 5
    assert whole.rounds[-1]["client_accuracy"] > 0.6


def test_the_clients_models_may_be_measured_on_the_test_set(tmp_path):
    wanted = parse(BASE | {"strategy": "fedper", "rounds": 1, "evaluation": {"personal": True}})
    found = simulate(wanted, out=tmp_path / "run")
    executor = Executor(Setup(wanted, ClientRule()), *(prepared := prepare(wanted)))
    (data, parts), trainer = prepared, executor.trainer
    local = local_entries(found.spec, ("last:1",))
    measured = []
    for client in make_strategy(wanted).cohort.sample(1, 10):
        rows = parts.train_rows(client)
        x, y = data.x_train[rows], data.y_train[rows]
        delta = np.asarray(train_one(trainer, client, 1, trainer.initial, x, y).update.delta)
        own = found.weights.copy()
        own[local] = trainer.initial[local] + delta[local]
        one = executor.evaluate_test(0, len(data.y_test), own)
        measured.append((one.loss[0] / one.count[0], one.right[0] / one.count[0]))
    loss, accuracy = np.mean(measured, axis=0)
    line = found.rounds[1]
    assert line["server_accuracy"] == pytest.approx(accuracy, abs=1e-12)
    assert line["server_loss"] == pytest.approx(loss, rel=1e-6)
    # Nobody has trained before round 1: all clients have the initial model.
    plain = simulate(parse(BASE | {"rounds": 1}), out=tmp_path / "plain")
    assert found.rounds[0]["server_accuracy"] == plain.rounds[0]["server_accuracy"]
    with pytest.raises(ConfigError) as caught:
        make_strategy(wanted.replace(**{"resources.engine": "flower"}))
    assert str(caught.value) == (
        "evaluation.personal must be false with the engine 'flower', which does not give out "
        "what clients keep, got True"
    )


def test_without_local_layers_every_clients_model_is_the_servers(tmp_path):
    plain = parse(BASE | {"rounds": 1})
    both = plain.replace(**{"evaluation.personal": True})
    assert "personal" not in plain.decisive()["evaluation"]
    assert plain.decisive().get("revised") is None
    assert parse(BASE | {"strategy": "fedbn"}).decisive()["revised"] == ["personal models"]
    accuracies = [
        simulate(one, out=tmp_path / str(i)).rounds[-1]["server_accuracy"]
        for i, one in enumerate((plain, both))
    ]
    assert accuracies[0] == accuracies[1] > 0


def test_personal_layers_suit_clients_of_few_classes(whole, tmp_path):
    plain = simulate(parse(BASE), out=tmp_path / "plain")
    assert whole.rounds[-1]["client_accuracy"] > plain.rounds[-1]["client_accuracy"] + 0.1


def test_a_resumed_run_knows_what_clients_keep(whole, tmp_path):
    wanted = parse(BASE | {"strategy": "fedper"})
    with pytest.raises(KeyboardInterrupt):
        simulate(wanted, out=tmp_path / "cut", listener=StopAfter(2))
    resumed = simulate(wanted, out=tmp_path / "cut", resume=True)
    assert resumed.summary["weights_sha256"] == whole.summary["weights_sha256"]
    assert resumed.rounds[-1]["client_accuracy"] == whole.rounds[-1]["client_accuracy"]


def test_ray_gives_the_bits_of_inline(whole, tmp_path, lent):
    wanted = parse(BASE | {"strategy": "fedper", "resources": {"engine": "ray", "workers": 2}})
    result = simulate(wanted, out=tmp_path / "run")
    assert result.summary["weights_sha256"] == whole.summary["weights_sha256"]
    assert result.rounds[-1]["client_accuracy"] == whole.rounds[-1]["client_accuracy"]


def test_messages_keep_layers_on_the_clients_too(whole):
    wanted = parse(BASE | {"strategy": "fedper"})
    grid, strategy = answering(), make_strategy(wanted)
    rule = strategy.algorithm.client
    grid.start(Setup(wanted, rule, strategy.algorithm.reducer), *prepare(wanted))
    model, strategy.spec = grid.info().initial, whole.spec
    driver = messaging(strategy, grid, whole.spec, wanted)
    for number in range(1, wanted.rounds + 1):
        trained = driver.train(number, model)
        model = trained.model
    np.testing.assert_allclose(model, whole.weights, atol=1e-6)
    rows, _ = driver.evaluate(number, model, trained.rows["client"].tolist()).result()
    # Clients that never trained have no layers of their own; those of this round do.
    trained_once = np.isin(rows["client"], trained.rows["client"])
    assert rows["accuracy"][trained_once].mean() > 0.6


def test_a_run_on_flowers_engine_cannot_be_resumed(tmp_path):
    wanted = parse(BASE | {"strategy": "fedper", "resources": {"engine": "flower"}})
    RunFolder.create(
        tmp_path / "run",
        {"hash": wanted.digest(), "experiment": wanted.model_dump(mode="json")},
    )
    with pytest.raises(ConfigError) as caught:
        simulate(wanted, out=tmp_path / "run", resume=True)
    assert str(caught.value) == (
        "resources.engine must be 'ray' or 'inline' to resume a run whose clients keep state, "
        "got 'flower', which does not give it out"
    )
