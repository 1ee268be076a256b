"""Clients that exist only when somebody looks."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.population.partition import label_counts, make
from tests.simulation.population.test_partition import counts_of, labels, quick


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SUNFLOWER_CACHE", str(tmp_path))


def test_a_million_clients_cost_no_memory():
    y = labels(each=6000)
    tracemalloc.start()
    made = make("on-demand", y, 1_000_000, 0, alpha=0.3)
    assert len(made) == 1_000_000
    assert made.train_sizes.shape == made.validation_sizes.shape == (1_000_000,)
    assert len(made.rows(999_999)) == 100
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000  # a byte for each client would be a third of it


@quick
@given(
    st.integers(0, 2**40),
    st.integers(1, 60),
    st.floats(0, 0.95),
    st.none() | st.floats(-3, 3).map(lambda e: 10.0**e),
)
def test_on_demand_clients_hold_distinct_rows(seed, examples, validation, alpha):
    y = np.repeat([2, 5, 9], [10, 20, 30])
    made = make(
        "on-demand",
        y,
        1000,
        seed,
        alpha=alpha,
        examples_per_client=examples,
        validation=validation,
    )
    for client in (0, 1, 999):
        train, rest = made.train_rows(client), made.validation_rows(client)
        rows = np.concatenate([train, rest])
        assert len(set(rows.tolist())) == len(rows) == examples
        assert rows.min() >= 0
        assert rows.max() < 60
        assert len(train) == made.train_sizes[client] >= 1
        assert len(rest) == made.validation_sizes[client]
        assert abs(len(rest) - validation * examples) <= 0.5 + 1e-9 or len(train) == 1


@pytest.mark.parametrize(("law", "total", "effective"), [("symmetric", 10, 3.4), ("prior", 1, 1.4)])
def test_on_demand_names_its_dirichlet_law(law, total, effective):
    """q_i ~ Dir(alpha, ..., alpha) or Dir(alpha * p): with concentrations of sum A,
    E[sum q^2] = (A / K + 1) / (A + 1)."""
    y, alpha, size = labels(each=3000), 0.3, 1500
    made = make("on-demand", y, 10**6, 0, alpha=alpha, examples_per_client=size, law=law)
    q = label_counts(made, range(1500), y, 10) / size
    squares = (q**2).sum(axis=1)
    assert (1 / squares).mean() == pytest.approx(effective, abs=0.1)
    whole = total * alpha  # what the concentrations add up to
    expected = (whole / 10 + 1) / (whole + 1)
    # Counts of a sample have the variance of a sample: the classes of one client are drawn rows.
    assert squares.mean() == pytest.approx(expected + (1 - expected) / size, rel=0.02)


def test_the_prior_is_that_of_the_data():
    y = np.repeat([0, 1], [1000, 3000])
    made = make("on-demand", y, 10**6, 0, alpha=2.0, examples_per_client=100, law="prior")
    share = label_counts(made, range(4000), y, 2)[:, 1] / 100
    assert share.mean() == pytest.approx(0.75, abs=0.015)
    # A Beta(0.5, 1.5), and drawing 100 rows from it.
    beta = 0.75 * 0.25 / 3
    assert share.var() == pytest.approx(beta + (0.75 * 0.25 - beta) / 100, rel=0.07)
    for alpha in (1e-300, 5e-324):
        tiny = make("on-demand", y, 9, 0, alpha=alpha, examples_per_client=100, law="prior")
        assert set(counts_of(tiny, y, 2)[:, 1]) <= {0, 100}


def test_on_demand_depends_on_seed_and_client_only():
    y = labels()
    made = make("on-demand", y, 100, 4, alpha=0.5)
    first = [made.rows(client) for client in range(100)]
    again = make("on-demand", y, 10_000, 4, alpha=0.5)
    for client in reversed(range(100)):
        assert np.array_equal(again.rows(client), first[client])
    assert not np.array_equal(np.sort(first[0]), np.sort(first[1]))
    other = make("on-demand", y, 100, 5, alpha=0.5)
    assert not np.array_equal(np.sort(other.rows(0)), np.sort(first[0]))


def test_on_demand_without_alpha_draws_rows_evenly():
    """Each of 60 rows is in a client of 6 with probability 1/10."""
    made = make("on-demand", labels(each=6), 4000, 0, examples_per_client=6)
    times = np.bincount(np.concatenate([made.rows(c) for c in range(4000)]), minlength=60)
    assert np.all(np.abs(times - 400) < 4.5 * np.sqrt(4000 * 0.1 * 0.9))


def test_a_regression_on_demand_has_no_skew():
    y = np.linspace(0, 1, 50)
    assert len(make("on-demand", y, 5, 0, examples_per_client=7).rows(4)) == 7
    with pytest.raises(ValueError) as caught:
        make("on-demand", y, 5, 0, examples_per_client=7, alpha=0.5)
    assert str(caught.value) == (
        "alpha must be left out for the partition 'on-demand' where an example has no one class, "
        "got 0.5 and float64 targets of shape [N]"
    )
