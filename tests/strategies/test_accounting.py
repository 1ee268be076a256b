"""Epsilon is dp-accounting's own for the mechanism that runs, and a target's noise the least."""

import builtins
import logging
from math import inf

import pytest

from strategies import Round, accounting, catalog, epsilon, noise_multiplier

dp = pytest.importorskip("dp_accounting")

RELATION = dp.NeighboringRelation

CASES = [
    # sampling, z, clients N, cohort m, rounds, delta
    ("poisson", 1.0, 100, 10, 10, 100**-1.1),
    ("poisson", 1.0, 1000, 100, 100, 1e-5),
    ("poisson", 0.7, 10_000, 100, 1000, 1e-6),
    ("poisson", 4.0, 50, 50, 30, 1e-5),
    ("poisson", 1.3, 8, 4, 1, 0.01),
    ("uniform", 1.0, 100, 10, 10, 100**-1.1),
    ("uniform", 1.0, 1000, 100, 100, 1e-5),
    ("uniform", 2.0, 10_000, 100, 1000, 1e-6),
    ("uniform", 4.0, 50, 50, 30, 1e-5),
    ("uniform", 3.0, 7, 3, 2, 0.01),
]


def of_the_library(sampling, z, population, cohort, rounds, delta):
    """Return the epsilons of dp-accounting's events for the mechanism, by all its accountants."""
    if sampling == "poisson":
        # Each client takes part by itself; one more or less moves the sum by S, the noise is z S.
        event = dp.PoissonSampledDpEvent(cohort / population, dp.GaussianDpEvent(z))
        accountants = [dp.rdp.RdpAccountant(), dp.pld.PLDAccountant()]
    else:
        # One client replaced moves the sum by 2 S: the noise of z S is z / 2 of that.
        noise = dp.GaussianDpEvent(z / 2)
        event = dp.SampledWithoutReplacementDpEvent(population, cohort, noise)
        accountants = [dp.rdp.RdpAccountant(neighboring_relation=RELATION.REPLACE_ONE)]
    for accountant in accountants:
        accountant.compose(event, rounds)
        yield accountant.get_epsilon(delta)


@pytest.mark.parametrize(
    ("sampling", "multiplier", "population", "cohort", "rounds", "delta"), CASES
)
def test_epsilon_is_at_least_that_of_the_mechanism(
    sampling, multiplier, population, cohort, rounds, delta
):
    algorithm = catalog.build("dp-fedavg", noise_multiplier=multiplier, delta=delta)
    ready = algorithm.prepared(rounds, population, cohort, sampling)
    reported = ready.notes({}, rounds)["epsilon"]
    assert reported == epsilon(multiplier, cohort / population, rounds, delta, sampling)
    bounds = list(of_the_library(sampling, multiplier, population, cohort, rounds, delta))
    assert reported >= max(bounds) * (1 - 1e-9)
    assert reported == pytest.approx(bounds[0], rel=1e-9)


def test_a_fixed_cohort_costs_what_replacing_a_client_does():
    delta, rate = 100**-1.1, 10 / 100
    assert epsilon(1.0, rate, 10, delta) == pytest.approx(1.53, abs=0.005)
    assert epsilon(1.0, rate, 10, delta, "uniform") == pytest.approx(11.06, abs=0.005)
    # Where all take part there is no sampling: twice the sensitivity, the relation's own.
    everybody = epsilon(1.0, 1.0, 10, delta, "uniform")
    assert everybody == pytest.approx(epsilon(0.5, 1.0, 10, delta), rel=1e-9)


@pytest.mark.parametrize(
    ("sampling", "neighbours"),
    [("poisson", "add or remove one client"), ("uniform", "replace one client")],
)
def test_a_guarantee_names_its_neighbours(sampling, neighbours):
    noise = catalog.build("dp-fedavg", noise_multiplier=2.0).prepared(5, 40, 10, sampling).noise
    assert noise.guarantee() == {
        "epsilon": epsilon(2.0, 10 / 40, 5, 40**-1.1, sampling),
        "delta": 40**-1.1,
        "rounds": 5,
        "noise_multiplier": 2.0,
        "sampling": sampling,
        "sampling_rate": 10 / 40,
        "neighbours": neighbours,
    }


def test_epsilon_grows_with_the_rounds_and_is_infinite_without_noise():
    spent = [epsilon(1.0, 0.1, rounds, 1e-5) for rounds in (0, 1, 10, 100)]
    assert spent[0] == 0 and spent == sorted(set(spent))
    assert epsilon(0.0, 0.1, 1, 1e-5) == inf


@pytest.mark.parametrize(
    ("target", "sampling"),
    [(0.5, "poisson"), (3.0, "poisson"), (20.0, "poisson"), (6.0, "uniform")],
)
def test_the_noise_for_a_target_is_the_least_that_keeps_it(target, sampling):
    found = noise_multiplier(target, 0.2, 50, 1e-5, sampling)
    assert epsilon(found, 0.2, 50, 1e-5, sampling) <= target
    assert epsilon(found * (1 - 2 * accounting.PRECISION), 0.2, 50, 1e-5, sampling) > target


@pytest.mark.parametrize("name", ["dp-fedavg", "dp-fedavg-adaptive"])
def test_a_run_is_told_its_epsilon_round_by_round(name):
    algorithm = catalog.build(name, target_epsilon=5.0).prepared(20, 100, 10)
    delta = 100**-1.1
    shared = algorithm.share(algorithm.server.init([0.0]), 1) if "adaptive" in name else {}
    notes = [algorithm.notes(shared, number) for number in (1, 10, 20)]
    multiplier = algorithm.noise.multiplier
    for number, note in zip((1, 10, 20), notes, strict=True):
        assert note["epsilon"] == epsilon(multiplier, 0.1, number, delta)
        assert note["delta"] == delta
    assert 4.99 < notes[-1]["epsilon"] <= 5.0
    plain = catalog.build("fedavg")
    assert plain.prepared(20, 100, 10) is plain and plain.notes({}, 1) == {}


def test_noise_that_is_not_prepared_is_refused_in_a_round():
    algorithm = catalog.build("dp-fedavg", target_epsilon=5.0)
    assert algorithm.notes({}, 1) == {}
    with pytest.raises(ValueError, match="must be found from target_epsilon before the first"):
        algorithm.noise(None, Round(1, 10))


def test_warnings_of_the_library_are_kept_quiet(caplog, monkeypatch):
    accounting._one_round.cache_clear()
    level, handlers = logging.getLogger("absl").level, list(logging.root.handlers)
    monkeypatch.setattr(logging.root, "handlers", [])
    epsilon(1.0, 0.1, 100, 1e-5)
    assert logging.root.handlers == []
    monkeypatch.undo()
    assert not caplog.records
    assert logging.getLogger("absl").level == level
    assert logging.root.handlers == handlers


def test_without_dp_accounting_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "dp_accounting":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ValueError) as caught:
        catalog.build("dp-fedavg").prepared(10, 100, 10)
    assert str(caught.value) == (
        "epsilon of differential privacy must be computed by the package dp-accounting, "
        "got none installed: pip install 'sunflower-fl[dp]'"
    )


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: epsilon(-1.0, 0.1, 1, 1e-5), "multiplier must be >= 0, got -1.0"),
        (lambda: epsilon(1.0, 0.0, 1, 1e-5), "rate must be in (0, 1], got 0.0"),
        (lambda: epsilon(1.0, 0.1, -1, 1e-5), "rounds must be >= 0, got -1"),
        (lambda: epsilon(1.0, 0.1, 1, 0.0), "delta must be in (0, 1], got 0.0"),
        (
            lambda: epsilon(1.0, 0.1, 1, 1e-5, "by-size"),
            "sampling must be one of poisson, uniform, got 'by-size'",
        ),
        (
            lambda: catalog.build("dp-fedavg").prepared(1, 9, 3, "round-robin"),
            "sampling must be 'poisson' or 'uniform' with noise for differential privacy, whose "
            "account takes every client as equally likely, got 'round-robin'",
        ),
        (lambda: noise_multiplier(0, 0.1, 1, 1e-5), "target_epsilon must be > 0, got 0"),
        (
            lambda: catalog.build("dp-fedavg", noise_multiplier=1.0, target_epsilon=2.0),
            "one of noise_multiplier and target_epsilon must be given, got 1.0 and 2.0",
        ),
        (
            lambda: catalog.build("dp-fedavg-adaptive", noise_multiplier=2.0, count_noise=1.0),
            "count_noise must be more than half the noise multiplier (2.0), got 1.0",
        ),
        (lambda: catalog.build("dp-fedavg", delta=2.0), "delta must be in (0, 1], got 2.0"),
    ],
)
def test_bad_values(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text
