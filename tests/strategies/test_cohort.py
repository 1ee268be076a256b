"""Sampling: seeded, without replacement, by ids and not by their order."""

import tracemalloc

import numpy as np
import pytest

from strategies import Cohort
from strategies.cohort import EVALUATE, TRAIN


def test_all_clients_without_a_size():
    assert Cohort().sample(1, 4) == [0, 1, 2, 3]
    assert Cohort().sample(1, [9, 3, 7]) == [3, 7, 9]


@pytest.mark.parametrize(
    ("cohort", "population", "count"),
    [
        (Cohort(size=3), 10, 3),
        (Cohort(fraction=0.29), 100, 29),
        (Cohort(fraction=0.55), 10, 5),
        (Cohort(fraction=1.0), 10, 10),
    ],
)
def test_sizes(cohort, population, count):
    drawn = cohort.sample(1, population)
    assert len(drawn) == len(set(drawn)) == count
    assert drawn == sorted(drawn) and drawn[0] >= 0 and drawn[-1] < population


def test_seed_round_and_purpose_name_the_cohort():
    cohort = Cohort(size=5, seed=3)
    assert cohort.sample(2, 1000) == Cohort(size=5, seed=3).sample(2, 1000)
    draws = [
        cohort.sample(2, 1000),
        cohort.sample(3, 1000),
        cohort.sample(2, 1000, EVALUATE),
        Cohort(size=5, seed=4).sample(2, 1000),
    ]
    assert len({tuple(draw) for draw in draws}) == 4
    assert cohort.sample(2, 1000, TRAIN) == draws[0]


def test_ids_are_drawn_whatever_their_order():
    ids = [70, 10, 30, 90, 50]
    places = Cohort(size=2).sample(1, 5)
    assert Cohort(size=2).sample(1, ids) == [sorted(ids)[place] for place in places]
    assert Cohort(size=2).sample(1, ids[::-1]) == Cohort(size=2).sample(1, ids)


def test_every_client_is_equally_likely():
    rounds, population, size = 4000, 10, 3
    counts = np.zeros(population)
    for number in range(rounds):
        counts[Cohort(size=size).sample(number, population)] += 1
    expected = rounds * size / population
    spread = np.sqrt(rounds * (size / population) * (1 - size / population))
    assert np.all(np.abs(counts - expected) < 5 * spread)


def test_a_small_cohort_of_a_huge_population_costs_no_memory():
    tracemalloc.start()
    drawn = Cohort(size=100).sample(1, 10**9)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(drawn) == 100
    assert peak < 2**20


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Cohort(size=0), "size must be >= 1, got 0"),
        (lambda: Cohort(size=2.0), "size must be a whole number >= 1, got 2.0"),
        (lambda: Cohort(fraction=0), "fraction must be in (0, 1], got 0"),
        (lambda: Cohort(fraction=1.2), "fraction must be in (0, 1], got 1.2"),
        (lambda: Cohort(seed=-1), "seed must be >= 0, got -1"),
        (
            lambda: Cohort(3, 0.5),
            "size and fraction must not both be given, got size=3 and fraction=0.5",
        ),
        (
            lambda: Cohort(size=11).sample(1, 10),
            "size must be <= the number of clients (10), got 11",
        ),
        (
            lambda: Cohort(fraction=0.05).sample(1, 10),
            "fraction must select at least one of 10 clients, got 0.05",
        ),
    ],
)
def test_bad_cohorts(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text
