"""The synthetic data of the FedProx paper: its law, its names, its natural partition."""

import numpy as np
import pytest

from simulation.config.errors import ConfigError
from simulation.config.experiment import parse
from simulation.datasets import synthetic
from simulation.datasets.registry import DataError, load
from simulation.population.deal import prepare
from simulation.population.partition import make
from simulation.records.run_folder import folder_name
from simulation.runs.run import simulate

MANY = [synthetic.draw(1.0, 1.0, seed=seed) for seed in range(8)]


def centres(drawn):
    return np.array([drawn.x_train[drawn.owners == k].mean(axis=0) for k in range(synthetic.USERS)])


def test_sizes_are_log_normal_and_a_tenth_is_for_testing():
    whole = np.concatenate([synthetic.sizes(seed) for seed in range(8)])
    logs = np.log(np.maximum(whole - 50, 0.5))
    assert whole.min() >= 50
    # Five standard errors of the mean and of the deviation of 240 normal numbers.
    assert abs(logs.mean() - 4) < 5 * 2 / np.sqrt(len(logs))
    assert abs(logs.std() - 2) < 5 * 2 / np.sqrt(2 * len(logs))
    for seed, drawn in enumerate(MANY):
        sizes = np.array(synthetic.sizes(seed))
        assert np.array_equal(np.bincount(drawn.owners), sizes - sizes // 10)
        assert len(drawn.x_test) == len(drawn.y_test) == (sizes // 10).sum()


def test_features_spread_around_the_users_centres_as_stated():
    expected = np.arange(1, 61) ** -1.2
    drawn = synthetic.draw(1.0, 1.0)
    within = drawn.x_train - centres(drawn)[drawn.owners]
    found = (within**2).sum(axis=0) / (len(within) - synthetic.USERS)
    assert np.all(np.abs(found / expected - 1) < 5 * np.sqrt(2 / len(within)))


@pytest.mark.parametrize("beta", [0.0, 1.0, 3.0])
def test_beta_is_how_far_the_users_centres_lie_apart(beta):
    drawn = [synthetic.draw(1.0, beta, seed=seed) for seed in range(8)]
    means = np.concatenate([centres(d).mean(axis=1) for d in drawn])
    # The mean of 60 features of variance 1 around B_k ~ N(0, beta^2).
    variance = beta**2 + 1 / 60
    assert abs(means.var() / variance - 1) < 5 * np.sqrt(2 / len(means)) + 0.05
    inner = np.concatenate([centres(d) - centres(d).mean(axis=1, keepdims=True) for d in drawn])
    assert inner.var() == pytest.approx(59 / 60, rel=0.1)


def skew(drawn):
    """Mean total variation distance of the users' label frequencies from those of all."""
    everywhere = np.bincount(drawn.y_train, minlength=10) / len(drawn.y_train)
    labels = [drawn.y_train[drawn.owners == k] for k in range(synthetic.USERS)]
    users = [np.bincount(y, minlength=10) / len(y) for y in labels]
    return np.mean([np.abs(user - everywhere).sum() / 2 for user in users])


def test_users_differ_unless_they_are_iid():
    iid = synthetic.draw(0, 0, iid=True)
    assert np.all(np.abs(centres(iid).mean(axis=0)) < 0.1)
    assert skew(iid) < 0.15
    assert skew(synthetic.draw(0, 0)) > 0.5
    assert skew(synthetic.draw(1, 1)) > 0.5


def test_labels_do_not_see_alpha_because_softmax_does_not():
    one, other = synthetic.draw(0.0, 1.0), synthetic.draw(5.0, 1.0)
    assert np.array_equal(one.y_train, other.y_train)


def test_the_data_are_the_same_each_time_and_well_typed():
    first, again = synthetic.draw(1.0, 0.5), synthetic.draw(1.0, 0.5)
    for name, array in vars(first).items():
        assert array.tobytes() == getattr(again, name).tobytes()
    assert first.x_train.dtype == np.float32 and first.x_train.shape[1] == 60
    assert first.y_train.dtype == np.int64 and set(first.y_train.tolist()) <= set(range(10))
    other = synthetic.draw(1.0, 0.6)
    assert other.y_train.tobytes() != first.y_train.tobytes()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("synthetic(1,1)", (1.0, 1.0)),
        ("synthetic( 0.5 , 0 )", (0.5, 0.0)),
        ("synthetic(iid)", None),
    ],
)
def test_names(name, expected):
    assert synthetic.parameters(name) == expected
    data = load(name)
    assert (data.classes, data.scale, data.name) == (10, 1.0, name)
    assert len(data.owners) == len(data.x_train)


RULE = "synthetic(ALPHA,BETA) with two numbers >= 0, as synthetic(1,1), or synthetic(iid)"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            (name, f"dataset must be {RULE}, got {name!r}")
            for name in ("synthetic", "synthetic(1)", "synthetic(1,2,3)", "synthetic(a,b)")
        ),
        (
            "synthetic(1,-2)",
            "beta of the dataset must be between 0 and 1000, got -2 in 'synthetic(1,-2)'",
        ),
        (
            "synthetic(inf,1)",
            "alpha of the dataset must be between 0 and 1000, got inf in 'synthetic(inf,1)'",
        ),
    ],
)
def test_bad_names(name, text):
    with pytest.raises(DataError) as caught:
        load(name)
    assert str(caught.value) == text


SMALL = {
    "dataset": "synthetic(1,1)",
    "model": "logistic",
    "clients": 30,
    "cohort": 10,
    "rounds": 2,
    "partition": "natural",
    "resources": {"engine": "inline"},
}


def test_the_natural_partition_gives_every_user_his_own():
    data, parts = prepare(parse(SMALL))
    for user in range(30):
        rows = parts.rows(user)
        assert np.array_equal(np.sort(rows), np.flatnonzero(data.owners == user))
        kept = len(parts.validation_rows(user))
        assert kept == int(0.1 * len(rows) + 0.5)
    again = make("natural", data.y_train, 30, 0, owners=data.owners)
    assert np.array_equal(again.indices, parts.indices)
    assert folder_name(parse(SMALL)) == "fedavg-synthetic-1-1-seed0"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"clients": 100},
            "clients must be the number of the dataset's own clients (30) for the partition "
            "'natural', got 100",
        ),
        (
            {"dataset": "fashion-mnist-mini"},
            "partition must be another than 'natural' for a dataset that does not say which "
            "client owns a row, got 'natural'",
        ),
    ],
)
def test_natural_partitions_that_do_not_fit(changes, text):
    with pytest.raises(ValueError) as caught:
        prepare(parse(SMALL | changes))
    assert str(caught.value) == text
    with pytest.raises(ConfigError):
        parse(SMALL | {"partition": {"kind": "natural", "alpha": 1.0}})


def test_a_run_learns(tmp_path):
    result = simulate(parse(SMALL), out=tmp_path / "run")
    losses = [line["server_loss"] for line in result.rounds]
    assert losses[0] == pytest.approx(np.log(10), rel=1e-5) and losses[-1] < 0.9 * losses[0]


def owned(owners):
    x, y = np.zeros((4, 2), np.float32), np.array([0, 1, 0, 1])
    return {"x_train": x, "y_train": y, "x_test": x, "y_test": y, "owners": owners}


@pytest.mark.parametrize(
    ("owners", "text"),
    [
        (
            [0, 1, 1],
            "owners must hold a whole number for each of the 4 training examples, "
            "got int64 of shape (3,)",
        ),
        (
            [0.0, 1, 1, 0],
            "owners must hold a whole number for each of the 4 training examples, "
            "got float64 of shape (4,)",
        ),
        ([0, 2, 2, 0], "owners must be numbered from 0 without gaps, got 2 from 0 to 2"),
        ([1, 2, 2, 1], "owners must be numbered from 0 without gaps, got 2 from 1 to 2"),
    ],
)
def test_owners_of_ones_own_data(owners, text, tmp_path, monkeypatch):
    (tmp_path / "own_users.py").write_text(
        "from tests.simulation.datasets.test_synthetic import owned\n"
        f"def bad(): return owned({owners!r})\n"
        "def good(): return owned([0, 1, 1, 0])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "own_users", raising=False)
    with pytest.raises(DataError) as caught:
        load("own_users:bad")
    assert str(caught.value) == f"dataset own_users:bad: {text}"
    good = load("own_users:good")
    parts = make("natural", good.y_train, 2, 0, owners=good.owners, validation=0.0)
    assert [sorted(parts.rows(c).tolist()) for c in (0, 1)] == [[0, 3], [1, 2]]
