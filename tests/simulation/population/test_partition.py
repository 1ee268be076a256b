"""Partitions: laws that every kind keeps, the statistics of each, limits, errors."""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulation.config.partitioning import ALPHAS
from simulation.population import laws
from simulation.population.partition import KINDS, label_counts, make

DEALT = [kind for kind in KINDS if kind not in ("on-demand", "natural", "file")]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SUNFLOWER_CACHE", str(tmp_path))


def labels(classes=10, each=600, seed=0):
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(classes), each))


def deal(kind, y, clients, seed=0, **options):
    if kind == "pachinko":  # classes in pairs
        options = {"groups": tuple(np.arange(int(np.max(y)) + 1) // 2), **options}
    return make(kind, y, clients, seed, cached=False, **options)


def all_rows(made):
    return [made.rows(client) for client in range(len(made))]


def counts_of(made, y, classes):
    return label_counts(made, range(len(made)), y, classes)


def same(a, b):
    return (
        np.array_equal(a.indices, b.indices)
        and np.array_equal(a.offsets, b.offsets)
        and np.array_equal(a.train, b.train)
    )


quick = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@st.composite
def cases(draw, kinds=tuple(DEALT)):
    """Labels with classes of any sizes and gaps between them, and clients that fit."""
    kind = draw(st.sampled_from(kinds))
    sizes = draw(st.lists(st.integers(0, 40), min_size=1, max_size=7).filter(lambda s: sum(s) > 1))
    y = np.random.default_rng(draw(st.integers(0, 99))).permutation(
        np.repeat(np.arange(len(sizes)) * 3, sizes)
    )
    options = {"validation": draw(st.floats(0, 0.95))}
    if kind == "shards":
        options["shards_per_client"] = draw(st.integers(1, min(3, len(y))))
        most = len(y) // options["shards_per_client"]
    elif kind == "pathological":
        # Where every client takes every class there must be a row for each of them.
        present = np.unique(y, return_counts=True)[1]
        options["classes_per_client"] = len(present)
        most = int(present.min())
    else:
        most = len(y)
    if kind in ALPHAS:
        options["alpha"] = 10.0 ** draw(st.floats(-3, 3))
    return kind, y, draw(st.integers(1, most)), draw(st.integers(0, 2**40)), options


# Laws of every kind.


@quick
@given(cases())
def test_every_row_goes_to_exactly_one_client(case):
    kind, y, clients, seed, options = case
    made = deal(kind, y, clients, seed, **options)
    assert len(made) == clients
    assert np.array_equal(np.sort(np.concatenate(all_rows(made))), np.arange(len(y)))


@quick
@given(cases())
def test_each_client_is_split_in_training_and_validation(case):
    kind, y, clients, seed, options = case
    made = deal(kind, y, clients, seed, **options)
    assert made.train_sizes.min() >= 1
    for client in range(clients):
        rows, train, rest = (
            made.rows(client),
            made.train_rows(client),
            made.validation_rows(client),
        )
        assert np.array_equal(np.concatenate([train, rest]), rows)
        assert made.train_sizes[client] == len(train)
        assert made.validation_sizes[client] == len(rest)
        wanted = options["validation"] * len(rows)
        assert abs(len(rest) - wanted) <= 0.5 + 1e-9 or len(train) == 1


@quick
@given(cases())
def test_equal_arguments_give_equal_partitions(case):
    kind, y, clients, seed, options = case
    made = deal(kind, y, clients, seed, **options)
    assert same(made, deal(kind, y, clients, seed, **options))
    assert made.indices.dtype == np.int32
    assert made.offsets.dtype == np.int64
    assert made.train.dtype == np.int32


@quick
@given(cases())
def test_label_counts_are_those_of_the_rows(case):
    kind, y, clients, seed, options = case
    made = deal(kind, y, clients, seed, **options)
    classes = int(y.max()) + 1
    counts = counts_of(made, y, classes)
    plain = [[int((y[rows] == k).sum()) for k in range(classes)] for rows in all_rows(made)]
    assert counts.tolist() == plain
    assert label_counts(made, [clients - 1], y, classes).tolist() == plain[-1:]


@quick
@given(cases(("iid", "inner-dirichlet", "pachinko")))
def test_sizes_are_equal_up_to_one(case):
    kind, y, clients, seed, options = case
    sizes = [len(rows) for rows in all_rows(deal(kind, y, clients, seed, **options))]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("kind", DEALT)
def test_another_seed_deals_otherwise(kind):
    assert not same(deal(kind, labels(), 20, 1), deal(kind, labels(), 20, 2))


@pytest.mark.parametrize("kind", DEALT)
def test_rows_of_a_client_are_in_random_order(kind):
    """So neither the first batch nor the validation part is of one class or one end of the file."""
    y = labels()
    made = deal(kind, y, 5, validation=0.5)
    for client in range(5):
        rows = made.rows(client).astype(float)
        assert abs(np.corrcoef(np.arange(len(rows)), rows)[0, 1]) < 4 / np.sqrt(len(rows))
        train, rest = (y[r] for r in (made.train_rows(client), made.validation_rows(client)))
        a, b = (np.bincount(part, minlength=10) for part in (train, rest))
        assert np.abs(a - b).max() < 5 * np.sqrt((a + b).max())


@pytest.mark.parametrize("kind", DEALT)
@pytest.mark.parametrize("clients", [10_000, 60_000])
def test_ten_thousand_clients_and_a_client_per_row(kind, clients):
    y = labels(each=6000)
    one = {"classes_per_client": 1, "shards_per_client": 1} if clients == 60_000 else {}
    made = deal(kind, y, clients, **one)
    assert made.train_sizes.min() >= 1
    assert np.array_equal(np.sort(made.indices), np.arange(60_000))


@pytest.mark.parametrize("clients", [1, 2])
@pytest.mark.parametrize("kind", DEALT)
def test_smallest_training_sets(kind, clients):
    y = np.array([4, 4])
    one = {"classes_per_client": 1, "shards_per_client": 1}
    made = deal(kind, y, clients, validation=0.9, **one)
    assert made.train_sizes.tolist() == [1] * clients
    assert made.validation_sizes.sum() == 2 - clients


# The law of each kind.


def test_iid_labels_are_hypergeometric():
    """Drawing n of N rows without replacement: known mean and variance of a class' count."""
    y, clients = labels(), 100
    counts = np.concatenate([counts_of(deal("iid", y, clients, seed), y, 10) for seed in range(20)])
    n, part, total = 60, 0.1, 6000
    variance = n * part * (1 - part) * (total - n) / (total - 1)
    assert np.all(np.abs(counts.mean(0) - n * part) < 4 * np.sqrt(variance / len(counts)))
    assert counts.var() == pytest.approx(variance, rel=0.05)


def test_dirichlet_shares_have_their_mean_and_variance():
    """p_k ~ Dir(alpha, ..., alpha) over J clients: mean 1/J, variance (1 - 1/J) / J / (J a + 1)."""
    y, clients, alpha = labels(each=1000), 20, 0.7
    counts = [
        counts_of(deal("dirichlet", y, clients, seed, alpha=alpha), y, 10) for seed in range(40)
    ]
    shares = np.stack(counts) / 1000
    variance = (1 - 1 / clients) / clients / (clients * alpha + 1)
    assert np.all(np.abs(shares.mean((0, 2)) - 1 / clients) < 4 * np.sqrt(variance / 400))
    assert shares.var() == pytest.approx(variance, rel=0.1)


def test_dirichlet_gives_the_empty_clients_rows_of_the_largest(monkeypatch):
    y = labels(each=100)
    topped = laws.dirichlet(y, 200, np.random.default_rng(3), 0.05)
    monkeypatch.setattr(laws, "_fill_empty", lambda owner, *_: owner)
    owner = laws.dirichlet(y, 200, np.random.default_rng(3), 0.05)
    before, after = (np.bincount(o, minlength=200) for o in (owner, topped))
    assert (before < 1).sum() > 20
    level = after[before > after].max()
    # Empty clients get one, large ones are cut to one level, the others left alone.
    assert np.array_equal(after[before < 1], np.ones((before < 1).sum()))
    cut = before > level
    assert set(after[cut].tolist()) <= {level - 1, level}
    assert after.max() == level
    assert np.array_equal(
        after[~cut & (before >= 1) & (before < level)],
        before[~cut & (before >= 1) & (before < level)],
    )
    moved = owner != topped
    assert moved.sum() == (before < 1).sum()


@pytest.mark.parametrize("kind", ["dirichlet", "inner-dirichlet", "on-demand"])
def test_larger_alpha_comes_closer_to_uniform(kind):
    y = labels()
    distances = []
    for alpha in (0.01, 0.1, 1.0, 10.0, 1000.0):
        made = deal(kind, y, 30, alpha=alpha, examples_per_client=200)
        counts = counts_of(made, y, 10)
        shares = counts / counts.sum(1, keepdims=True)
        distances.append(np.abs(shares - 0.1).sum(1).mean() / 2)
    assert np.all(np.diff(distances) < -0.02)
    assert distances[0] > 0.6
    assert distances[-1] < 0.1


def inner_dirichlet_plainly(y, clients, rng, alpha):
    """One row after the other, as the definition says."""
    room = np.bincount(y)
    prior = rng.dirichlet(np.full(len(room), alpha), clients)
    left = np.full(clients, len(y) // clients)
    counts = np.zeros((clients, len(room)), int)
    while left.sum():
        client = rng.choice(clients, p=left / left.sum())
        weights = prior[client] * (room > 0)
        k = rng.choice(len(room), p=weights / weights.sum())
        left[client] -= 1
        room[k] -= 1
        counts[client, k] += 1
    return counts


def test_inner_dirichlet_has_the_law_of_dealing_row_by_row():
    """All at once, with classes that run out: the distribution of the counts is the same."""
    y, times = np.repeat([0, 1, 2], [5, 2, 2]), 2500
    rng = np.random.default_rng(5)
    plain = np.stack([inner_dirichlet_plainly(y, 3, rng, 0.6) for _ in range(times)])
    owners = [laws.inner_dirichlet(y, 3, rng, 0.6) for _ in range(times)]
    ours = np.stack([[np.bincount(y[o == c], minlength=3) for c in range(3)] for o in owners])
    for k in range(3):
        for count in range(4):
            # Clients are exchangeable: pooled, and bounded as if the three were one draw.
            a, b = ((x[:, :, k] == count).mean() for x in (plain, ours))
            p = (a + b) / 2
            assert abs(a - b) < 4 * np.sqrt(2 * p * (1 - p) / times) + 1e-12


def test_inner_dirichlet_survives_alphas_that_underflow():
    y = labels(each=60)
    made = deal("inner-dirichlet", y, 60, alpha=1e-300)
    counts = counts_of(made, y, 10)
    assert counts.sum(1).tolist() == [10] * 60
    assert counts.sum(0).tolist() == [60] * 10
    # Every client wants one class only, and when that has run out takes what there is.
    assert (counts.max(1) == 10).sum() >= 6
    assert counts.max(1).mean() > 6


@pytest.mark.parametrize("k", [1, 2, 3, 9, 10])
@pytest.mark.parametrize("clients", [10, 37, 400])
def test_pathological_clients_hold_exactly_k_classes(k, clients):
    y = np.repeat(np.arange(10), np.arange(1, 11) * 100)
    if clients * k > np.minimum(np.bincount(y), clients).sum():
        clients = 100  # the smallest class has no more examples
    counts = counts_of(deal("pathological", y, clients, classes_per_client=k), y, 10)
    held = counts > 0
    assert np.all(held.sum(1) == k)
    # A class is cut in equal parts, and large classes go to more clients.
    for column in counts.T:
        parts = column[column > 0]
        assert parts.max() - parts.min() <= 1
    users = held.sum(0)
    assert np.all(np.diff(users) >= -1)
    ideal = np.clip(clients * k * np.arange(1, 11) / 55, 1, clients)
    assert np.all(users >= np.floor(ideal))


def test_pathological_pairs_of_classes_are_all_likely():
    y = labels()
    held = counts_of(deal("pathological", y, 900), y, 10) > 0
    pairs = (held.T.astype(int) @ held)[np.triu_indices(10, 1)]
    # 45 pairs, 20 clients each on average; the deviation of a free draw is sqrt(20).
    assert pairs.sum() == 900
    assert pairs.min() > 20 - 4.5 * np.sqrt(20)
    assert pairs.max() < 20 + 4.5 * np.sqrt(20)


@quick
@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(1, 60), st.integers(1, 8))
def test_pathological_deals_whenever_it_is_possible(sizes, clients, k):
    y = np.repeat(np.arange(len(sizes)), sizes)
    k = min(k, len(sizes))
    possible = len(sizes) <= clients * k <= sum(min(size, clients) for size in sizes)
    if clients > len(y):
        return
    if not possible:
        with pytest.raises(
            ValueError, match=r"^clients times classes_per_client must be at (least|most) "
        ):
            deal("pathological", y, clients, classes_per_client=k)
        return
    counts = counts_of(deal("pathological", y, clients, classes_per_client=k), y, len(sizes))
    assert np.all((counts > 0).sum(1) == k)
    assert counts.sum(0).tolist() == sizes


@pytest.mark.parametrize("s", [1, 2, 5])
def test_shards_are_runs_of_the_sorted_labels(s):
    y, clients = labels(each=60), 30
    counts = counts_of(deal("shards", y, clients, shards_per_client=s), y, 10)
    sizes = np.diff(np.arange(clients * s + 1) * 600 // (clients * s))
    assert counts.sum(1).min() >= s * sizes.min()
    assert counts.sum(1).max() <= s * sizes.max()
    # 30 * s shards over 10 classes of 60 fit without remainder: one class in each shard.
    assert (counts > 0).sum(1).max() <= s
    if s == 1:
        assert np.all(counts.max(1) == 20)


def test_shards_and_iid_take_the_targets_of_a_regression():
    y = np.random.default_rng(0).normal(size=100)
    made = deal("shards", y, 10, shards_per_client=1)
    order = np.sort([np.sort(y[made.rows(c)]) for c in range(10)], axis=0)
    assert np.array_equal(order.ravel(), np.sort(y))
    assert len(deal("iid", y[:, None], 10)) == 10


# flwr-datasets is the reference.


@pytest.fixture(scope="module")
def flower():
    """Return a function that gives the label counts of a flwr-datasets partitioner."""
    datasets = pytest.importorskip("datasets")
    reference = pytest.importorskip("flwr_datasets.partitioner")

    def counts(name, y, clients, **options):
        made = getattr(reference, name)(partition_by="label", **options)
        with warnings.catch_warnings():
            # pyarrow and the partitioners warn about their own defaults.
            warnings.simplefilter("ignore")
            made.dataset = datasets.Dataset.from_dict({"label": y})
            parts = [made.load_partition(client)["label"] for client in range(clients)]
        return np.stack([np.bincount(np.asarray(p, np.int64), minlength=10) for p in parts])

    return counts


def features(counts):
    """Size spread, the share of a client's largest class, and how many classes it holds."""
    sizes = counts.sum(1)
    shares = counts / sizes[:, None]
    return np.array([sizes.std(), shares.max(1).mean(), (counts > 0).sum(1).mean()])


PAIRS = {
    "dirichlet": ("DirichletPartitioner", {"alpha": 0.5, "min_partition_size": 1}),
    "inner-dirichlet": ("InnerDirichletPartitioner", {"alpha": 0.5}),
    "pathological": ("PathologicalPartitioner", {"num_classes_per_partition": 2}),
    "shards": ("ShardPartitioner", {"num_shards_per_partition": 2}),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_statistics_are_those_of_flwr_datasets(flower, kind):
    y, clients, seeds = labels(each=100), 20, 12
    name, options = PAIRS[kind]
    sizes = {"partition_sizes": [len(y) // clients] * clients}
    count = sizes if kind == "inner-dirichlet" else {"num_partitions": clients}
    theirs = np.stack(
        [features(flower(name, y, clients, seed=s, **count, **options)) for s in range(seeds)]
    )
    ours = np.stack(
        [features(counts_of(deal(kind, y, clients, s, alpha=0.5), y, 10)) for s in range(4 * seeds)]
    )
    error = np.sqrt(theirs.var(0, ddof=1) / seeds + ours.var(0, ddof=1) / len(ours))
    if kind == "pathological":
        # Theirs draws classes freely, so that sizes vary by chance; ours balances the classes.
        assert ours[:, 0].max() < theirs[:, 0].min()
        theirs, ours, error = theirs[:, 2:], ours[:, 2:], error[2:]
    assert np.all(np.abs(theirs.mean(0) - ours.mean(0)) <= 4 * error + 1e-12)


# Limits and errors.


@pytest.mark.parametrize("client", [-1, 10])
def test_a_client_that_does_not_exist(client):
    y = labels()
    for kind in ("iid", "on-demand"):
        made = deal(kind, y, 10)
        for method in (made.rows, made.train_rows, made.validation_rows):
            with pytest.raises(
                IndexError, match=rf"^client must be between 0 and 9, got {client}$"
            ):
                method(client)


EXAMPLES = "the number of training examples (6000)"
BAD = [
    ("dirichlt", {}, "partition must be one of {kinds}, got 'dirichlt'; did you mean 'dirichlet'?"),
    ("iid", {"clients": 7000}, f"clients must be at most {EXAMPLES}, got 7000"),
    ("iid", {"clients": 0}, "clients must be >= 1, got 0"),
    ("iid", {"clients": 2.5}, "clients must be a whole number >= 1, got 2.5"),
    ("iid", {"seed": -1}, "seed must be >= 0, got -1"),
    ("iid", {"validation": 1.0}, "validation must be in [0, 1), got 1.0"),
    ("iid", {"validation": -0.1}, "validation must be in [0, 1), got -0.1"),
    ("dirichlet", {"alpha": 0}, "alpha must be > 0, got 0"),
    ("inner-dirichlet", {"alpha": -1.0}, "alpha must be > 0, got -1.0"),
    ("dirichlet", {"alpha": float("nan")}, "alpha must be > 0, got nan"),
    ("dirichlet", {"alpha": 1e10}, "alpha must be at most 1e9, got 10000000000.0"),
    ("on-demand", {"alpha": 0.0}, "alpha must be > 0, got 0.0"),
    (
        "on-demand",
        {"examples_per_client": 6001},
        f"examples_per_client must be at most {EXAMPLES}, got 6001",
    ),
    ("on-demand", {"examples_per_client": 0}, "examples_per_client must be >= 1, got 0"),
    (
        "pathological",
        {"classes_per_client": 11},
        "classes_per_client must be at most the number of classes (10), got 11",
    ),
    ("pathological", {"classes_per_client": 0}, "classes_per_client must be >= 1, got 0"),
    (
        "pathological",
        {"clients": 5000},
        "clients times classes_per_client must be at most 6000 here, where no class goes to more "
        "clients than it has examples, got 5000 x 2",
    ),
    (
        "pathological",
        {"clients": 4},
        "clients times classes_per_client must be at least the number of classes (10), or examples "
        "would be left out, got 4 x 2",
    ),
    (
        "shards",
        {"clients": 3001},
        f"clients times shards_per_client must be at most {EXAMPLES}, got 3001 x 2",
    ),
]


@pytest.mark.parametrize(("kind", "options", "text"), BAD)
def test_bad_arguments(kind, options, text):
    y = labels()
    options = dict(options)
    with pytest.raises(ValueError) as caught:
        make(kind, y, options.pop("clients", 10), options.pop("seed", 0), **options)
    assert str(caught.value) == text.replace("{kinds}", ", ".join(KINDS))


@pytest.mark.parametrize("kind", ["dirichlet", "inner-dirichlet", "pathological"])
def test_a_regression_has_no_classes_to_deal_by(kind):
    with pytest.raises(ValueError) as caught:
        make(kind, np.linspace(0, 1, 50), 5, 0)
    assert str(caught.value) == (
        "partition must be iid, quantity, on-demand, natural, file or shards for a regression, "
        f"got {kind!r} and float64 targets of shape [N]"
    )
