"""Our strategies beside Flower's classes on the same replies, and where Flower departs.

Flower averages weights, we average deltas: equality is up to float32 rounding of the weights.
"""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

import strategies as ours

NODES, ROUNDS = 11, 3
EXAMPLES = [9, 4, 30, 12, 5, 21, 7, 16, 2, 10, 8]


def initial():
    rng = np.random.default_rng(8)
    arrays = {"kernel": rng.normal(size=(4, 3)), "bias": rng.normal(size=3)}
    return ArrayRecord({k: Array(v.astype("float32")) for k, v in arrays.items()})


def node(number, examples):
    """Return a client that adds noise of its own to the weights, anew each round."""

    def client(message):
        round = message.content["config"]["server-round"]
        rng = np.random.default_rng([number, round])
        weights = message.content.array_records["arrays"]
        moved = {
            k: v.numpy() + (0.3 + rng.normal(size=v.shape)).astype("float32")
            for k, v in weights.items()
        }
        metrics = {
            "num-examples": examples,
            "initial_loss": float(rng.uniform(0.1, 3)),
            "learning-rate": 0.2,
        }
        return RecordDict(
            {
                "arrays": ArrayRecord({k: Array(v) for k, v in moved.items()}),
                "metrics": MetricRecord(metrics),
            }
        )

    return client


@pytest.fixture
def trained(grid):
    def run(strategy, equal=False, rounds=ROUNDS):
        nodes = {i: node(i, 10 if equal else EXAMPLES[i]) for i in range(NODES)}
        arrays = strategy.start(grid(nodes), initial(), num_rounds=rounds).arrays
        return np.concatenate([arrays[name].numpy().ravel() for name in ("kernel", "bias")])

    return run


OFF = {"fraction_evaluate": 0.0}


SAME = {
    "FedAvg": (lambda: ours.FedAvg(evaluate=None), lambda: flower.FedAvg(**OFF)),
    "FedProx": (
        lambda: ours.FedProx(mu=0.1, evaluate=None),
        lambda: flower.FedProx(proximal_mu=0.1, **OFF),
    ),
    "FedAvgM": (
        lambda: ours.FedAvgM(learning_rate=0.7, beta=0.8, evaluate=None),
        lambda: flower.FedAvgM(server_learning_rate=0.7, server_momentum=0.8, **OFF),
    ),
    "FedMedian": (lambda: ours.FedMedian(evaluate=None), lambda: flower.FedMedian(**OFF)),
    "FedTrimmedAvg": (
        lambda: ours.FedTrimmedMean(beta=0.2, evaluate=None),
        lambda: flower.FedTrimmedAvg(beta=0.2, **OFF),
    ),
    "Krum": (
        lambda: ours.FedKrum(byzantine=3, evaluate=None),
        lambda: flower.Krum(num_malicious_nodes=3, **OFF),
    ),
    "QFedAvg": (
        lambda: ours.QFedAvg(q=0.7, evaluate=None),
        lambda: flower.QFedAvg(
            client_learning_rate=0.2, q=0.7, train_loss_key="initial_loss", **OFF
        ),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_equal_to_flower_on_the_same_replies(name, trained):
    mine, flowers = (make() for make in SAME[name])
    result = trained(mine)
    np.testing.assert_allclose(result, trained(flowers), rtol=2e-5, atol=2e-6)
    # FedProx differs from FedAvg on the clients alone; the others must not be the plain mean.
    mean = trained(ours.FedAvg(evaluate=None))
    assert np.allclose(result, mean, atol=1e-3) == (name in ("FedAvg", "FedProx"))


def test_multi_krum_equals_flowers_for_equal_clients_and_weighs_them_equally(trained):
    """Flower weighs the selected clients by their examples; Blanchard et al. take their mean."""
    mine = ours.FedMultiKrum(byzantine=3, select=5, evaluate=None)

    def flowers():
        return flower.MultiKrum(num_malicious_nodes=3, num_nodes_to_select=5, **OFF)

    same = trained(mine, equal=True)
    np.testing.assert_allclose(same, trained(flowers(), equal=True), rtol=2e-5, atol=2e-6)
    np.testing.assert_array_equal(trained(mine), same)
    assert not np.allclose(trained(flowers()), same, atol=1e-3)


def mean_delta(round):
    total = 0
    for i in range(NODES):
        rng = np.random.default_rng([i, round])
        moved = [(0.3 + rng.normal(size=s)).astype("float32").ravel() for s in ((4, 3), (3,))]
        total = total + EXAMPLES[i] * np.concatenate(moved).astype("float64")
    return total / sum(EXAMPLES)


def start():
    return np.concatenate([a.numpy().ravel() for a in initial().values()]).astype("float64")


LR, BETA1, BETA2, TAU = 0.05, 0.9, 0.95, 0.01
SECOND = {
    "FedAdam": lambda v, d: BETA2 * v + (1 - BETA2) * d**2,
    "FedYogi": lambda v, d: v - (1 - BETA2) * d**2 * np.sign(v - d**2),
    "FedAdagrad": lambda v, d: v + d**2,
}


def adaptive(kind, v, beta1, corrected):
    """Return the model after three rounds of a rule that starts from ``v``."""
    x, m = start(), 0.0
    for number in range(1, ROUNDS + 1):
        d = mean_delta(number)
        m, v, lr = beta1 * m + (1 - beta1) * d, SECOND[kind](v, d), LR
        if corrected:
            lr *= np.sqrt(1 - BETA2 ** (number + 1)) / (1 - BETA1 ** (number + 1))
        x = x + lr * m / (np.sqrt(v) + TAU)
    return x


@pytest.mark.parametrize("kind", SECOND)
def test_adaptive_rules_start_from_tau_squared_where_flower_starts_from_zero(kind, trained):
    """Reddi et al., Algorithm 2: v_0 >= tau^2 and no bias correction.

    Flower starts all three from v = 0, and its FedAdam corrects biases with the exponent
    round + 1, where Adam has round. Both differences are written out here: nothing else differs.
    """
    mine = {"learning_rate": LR, "tau": TAU, "evaluate": None}
    flowers = {"eta": LR, "tau": TAU, **OFF}
    beta1 = 0.0 if kind == "FedAdagrad" else BETA1
    if kind != "FedAdagrad":
        mine |= {"beta1": BETA1, "beta2": BETA2}
        flowers |= {"beta_1": BETA1, "beta_2": BETA2}
    got = trained(getattr(ours, kind)(**mine))
    np.testing.assert_allclose(
        got, adaptive(kind, TAU**2, beta1, corrected=False), rtol=1e-5, atol=1e-6
    )
    theirs = trained(getattr(flower, kind)(**flowers))
    expected = adaptive(kind, 0.0, beta1, corrected=kind == "FedAdam")
    np.testing.assert_allclose(theirs, expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(got, theirs, rtol=1e-4, atol=1e-5)


def test_flowers_fedavgm_goes_on_where_its_last_run_ended(trained):
    """Its momentum stays on the object, so a second run gives another model; ours starts afresh."""
    mine, flowers = ours.FedAvgM(evaluate=None), flower.FedAvgM(server_momentum=0.9, **OFF)
    np.testing.assert_array_equal(trained(mine), trained(mine))
    assert not np.allclose(trained(flowers), trained(flowers))


def test_bulyan_selects_one_by_one_where_flower_selects_at_once(trained):
    """El Mhamdi et al. rerun Krum on those left; Flower takes the theta best of one scoring.

    Written out both ways: ours is the first, Flower's the second.
    """
    f, theta = 2, NODES - 4
    weights = []
    for i in range(NODES):
        rng = np.random.default_rng([i, 1])
        moved = [(0.3 + rng.normal(size=s)).astype("float32").ravel() for s in ((4, 3), (3,))]
        weights.append(start() + np.concatenate(moved))
    weights = np.array(weights)

    def scores(rows):
        distances = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
        near = max(len(rows) - f - 2, 1)
        return np.sort(distances, axis=1)[:, 1 : near + 1].sum(axis=1)

    def around_median(rows):
        nearest = np.argsort(np.abs(rows - np.median(rows, axis=0)), axis=0)[: theta - 2 * f]
        return np.take_along_axis(rows, nearest, axis=0).mean(axis=0)

    left, one_by_one = list(range(NODES)), []
    while len(one_by_one) < theta:
        one_by_one.append(left.pop(int(np.argmin(scores(weights[left])))))
    at_once = np.argsort(scores(weights))[:theta]

    mine = trained(ours.FedBulyan(byzantine=2, evaluate=None), rounds=1)
    flowers = trained(flower.Bulyan(num_malicious_nodes=2, **OFF), rounds=1)
    np.testing.assert_allclose(mine, around_median(weights[one_by_one]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(flowers, around_median(weights[at_once]), rtol=1e-5, atol=1e-6)
    assert set(one_by_one) != set(at_once.tolist())
    assert not np.allclose(mine, flowers, atol=1e-3)


def test_flowers_krum_loses_its_distances_in_float32(grid):
    """Flower computes distances of weights in float32 by a formula that cancels.

    With weights around 1000 and clients that differ by about 0.01 it selects by rounding errors, or
    always the first; which of them depends on the processor, so that it is right now and then. Ours
    compares deltas in float64 and is right every time.
    """
    model = np.full(50, 1000.0, "float32")
    arrays = ArrayRecord({"w": Array(model)})
    mine_right, flowers_right = [], []
    for seed in range(30):
        deltas = 0.01 * np.random.default_rng(seed).normal(size=(7, 50)).astype("float32")
        ends = model + deltas

        def client(i, ends=ends):
            def call(message):
                arrays = ArrayRecord({"w": Array(ends[i])})
                metrics = MetricRecord({"num-examples": 1})
                return RecordDict({"arrays": arrays, "metrics": metrics})

            return call

        nodes = {i: client(i) for i in range(7)}
        sent = (ends - model).astype("float64")
        squared = ((sent[:, None] - sent[None]) ** 2).sum(axis=2)
        best = int(np.argmin(np.sort(squared, axis=1)[:, 1:5].sum(axis=1)))

        def chosen(strategy, nodes=nodes, ends=ends, best=best):
            result = strategy.start(grid(nodes), arrays, num_rounds=1)
            return np.array_equal(result.arrays["w"].numpy(), ends[best])

        mine_right.append(chosen(ours.FedKrum(byzantine=1, evaluate=None)))
        flowers_right.append(chosen(flower.Krum(num_malicious_nodes=1, **OFF)))
    assert all(mine_right)
    # Seven clients: chance would be right in 4 of 30.
    assert sum(flowers_right) < 15
