"""Attackers: who they are, what they send, and that a run has them on every path."""

import numpy as np
import pytest
from flwr.serverapp import strategy as flower

from simulation.config.errors import ConfigError
from simulation.config.experiment import parse
from simulation.population.attackers import attackers
from simulation.runs.run import simulate
from strategies.updates import Update


def made(clients=50, classes=10, **attack):
    seed = attack.pop("seed", 0)
    return attackers(parse({"attack": attack, "seed": seed, "clients": clients}), clients, classes)


def update(client, seed=0):
    return Update(client, 7, np.random.default_rng(seed).normal(size=1000).astype(np.float32))


def test_who_attacks_is_a_seeded_share_of_the_clients():
    chosen = made(kind="noise", fraction=0.2).clients
    assert len(chosen) == 10 and chosen <= set(range(50))
    assert made(kind="scale", fraction=0.2).clients == chosen
    assert made(kind="noise", fraction=0.2, seed=1).clients != chosen
    assert len(made(kind="noise", fraction=0.29, clients=100).clients) == 29
    assert made(kind="noise", fraction=0.01) is None
    assert attackers(parse({}), 50, 10) is None
    centralised = parse({"attack": "noise", "mode": "centralised"})
    assert attackers(centralised, 1, 10) is None


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        ({"kind": "sign-flip"}, lambda d: -d),
        ({"kind": "sign-flip", "strength": 3.0}, lambda d: -3 * d),
        ({"kind": "scale"}, lambda d: 10 * d),
        ({"kind": "scale", "strength": 0.5}, lambda d: 0.5 * d),
        ({"kind": "label-flip"}, lambda d: d),
        ({"kind": "backdoor"}, lambda d: d),
        ({"kind": "backdoor", "strength": 5.0}, lambda d: 5 * d),
        ({"kind": "free-rider"}, lambda d: 0 * d),
        # Those who send together do so where updates are folded.
        ({"kind": "alie"}, lambda d: d),
        ({"kind": "min-max"}, lambda d: d),
    ],
)
def test_what_attackers_send(attack, expected):
    some = made(fraction=0.5, **attack)
    for client in range(50):
        honest = update(client)
        sent = some.sent(honest, 1)
        wanted = expected(honest.delta) if client in some.clients else honest.delta
        np.testing.assert_allclose(sent.delta, wanted, rtol=1e-6)
        assert sent.delta.dtype == np.float32 and sent.examples == 7
    np.testing.assert_array_equal(update(3).delta, honest.delta)


@pytest.mark.parametrize("kind", ["noise", "free-rider"])
def test_noise_is_normal_of_the_strength_and_new_each_round(kind):
    some = made(kind=kind, fraction=0.5, strength=2.0)
    first, second = sorted(some.clients)[:2]
    draws = [some.sent(update(c), r).delta for c, r in ((first, 1), (first, 2), (second, 1))]
    np.testing.assert_array_equal(some.sent(update(first, seed=9), 1).delta, draws[0])
    for draw in draws:
        assert abs(draw.mean()) < 5 * 2 / np.sqrt(1000)
        assert abs(draw.var() / 4 - 1) < 5 * np.sqrt(2 / 1000)
    assert all(abs(np.corrcoef(draws[0], d)[0, 1]) < 5 / np.sqrt(1000) for d in draws[1:])


def test_labels_are_flipped_for_attackers_only():
    some = made(kind="label-flip", fraction=0.5)
    bad, good = min(some.clients), min(set(range(50)) - some.clients)
    y = np.array([0, 1, 9, 4, 5], np.int64)
    flipped = some.labels([bad, good, bad], [2, 2, 1], y)
    assert flipped.tolist() == [9, 8, 9, 4, 4] and flipped.dtype == y.dtype
    assert some.labels([good], [5], y) is y
    assert y.tolist() == [0, 1, 9, 4, 5]
    assert made(kind="noise", fraction=0.5).labels([bad], [5], y) is y


def test_one_class_is_flipped_to_another():
    some = made(kind="label-flip", fraction=0.5, source=9, target=2)
    bad, good = min(some.clients), min(set(range(50)) - some.clients)
    y = np.array([9, 2, 9, 4, 9], np.int64)
    flipped = some.labels([bad, good], [3, 2], y)
    assert flipped.tolist() == [2, 2, 2, 4, 9] and flipped.dtype == y.dtype
    rows = np.eye(10, dtype=np.float32)[y]
    flipped = some.labels([bad, good], [3, 2], rows)
    assert flipped.argmax(axis=1).tolist() == [2, 2, 2, 4, 9] and (flipped.sum(axis=1) == 1).all()
    assert rows.argmax(axis=1).tolist() == y.tolist()


@pytest.mark.parametrize(("name", "options"), [("source", (10, 1)), ("target", (1, 10))])
def test_classes_must_be_those_of_the_dataset(name, options):
    with pytest.raises(ValueError) as caught:
        made(kind="label-flip", source=options[0], target=options[1])
    assert str(caught.value) == f"attack.{name} must be a class of the dataset, 0 to 9, got 10"


@pytest.mark.parametrize(
    ("attack", "text"),
    [
        (
            "sign-flipp",
            "attack.kind must be one of label-flip, sign-flip, noise, scale, free-rider, alie, "
            "ipm, min-max, min-sum, fang, backdoor, semantic-backdoor, got 'sign-flipp'; did you "
            "mean 'sign-flip'?",
        ),
        (
            {"kind": "min-max", "strength": 2.0},
            "attack.strength must be left out for 'min-max', got 2.0",
        ),
        (
            {"kind": "fang", "strength": 0.5},
            "attack.strength must be >= 1 for 'fang', got 0.5",
        ),
        (
            {"kind": "noise", "source": 1},
            "attack.source must be left out for 'noise', got 1",
        ),
        (
            {"kind": "alie", "poisoned": 0.5},
            "attack.poisoned must be left out for 'alie', got 0.5",
        ),
        ({"kind": "backdoor", "poisoned": 0.0}, "attack.poisoned must be > 0, got 0.0"),
        (
            {"kind": "label-flip", "source": 1},
            "attack.target must be given where one class is flipped to another, got none",
        ),
        (
            {"kind": "label-flip", "source": 1, "target": 1},
            "attack.target must be another class than source, got 1",
        ),
        ({"fraction": 0.1}, "attack.kind must be given where attack has options, got none"),
        ({"kind": "noise", "fraction": 0.0}, "attack.fraction must be > 0, got 0.0"),
        ({"kind": "noise", "strength": -1}, "attack.strength must be >= 0, got -1"),
        (
            {"kind": "label-flip", "strength": 2.0},
            "attack.strength must be left out for 'label-flip', got 2.0",
        ),
    ],
)
def test_bad_attacks(attack, text):
    with pytest.raises(ConfigError) as caught:
        parse({"attack": attack})
    assert str(caught.value) == text


def test_labels_of_a_regression_cannot_be_flipped():
    with pytest.raises(ValueError, match="where an example has no one class"):
        made(kind="label-flip", classes=None)


def test_attacks_count_for_the_identity_of_a_run_and_go_through_toml():
    plain, attacked = parse({}), parse({"attack": "noise"})
    assert "attack" not in plain.decisive() and plain.digest() != attacked.digest()
    import tomllib

    for experiment in (plain, attacked):
        assert parse(tomllib.loads(experiment.to_toml())).digest() == experiment.digest()


BASE = {
    "dataset": "fashion-mnist-mini",
    "model": "logistic",
    "clients": 10,
    "rounds": 2,
    "resources": {"engine": "inline"},
}


@pytest.mark.parametrize("kind", ["label-flip", "sign-flip", "noise", "scale", "free-rider"])
def test_an_attacked_run_differs_and_gives_the_same_by_messages(kind, tmp_path):
    attacked = parse(BASE | {"attack": {"kind": kind, "fraction": 0.5}, "rounds": 1})
    clean = simulate(parse(BASE | {"rounds": 1}), out=tmp_path / "clean")
    ours = simulate(attacked, out=tmp_path / "ours")
    theirs = simulate(attacked, flower.FedAvg(), out=tmp_path / "theirs")
    # Noise of deviation 1 in float32: sums of ten differ in the last bits.
    np.testing.assert_allclose(ours.weights, theirs.weights, atol=1e-5)
    assert not np.allclose(ours.weights, clean.weights, atol=1e-3)


def test_the_median_withstands_what_breaks_the_mean(tmp_path):
    attack = {"kind": "sign-flip", "fraction": 0.3, "strength": 5.0}
    accuracy = {}
    for strategy in ("fedavg", "median"):
        experiment = parse(BASE | {"attack": attack, "strategy": strategy})
        result = simulate(experiment, out=tmp_path / strategy)
        accuracy[strategy] = result.rounds[-1]["server_accuracy"]
    assert accuracy["median"] > 0.6 > 0.4 > accuracy["fedavg"]
