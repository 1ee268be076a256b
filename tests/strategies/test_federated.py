"""Federated as a Flower strategy, driven by Flower's own loop over an in-process grid."""

import copy

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

from strategies import (
    Algorithm,
    Cohort,
    FedAdam,
    FedAvg,
    Federated,
    FedProx,
    FedProxAdaptive,
    Spec,
    WeightedMean,
    adam,
    average,
    catalog,
    epsilon,
    proximal,
)
from strategies.client_rule import ClientRule
from strategies.privacy import NOISE
from strategies.random_streams import stream

NODES = {40: (2.0, 10), 7: (-1.0, 30), 23: (5.0, 3), 11: (0.5, 1)}


def initial(dtype="float32"):
    weights = {"dense/kernel": np.arange(6.0).reshape(2, 3), "dense/bias": np.array([1.0, -1.0])}
    return ArrayRecord({k: Array(v.astype(dtype)) for k, v in weights.items()})


@pytest.fixture
def network(grid, client):
    def make(arrival_seed=0):
        return grid({node: client(*what) for node, what in NODES.items()}, arrival_seed)

    return make


def weights(record):
    return {name: array.numpy() for name, array in record.items()}


def assert_equal_bits(a, b):
    assert list(a) == list(b)
    for name in a:
        assert a[name].numpy().tobytes() == b[name].numpy().tobytes()


def test_equals_flowers_fedavg_on_the_same_replies(network):
    ours = FedAvg().start(network(), initial(), num_rounds=3)
    theirs = flower.FedAvg().start(network(), initial(), num_rounds=3)
    for name, array in weights(theirs.arrays).items():
        np.testing.assert_allclose(ours.arrays[name].numpy(), array, rtol=1e-6, atol=1e-7)
    for kind in ("train_metrics_clientapp", "evaluate_metrics_clientapp"):
        for number in (1, 2, 3):
            mine, flowers = getattr(ours, kind)[number], dict(getattr(theirs, kind)[number])
            flowers.pop("num-steps", None)
            assert dict(mine) == pytest.approx(flowers, rel=1e-12)


def test_three_rounds_by_hand(network):
    result = FedAvg(evaluate=None).start(network(), initial(), num_rounds=3)
    total = sum(n for _, n in NODES.values())
    target = sum(t * n for t, n in NODES.values()) / total
    for name, array in weights(initial()).items():
        expected = target + (array - target) * 0.9**3
        np.testing.assert_allclose(result.arrays[name].numpy(), expected, rtol=1e-5, atol=1e-5)
    assert result.evaluate_metrics_clientapp == {}


@pytest.mark.parametrize("make", [FedAvg, FedProx, FedAdam])
def test_one_object_run_twice_gives_equal_bits_whatever_the_arrival(make, network):
    strategy = make(cohort=Cohort(size=3, seed=5))
    first = strategy.start(network(arrival_seed=1), initial(), num_rounds=4)
    second = strategy.start(network(arrival_seed=2), initial(), num_rounds=4)
    assert_equal_bits(first.arrays, second.arrays)


def test_a_resumed_run_gives_the_bits_of_an_unbroken_one(network):
    whole, arrays = FedAdam(), initial()
    states = []
    for number in (1, 2, 3):
        arrays = one_round(whole, number, arrays, network())
        states.append((arrays, copy.deepcopy(whole.state)))
    resumed = FedAdam()
    resumed.state = states[1][1]
    assert_equal_bits(one_round(resumed, 3, states[1][0], network()), states[2][0])


def one_round(strategy, number, arrays, network):
    messages = strategy.configure_train(number, arrays, ConfigRecord(), network)
    arrays, _ = strategy.aggregate_train(number, network.send_and_receive(messages))
    return arrays


def test_requests_carry_the_round_the_config_and_what_is_shared(network):
    node_grid = network()
    config = ConfigRecord({"learning-rate": 0.1})
    strategy = FedProx(mu=lambda round: 1 / round, cohort=Cohort(size=2, seed=1))
    strategy.start(node_grid, initial(), num_rounds=2, train_config=config)
    train = [m for m in node_grid.requests if m.metadata.message_type == "train"]
    sent = [dict(m.content["config"]) for m in train]
    expected = [{"learning-rate": 0.1, "server-round": r, "shared.mu": 1 / r} for r in (1, 2)]
    assert sent == [expected[0]] * 2 + [expected[1]] * 2
    assert dict(config) == {"learning-rate": 0.1}
    assert all(set(m.content) == {"arrays", "config"} for m in train)
    chosen = [m.metadata.dst_node_id for m in train]
    cohort = Cohort(size=2, seed=1)
    assert chosen == cohort.sample(1, list(NODES)) + cohort.sample(2, list(NODES))


class Sharing:
    """A server rule that shares a vector and sums the clients' extras into it."""

    def init(self, model):
        return {"c": np.zeros(model.size)}

    def step(self, model, state, mean, at):
        c = state["c"] + len(NODES) / at.population * mean.extras["c"]
        return (model + mean.delta).astype(model.dtype), {"c": c}

    def share(self, state):
        return {"c": state["c"], "size": 8}


def test_vectors_are_shared_and_extras_come_back(grid, client):
    received = []

    def with_extras(target, examples):
        plain_client = client(target, examples)

        def call(message):
            received.append(message.content)
            content = plain_client(message)
            if message.metadata.message_type == "train":
                content["extras"] = ArrayRecord({"c": Array(np.full(8, target))})
            return content

        return call

    nodes = {node: with_extras(*what) for node, what in NODES.items()}
    algorithm = Algorithm("sharing", ClientRule(), WeightedMean("uniform"), Sharing())
    strategy = Federated(algorithm, evaluate=None)
    strategy.start(grid(nodes), initial(), num_rounds=2)
    mean = np.mean([target for target, _ in NODES.values()])
    first, second = received[0], received[-1]
    np.testing.assert_array_equal(first["shared"]["c"].numpy(), np.zeros(8))
    np.testing.assert_allclose(second["shared"]["c"].numpy(), np.full(8, mean))
    assert second["config"]["shared.size"] == 8.0
    np.testing.assert_allclose(strategy.state["c"], np.full(8, 2 * mean))


def test_moving_statistics_follow_the_mean_and_not_the_server_rule(network):
    shapes = ((2, 3), (2,))
    spec = Spec(("dense/kernel", "dense/bias"), shapes, trainable=1)
    algorithm = Algorithm("x", proximal(0.1), WeightedMean(), adam(0.01))
    result = Federated(algorithm, spec=spec).start(network(), initial(), num_rounds=1)
    mean = FedAvg().start(network(), initial(), num_rounds=1)
    np.testing.assert_allclose(
        result.arrays["dense/bias"].numpy(), mean.arrays["dense/bias"].numpy(), rtol=1e-6
    )
    moved = result.arrays["dense/kernel"].numpy() - initial()["dense/kernel"].numpy()
    assert np.all(np.abs(moved) < 0.02)


def test_the_order_of_a_spec_is_free_and_the_record_keeps_its_own(network):
    spec = Spec(("dense/bias", "dense/kernel"), ((2,), (2, 3)), trainable=2)
    swapped = FedAdam(spec=spec).start(network(), initial(), num_rounds=2)
    assert_equal_bits(swapped.arrays, FedAdam().start(network(), initial(), num_rounds=2).arrays)


def test_weights_keep_their_dtype(network):
    result = FedAvg().start(network(), initial("float64"), num_rounds=1)
    assert {array.dtype for array in result.arrays.values()} == {"float64"}


def test_failed_and_useless_replies_are_left_out(grid, client):
    def fails(message):
        raise ArithmeticError("no memory")

    def counts_nothing(message):
        return RecordDict({"arrays": initial(), "metrics": MetricRecord({"loss": 1.0})})

    good = {1: client(2.0, 4), 2: client(-2.0, 12)}
    mixed = FedAvg(evaluate=None).start(
        grid({**good, 3: fails, 0: counts_nothing}), initial(), num_rounds=2
    )
    clean = FedAvg(evaluate=None).start(grid(good), initial(), num_rounds=2)
    assert_equal_bits(mixed.arrays, clean.arrays)


def test_no_valid_reply_leaves_the_model_alone(grid):
    def fails(message):
        raise ArithmeticError("no memory")

    strategy = FedAvg()
    result = strategy.start(grid({1: fails, 2: fails}), initial(), num_rounds=2)
    assert len(result.arrays) == 0
    assert result.train_metrics_clientapp == result.evaluate_metrics_clientapp == {}
    assert strategy.aggregate_train(3, []) == (None, None)
    assert strategy.aggregate_evaluate(3, []) is None


def test_metrics_are_averaged_over_those_who_have_them(grid):
    def reports(metrics):
        def call(message):
            return RecordDict(
                {"arrays": message.content["arrays"], "metrics": MetricRecord(metrics)}
            )

        return call

    nodes = {
        1: reports({"num-examples": 1, "loss": 2.0, "curve": [1.0, 0.0]}),
        2: reports({"num-examples": 3, "loss": 4.0, "curve": [3.0, 4.0], "f1": 0.5}),
    }
    result = FedAvg(evaluate=None).start(grid(nodes), initial(), num_rounds=1)
    expected = {"loss": (2.0 + 3 * 4.0) / 4, "curve": [10 / 4, 12 / 4], "f1": 0.5}
    assert dict(result.train_metrics_clientapp[1]) == expected


def test_arrays_that_do_not_fit_the_spec_are_refused(network):
    with pytest.raises(ValueError) as caught:
        FedAvg(spec=Spec(("a",), ((2,),), 1)).start(network(), initial(), num_rounds=1)
    assert str(caught.value) == ("arrays must be named ['a'], got ['dense/bias', 'dense/kernel']")


def test_aggregate_before_configure_is_refused():
    with pytest.raises(ValueError) as caught:
        FedAvg().aggregate_train(4, [])
    assert str(caught.value) == (
        "aggregate_train must follow configure_train, got round 4 without a model"
    )


def test_parts_combine_in_one_expression():
    algorithm = Algorithm("x", proximal(0.1), WeightedMean(), adam(0.01))
    strategy = Federated(algorithm, Cohort(size=10))
    assert strategy.algorithm is algorithm and strategy.cohort.size == 10
    assert repr(strategy) == "Federated('x')"
    assert Algorithm("y", proximal(0.1), WeightedMean(), average()) != algorithm


def test_power_of_choice_goes_by_the_losses_in_the_replies(network):
    node_grid = network()
    cohort = Cohort(size=2, sampling="power-of-choice", candidates=4)
    strategy = FedAvg(cohort=cohort, evaluate=None)
    strategy.start(node_grid, initial(), num_rounds=3)
    chosen = [m.metadata.dst_node_id for m in node_grid.requests]
    assert sorted(chosen[:4]) == sorted(NODES)
    # The clients report the square of their target as their loss.
    assert sorted(chosen[4:]) == sorted(sorted(NODES, key=lambda n: NODES[n][0] ** 2)[-2:])
    resumed = FedAvg(cohort=cohort, evaluate=None)
    resumed.state = strategy.state
    again = network()
    one_round(resumed, 4, initial(), again)
    assert sorted(resumed.state["cohort.clients"]) == sorted(NODES)
    sent = list(strategy.configure_train(4, initial(), ConfigRecord(), node_grid))
    other = list(resumed.configure_train(4, initial(), ConfigRecord(), again))
    assert [m.metadata.dst_node_id for m in sent] == [m.metadata.dst_node_id for m in other]


def test_the_loss_of_the_replies_moves_an_adaptive_mu(network):
    strategy = FedProxAdaptive(mu=1.0, patience=1, evaluate=None)
    one_round(strategy, 1, initial(), network())
    loss = sum(t**2 * n for t, n in NODES.values()) / sum(n for _, n in NODES.values())
    assert strategy.state["mu.loss"] == pytest.approx(loss)
    assert strategy.state["mu"] == 1.0 and strategy.notes(1)["mu"] == 1.0


def private(cohort, **options):
    """Return a strategy whose noise is all that moves the model: clients send nothing new."""
    algorithm = catalog.build("dp-fedavg", noise_multiplier=0.5)
    return Federated(algorithm, cohort, evaluate=None, **options)


def silent(message):
    """A client that leaves the weights as they are."""
    metrics = MetricRecord({"num-examples": 3})
    arrays = message.content.array_records["arrays"]
    return RecordDict({"arrays": arrays, "metrics": metrics})


@pytest.mark.parametrize(
    ("simulated", "asked", "seeded"),
    [
        (None, None, False),  # a deployment, or flwr run: the grid says nothing
        (True, None, True),
        (False, None, False),
        (True, False, False),
        (None, True, True),
    ],
)
def test_noise_is_seeded_in_simulations_and_elsewhere_the_operating_systems(
    simulated, asked, seeded, grid
):
    def run(seed=1):
        nodes = grid({number: silent for number in range(30)})
        if simulated is not None:
            nodes.simulated = simulated
        strategy = private(Cohort(10, seed=seed), seeded_noise=asked)
        result = strategy.start(nodes, initial(), num_rounds=2)
        who = [(m.metadata.group_id, m.metadata.dst_node_id) for m in nodes.requests]
        return weights(result.arrays)["dense/kernel"], who

    (first, who), (second, again) = run(), run()
    assert np.array_equal(first, second) == seeded
    # Whoever can tell who takes part gains more than the account says.
    assert (who == again) == seeded
    assert not np.array_equal(first, run(seed=2)[0])


def test_without_noise_the_cohort_is_that_of_the_seed_on_any_grid(grid):
    nodes = [grid({number: silent for number in range(30)}) for _ in range(2)]
    for one in nodes:
        FedAvg(cohort=Cohort(10), evaluate=None).start(one, initial(), num_rounds=2)
    asked = [[m.metadata.dst_node_id for m in one.requests] for one in nodes]
    assert asked[0] == asked[1] and len(asked[0]) == 20


def test_an_empty_poisson_cohort_moves_the_model_by_noise_alone(grid):
    cohort = Cohort(1, seed=0, sampling="poisson")
    empty = next(r for r in range(1, 99) if not cohort.sample(r, 4))
    strategy, before = private(cohort, seeded_noise=True), initial()
    sent = list(
        strategy.configure_train(empty, before, ConfigRecord(), grid(dict.fromkeys(range(4))))
    )
    arrays, _ = strategy.aggregate_train(empty, [])
    assert sent == []
    moved = weights(arrays)["dense/kernel"] - weights(before)["dense/kernel"]
    noise = stream(0, NOISE, empty).normal(0.0, 0.5, 8)
    np.testing.assert_allclose(moved.ravel(), noise[:6], rtol=1e-5)
    plain = FedAvg(cohort=cohort)
    list(plain.configure_train(empty, before, ConfigRecord(), grid(dict.fromkeys(range(4)))))
    assert plain.aggregate_train(empty, []) == (None, None)


def test_nodes_that_are_away_leave_the_others_probability_as_accounted_for(grid):
    pytest.importorskip("dp_accounting")
    strategy, there = private(Cohort(8, seed=4), seeded_noise=True), dict.fromkeys(range(10))
    strategy.prepare(rounds=3, population=40)
    asked = [
        len(list(strategy.configure_train(r, initial(), ConfigRecord(), grid(there))))
        for r in range(1, 2001)
    ]
    # Ten nodes with probability 8 / 40 each, five standard errors.
    assert np.mean(asked) == pytest.approx(2.0, abs=5 * np.sqrt(10 * 0.2 * 0.8 / 2000))
    assert strategy.notes(3) == {"epsilon": epsilon(0.5, 0.2, 3, 40**-1.1), "delta": 40**-1.1}
    fixed = private(Cohort(8, sampling="uniform"), seeded_noise=True)
    fixed.prepare(rounds=3, population=40)
    with pytest.raises(ValueError) as caught:
        list(fixed.configure_train(1, initial(), ConfigRecord(), grid(there)))
    assert str(caught.value) == (
        "clients must be the 40 that privacy is accounted for with the sampling 'uniform', got 10"
    )
