"""Sampling: seeded, without replacement, by ids and not by their order."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, chisquare

from strategies import Cohort
from strategies.cohort import EVALUATE, SAMPLINGS, TRAIN
from strategies.reports import Reports, apart


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


# Sampling by size, in turn, and by loss.

SIZES = np.array([1, 2, 3, 4, 10])


def shares(cohort, rounds, population, **known):
    counts = np.zeros(population)
    for number in range(1, rounds + 1):
        drawn = cohort.sample(number, population, **known)
        assert drawn == sorted(set(drawn))
        counts[drawn] += 1
    return counts / rounds


def test_by_size_the_first_client_is_drawn_in_proportion():
    found = shares(Cohort(size=1, sampling="by-size"), 4000, 5, sizes=SIZES)
    expected = SIZES / SIZES.sum()
    assert np.all(np.abs(found - expected) < 5 * np.sqrt(expected * (1 - expected) / 4000))


def test_by_size_the_next_is_drawn_in_proportion_to_those_left():
    p = SIZES / SIZES.sum()
    expected = np.array(
        [p[i] + sum(p[j] * p[i] / (1 - p[j]) for j in range(5) if j != i) for i in range(5)]
    )
    found = shares(Cohort(size=2, sampling="by-size"), 4000, 5, sizes=SIZES)
    assert np.all(np.abs(found - expected) < 5 * np.sqrt(expected * (1 - expected) / 4000))


@pytest.mark.parametrize(("population", "size"), [(10, 3), (12, 4), (7, 5)])
def test_round_robin_takes_everybody_in_turn(population, size):
    cohort = Cohort(size=size, seed=4, sampling="round-robin")
    drawn = [cohort.sample(r, population) for r in range(1, population + 1)]
    for number in range(1, population + 1):
        counts = np.bincount(np.concatenate(drawn[:number]), minlength=population)
        assert counts.max() - counts.min() <= 1
        assert counts.sum() == number * size
    again = Cohort(size=size, seed=5, sampling="round-robin").sample(1, population)
    assert drawn[0] != list(range(size)) or again != drawn[0]


def test_power_of_choice_takes_the_largest_losses_of_its_candidates():
    losses = {client: float(client) for client in range(100)}
    everybody = Cohort(size=3, sampling="power-of-choice", candidates=100)
    assert everybody.sample(1, 100, losses=losses) == [97, 98, 99]
    ids = [client * 10 for client in range(100)]
    named = {client * 10: -float(client) for client in range(100)}
    assert everybody.sample(1, ids, losses=named) == [0, 10, 20]
    # Of d uniform candidates the expected largest of 0 ... n - 1 is d (n + 1) / (d + 1) - 1.
    few = Cohort(size=1, sampling="power-of-choice", candidates=4)
    drawn = [few.sample(r, 100, losses=losses)[0] for r in range(1, 2001)]
    assert abs(np.mean(drawn) - (4 * 101 / 5 - 1)) < 5 * np.std(drawn) / np.sqrt(2000)


def test_power_of_choice_begins_with_those_who_have_not_reported():
    cohort = Cohort(size=2, sampling="power-of-choice", candidates=5)
    assert cohort.sample(3, 5, losses={0: 9.0, 1: 8.0, 3: 7.0}) == [2, 4]
    assert cohort.sample(3, 5, losses={0: 9.0, 1: np.nan, 2: 1.0, 3: 7.0, 4: 1.0}) == [0, 1]


def test_candidates_are_twice_the_cohort_and_drawn_by_size():
    losses = dict.fromkeys(range(5), 1.0)
    cohort = Cohort(size=1, sampling="power-of-choice")
    found = shares(cohort, 4000, 5, losses=losses, sizes=np.array([1, 1, 1, 1, 10**9]))
    # The giant is always a candidate, and with equal losses the first one drawn is taken.
    assert found[4] > 0.99
    equal = shares(cohort, 4000, 5, losses=losses)
    assert np.all(np.abs(equal - 0.2) < 5 * np.sqrt(0.2 * 0.8 / 4000))
    assert cohort.sample(1, 1, losses={}) == [0]
    assert len(Cohort(size=4, sampling="power-of-choice").sample(1, 5)) == 4


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_sampling_is_that_of_seed_and_round(sampling):
    def draw(round, seed):
        cohort = Cohort(size=3, seed=seed, sampling=sampling)
        return tuple(cohort.sample(round, 40, sizes=np.arange(1, 41)))

    assert draw(1, 0) == draw(1, 0)
    assert len({draw(1, 0), draw(2, 0), draw(1, 1)}) == 3


def test_poisson_takes_each_client_by_itself_with_the_same_probability():
    population, size, rounds = 8, 2, 20_000
    cohort = Cohort(size, seed=3, sampling="poisson")
    taken = np.zeros((rounds, population))
    for number in range(rounds):
        taken[number, cohort.sample(number + 1, population)] = 1
    q = size / population
    # Five standard errors.
    assert np.all(np.abs(taken.mean(axis=0) - q) < 5 * np.sqrt(q * (1 - q) / rounds))
    between = np.corrcoef(taken.T)[np.triu_indices(population, 1)]
    assert np.all(np.abs(between) < 5 / np.sqrt(rounds))
    sizes = np.bincount(taken.sum(axis=1).astype(int), minlength=population + 1)
    expected = rounds * binom.pmf(np.arange(population + 1), population, q)
    seen, due = (np.append(x[:6], x[6:].sum()) for x in (sizes, expected))
    assert chisquare(seen, due).pvalue > 1e-6 and sizes[0] > 0


def test_poisson_is_that_of_the_seed_the_round_and_the_number_of_clients():
    cohort = Cohort(fraction=0.3, seed=3, sampling="poisson")
    ids = [7 * i for i in range(40)]
    for number in range(1, 20):
        places = cohort.sample(number, 40)
        assert cohort.sample(number, ids) == [ids[place] for place in places]
        assert places == sorted(set(places))
    assert cohort.sample(1, 40) != replace(cohort, seed=4).sample(1, 40)
    assert Cohort(sampling="poisson").sample(1, 9) == list(range(9))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: Cohort(sampling="uniformly"),
            "sampling must be one of uniform, poisson, by-size, round-robin, power-of-choice, "
            "got 'uniformly'; did you mean 'uniform'?",
        ),
        (
            lambda: Cohort(size=2, candidates=4),
            "candidates must be left out for the sampling 'uniform', got 4",
        ),
        (
            lambda: Cohort(size=2, sampling="power-of-choice", candidates=0),
            "candidates must be >= 1, got 0",
        ),
        (
            lambda: Cohort(size=3, sampling="power-of-choice", candidates=2).sample(1, 9),
            "candidates must be between the cohort's size (3) and the number of clients (9), got 2",
        ),
        (
            lambda: Cohort(size=3, sampling="by-size").sample(1, 9),
            "sizes of the clients must be known for 'by-size', got None",
        ),
    ],
)
def test_bad_samplings(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text


def test_reports_go_through_a_state_and_back():
    reports = Reports()
    assert reports.beside({"v": 1}) == {"v": 1}
    reports.add([7, 3], [0.5, 1.5])
    reports.add(np.array([3, 9]), np.array([2.5, np.nan]))
    state = reports.beside({"v": 1})
    rest, again = apart(state)
    assert rest == {"v": 1} and list(again.losses) == [3, 7, 9]
    assert again.losses[3] == 2.5 and again.losses[7] == 0.5 and np.isnan(again.losses[9])
    assert apart({"v": 1}) == ({"v": 1}, Reports())
