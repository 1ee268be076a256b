"""What parts may have besides their protocol: found by the method, needed by nobody."""

from dataclasses import dataclass

import numpy as np
import pytest

from strategies import (
    AdaptiveClip,
    AdaptiveClipped,
    AdaptiveMu,
    Algorithm,
    FairMean,
    GaussianNoise,
    GeometricMedian,
    Mean,
    Median,
    NormalizedMean,
    Update,
    WeightedMean,
    average,
    clipped,
    optional_protocols,
    plain,
)
from strategies.drift import Dynamic, Scaffold
from strategies.optional_protocols import innermost
from strategies.reducing import bound, finish, fold_all, merge_all
from strategies.steps import needs_sgd, told_momentum
from strategies.weights import weighed, weights_of

STREAMS = {"FoldsMany", "MergesInPlace", "AddsUp", "Discounts"}
CLIPS = {
    "FoldsMany",
    "AddsUp",
    "MergesInPlace",
    "DividesByFixedNumber",
    "AveragesNobody",
    "WrapsReducer",
    "Refuses",
}
UPDATES = [Update(i, i + 1, np.full(3, i + 1.0), steps=2) for i in range(3)]


NAMES = [
    name
    for name, kind in vars(optional_protocols).items()
    if getattr(kind, "_is_runtime_protocol", False)
]


def optional(part):
    """Names of the optional protocols that a part has."""
    return {name for name in NAMES if isinstance(part, getattr(optional_protocols, name))}


@pytest.mark.parametrize(
    ("part", "names"),
    [
        (plain(), {"NeedsSGD"}),
        (WeightedMean(), STREAMS | {"WeighsClients"}),
        (NormalizedMean(), STREAMS | {"WeighsClients", "NeedsSGD", "ToldMomentum"}),
        (FairMean(), STREAMS | {"Refuses"}),
        (Median(), set()),
        (GeometricMedian(), {"WeighsClients"}),
        (clipped(WeightedMean(), 1.0), CLIPS | {"WeighsClients"}),
        (AdaptiveClipped(Median(), 1.0), CLIPS | {"WeighsClients", "AdaptsToRound"}),
        (average(), set()),
        (Scaffold(), {"Refuses"}),
        (Dynamic(), {"Refuses"}),
        (AdaptiveMu(average()), {"Refuses", "ShowsNumbers"}),
        (AdaptiveClip(average()), {"Refuses", "ShowsNumbers"}),
        (GaussianNoise(1.0), {"Refuses", "PreparedForRun", "AccountsForPrivacy"}),
        (lambda mean, at: mean, set()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_which_part_has_what(part, names):
    assert optional(part) == names


class Last:
    """A reducer of the four methods alone: the update of the highest client number."""

    def lift(self, update):
        return update

    def merge(self, a, b):
        return max(a, b, key=lambda update: update.client)

    def fold(self, partial, update):
        return update if partial is None else self.merge(partial, update)

    def finish(self, partial):
        return Mean(partial.delta)


def test_a_reducer_of_the_four_methods_alone_goes_everywhere():
    reducer = Last()
    assert optional(reducer) == set()
    assert fold_all(reducer, None, UPDATES) is UPDATES[2]
    assert merge_all(reducer, [None, *UPDATES], own=True) is UPDATES[2]
    assert bound(reducer, {"clip": 1.0}) is reducer and innermost(reducer) is reducer
    np.testing.assert_array_equal(finish(reducer, UPDATES[0], 3).delta, [1.0] * 3)
    assert finish(reducer, None, 3) is None
    assert (weights_of(reducer), needs_sgd(plain(), reducer), told_momentum(reducer)) == (
        None,
        False,
        None,
    )
    algorithm = Algorithm("mine", plain(), reducer, average(), noise=lambda mean, at: mean)
    assert weighed(algorithm, "by-size") == algorithm
    assert algorithm.over(5) is algorithm and algorithm.prepared(1, 2, 2) is algorithm
    assert algorithm.notes({}, 1) == {}


@dataclass(frozen=True)
class Everything(Last):
    """A reducer with all that it may have, inheriting none of the protocols."""

    reducer: object
    by: str | None = None
    sgd = True

    def fold_many(self, partial, updates):
        return ("at once", partial, len(updates))

    def absorb(self, a, b):
        return ("absorbed", a, b)

    def at(self, shared):
        return ("at", shared["clip"])

    def over(self, clients):
        return ("over", clients)

    def nobody(self, size):
        return Mean(np.zeros(size))

    def refuse(self, algorithm):
        return "it goes with nothing" if algorithm.name == "refused" else None


def test_methods_are_found_without_any_base_class():
    reducer = Everything(WeightedMean())
    assert fold_all(reducer, None, UPDATES) == ("at once", None, 3)
    assert merge_all(reducer, [1, 2], own=True) == ("absorbed", 1, 2)
    assert bound(reducer, {"clip": 2.0}) == ("at", 2.0)
    assert finish(reducer, None, 4).delta.shape == (4,)
    assert needs_sgd(plain(), reducer) and innermost(reducer) == WeightedMean()
    assert weights_of(reducer) == "examples"

    def noise(mean, at):
        return mean

    algorithm = Algorithm("mine", plain(), reducer, average(), noise)
    assert algorithm.over(7).reducer == ("over", 7)
    assert weighed(algorithm, "by-size").reducer == Everything(WeightedMean("uniform"))
    with pytest.raises(ValueError) as caught:
        Algorithm("refused", plain(), reducer, average())
    assert str(caught.value) == "parts of 'refused' must fit together: it goes with nothing"


class Shown:
    """A server rule that shows one of the numbers that it shares."""

    shows = ("rate",)

    def init(self, model):
        return {"rate": 0.5, "hidden": 1.0}

    def step(self, model, state, mean, at):
        return model, state

    def share(self, state):
        return state


class Told:
    """Noise that depends on the run and tells something of every round."""

    def __init__(self, rounds=0):
        self.rounds = rounds

    def __call__(self, mean, at):
        return mean

    def prepared(self, rounds, population, cohort, sampling):
        return Told(rounds)

    def notes(self, rounds):
        return {"spent": rounds / self.rounds}


def test_server_rule_and_noise_put_numbers_into_the_record():
    algorithm = Algorithm("mine", plain(), Median(), Shown(), Told()).prepared(10, 5, 5)
    shared = algorithm.share(algorithm.server.init(np.zeros(1)), 1)
    assert algorithm.notes(shared, 4) == {"rate": 0.5, "spent": 0.4}


def test_the_momentum_that_a_reducer_was_told():
    assert told_momentum(NormalizedMean(0.9)) == 0.9
    assert told_momentum(clipped(NormalizedMean(0.5), 1.0)) == 0.5
    assert told_momentum(NormalizedMean()) is None
    silent = type("Silent", (Last,), {"sgd": True})()
    assert needs_sgd(silent) and told_momentum(silent) is None
