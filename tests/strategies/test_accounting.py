"""Epsilon is dp-accounting's own, and the noise found for a target is the least that keeps it."""

import builtins
import logging
from math import inf

import pytest

from strategies import Round, accounting, catalog, epsilon, noise_multiplier

dp = pytest.importorskip("dp_accounting")

CASES = [
    (1.0, 0.1, 100, 1e-5),
    (0.7, 0.01, 1000, 1e-6),
    (4.0, 1.0, 30, 1e-5),
    (1.3, 0.5, 1, 0.01),
]


@pytest.mark.parametrize(("multiplier", "rate", "rounds", "delta"), CASES)
def test_epsilon_is_that_of_dp_accounting(multiplier, rate, rounds, delta):
    accountant = dp.rdp.RdpAccountant()
    event = dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(multiplier))
    accountant.compose(event, rounds)
    expected = accountant.get_epsilon(delta)
    assert epsilon(multiplier, rate, rounds, delta) == pytest.approx(expected, rel=1e-9)


def test_epsilon_grows_with_the_rounds_and_is_infinite_without_noise():
    spent = [epsilon(1.0, 0.1, rounds, 1e-5) for rounds in (0, 1, 10, 100)]
    assert spent[0] == 0 and spent == sorted(set(spent))
    assert epsilon(0.0, 0.1, 1, 1e-5) == inf


@pytest.mark.parametrize("target", [0.5, 3.0, 20.0])
def test_the_noise_for_a_target_is_the_least_that_keeps_it(target):
    found = noise_multiplier(target, 0.2, 50, 1e-5)
    assert epsilon(found, 0.2, 50, 1e-5) <= target
    assert epsilon(found * (1 - 2 * accounting.PRECISION), 0.2, 50, 1e-5) > target


@pytest.mark.parametrize("name", ["dp-fedavg", "dp-fedavg-adaptive"])
def test_a_run_is_told_its_epsilon_round_by_round(name):
    algorithm = catalog.build(name, target_epsilon=5.0).prepared(20, 100, 10)
    delta = 100**-1.1
    shared = algorithm.share(algorithm.server.init([0.0]), 1) if "adaptive" in name else {}
    notes = [algorithm.notes(shared, number, 100, 10) for number in (1, 10, 20)]
    multiplier = algorithm.noise.multiplier
    for number, note in zip((1, 10, 20), notes, strict=True):
        assert note["epsilon"] == epsilon(multiplier, 0.1, number, delta)
        assert note["delta"] == delta
    assert 4.99 < notes[-1]["epsilon"] <= 5.0
    plain = catalog.build("fedavg")
    assert plain.prepared(20, 100, 10) is plain and plain.notes({}, 1, 100, 10) == {}


def test_noise_that_is_not_prepared_is_refused_in_a_round():
    algorithm = catalog.build("dp-fedavg", target_epsilon=5.0)
    assert algorithm.notes({}, 1, 100, 10) == {}
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
