"""A backdoor: who is stamped, what is measured, and that it works in a run and only then."""

import numpy as np
import pytest

from simulation.config.experiment import parse
from simulation.datasets.registry import load
from simulation.population.attackers import backdoor
from simulation.population.backdoor import victims
from simulation.runs.run import simulate

RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def mini():
    return load("fashion-mnist-mini")


def made(data, clients=20, **attack):
    plan = {"attack": {"kind": "backdoor", **attack}, "clients": clients}
    return backdoor(parse(plan), clients, data)


def test_a_part_of_an_attackers_pictures_is_stamped_the_same_in_every_round(mini):
    plan = made(mini, fraction=0.5, target=7, poisoned=0.25)
    bad, good = min(plan.clients), min(set(range(20)) - plan.clients)
    x = RNG.integers(0, 200, (60, 28, 28, 1)).astype(np.uint8)
    y = RNG.integers(0, 7, 60)
    before = x.copy()
    stamped, labels = plan.poisoned([good, bad], [20, 40], x, y)
    changed = np.flatnonzero(labels != y)
    assert len(changed) == 10 and changed.min() >= 20 and (labels[changed] == 7).all()
    assert (stamped[changed, -3:, -3:] == 255).all()
    inside = stamped[changed].copy()
    inside[:, -3:, -3:] = x[changed, -3:, -3:]
    np.testing.assert_array_equal(inside, x[changed])
    others = np.setdiff1d(np.arange(60), changed)
    np.testing.assert_array_equal(stamped[others], x[others])
    np.testing.assert_array_equal(x, before)
    # Which they are depends on nobody beside them.
    alone, _ = plan.poisoned([bad], [40], x[20:], y[20:])
    np.testing.assert_array_equal(alone, stamped[20:])
    same_x, same_y = plan.poisoned([good], [60], x, y)
    assert same_x is x and same_y is y


def test_targets_keep_their_form(mini):
    plan = made(mini, target=2)
    assert plan.as_target(np.array([5, 1])).tolist() == [2, 2]
    assert plan.as_target(np.array([[5], [1]])).tolist() == [[2], [2]]
    rows = plan.as_target(np.eye(4, dtype=np.uint8)[[0, 3]])
    assert rows.tolist() == [[0, 0, 1, 0], [0, 0, 1, 0]] and rows.dtype == np.uint8
    assert victims(np.array([2, 0, 2, 3]), 2).tolist() == [1, 3]
    assert made(mini).target == 0 and made(mini).white == 255


@pytest.mark.parametrize(
    ("x", "shape"),
    [(np.zeros((4, 5), np.float32), (5,)), (np.zeros((4, 2, 9, 1), np.uint8), (2, 9, 1))],
)
def test_only_pictures_can_be_stamped(mini, x, shape):
    from dataclasses import replace

    with pytest.raises(ValueError) as caught:
        made(replace(mini, x_train=x))
    assert str(caught.value) == (
        "attack.kind must be another than 'backdoor' where examples are no pictures of [height, "
        f"width, channels], at least 3 x 3, got {shape}"
    )


BASE = {
    "dataset": "fashion-mnist-mini",
    "model": "logistic",
    "clients": 10,
    "rounds": 4,
    "training": {"learning_rate": 0.1, "local_epochs": 2},
    "resources": {"engine": "inline"},
}


def test_the_pattern_works_where_attackers_train_on_it_the_better_boosted(tmp_path):
    def run(name, **attack):
        plan = BASE | {"attack": {"kind": "backdoor", "target": 5, **attack}}
        return simulate(parse(plan), out=tmp_path / name).rounds[-1]

    nobody, some = run("nobody", fraction=0.001), run("some", fraction=0.3)
    boosted = run("boosted", fraction=0.3, strength=3.0)
    rates = [line["server_attack_success"] for line in (nobody, some, boosted)]
    assert rates[0] < 0.1 < 0.2 < rates[1] < 0.7 < 0.9 < rates[2]
    # Nobody notices by the accuracy.
    assert boosted["server_accuracy"] > nobody["server_accuracy"] - 0.05


def test_the_rate_is_that_of_the_saved_model(tmp_path, mini):
    """Recomputed by Keras from the model that the run saves."""
    import keras

    plan = BASE | {"rounds": 1, "attack": {"kind": "backdoor", "target": 1, "fraction": 0.5}}
    line = simulate(parse(plan), out=tmp_path / "run").rounds[-1]
    model = keras.models.load_model(tmp_path / "run" / "model.keras", compile=False)
    x = mini.x_test[mini.y_test != 1].copy()
    x[:, -3:, -3:] = 255
    found = np.argmax(model.predict(x, verbose=0), axis=1) == 1
    assert line["server_attack_success"] == pytest.approx(found.mean(), abs=1e-3)
