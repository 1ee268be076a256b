"""Server state: named fields in a round, flat names in a checkpoint that never change."""

from dataclasses import fields
from math import inf

import numpy as np
import pytest

from strategies import (
    AdaptiveClip,
    AdaptiveMu,
    Algorithm,
    Federated,
    Mean,
    Round,
    WeightedMean,
    adagrad,
    adam,
    average,
    catalog,
    momentum,
    proximal_as_told,
)
from strategies.adaptive import ClipState, MuState
from strategies.by_class import ClassMeans, ClassMeansState
from strategies.centred import Recalling, RecallingState
from strategies.drift import Dynamic, DynamicState, Scaffold, ScaffoldState
from strategies.mime import Mime, MimeState
from strategies.server_steps import Bounded, BoundedState
from strategies.servers import AdaptiveState, MomentumState
from strategies.shared_direction import ClientMomentum, Decoupled, DecoupledState, DirectionState

MU = ("mu", "mu.loss", "mu.variance", "mu.falls", "mu.rounds", "mu.sum", "mu.squares")
SAVED = {
    "fedavgm": ("v",),
    "fedadagrad": ("m", "v"),
    "fedadam": ("m", "v"),
    "fedyogi": ("m", "v"),
    "fedprox-adaptive": MU,
    "scaffold": ("c",),
    "afl": ("seen", "weights", "others"),
    "feddyn": ("h",),
    "fedams": ("m", "v", "v_max"),
    "fedacg": ("v",),
    "feddc": ("c", "mean_drift"),
    "fedcm": ("m",),
    "mimelite": ("m",),
    **dict.fromkeys(("fedproto", "feddistill"), ("means", "known")),
    "mofedsam": ("m",),
    "dp-fedavg-adaptive": ("clip",),
    "centred-clipping": ("centre",),
    "ifca": ("model2",),
}
"""Names in the checkpoints of all earlier versions; all other strategies have no state."""

MODEL, AT = np.linspace(-1.0, 1.0, 3), Round(4, 10)
MEAN = Mean(
    np.array([0.5, -1.0, 2.0]),
    {"c": np.ones(3), "gradient": np.ones(3), "means": np.ones(6), "known": np.ones(3)},
    metrics={"loss": 1.0, "within": 0.75, "path": 0.5},
)

RULES = [
    (momentum(), MomentumState),
    (adagrad(), AdaptiveState),
    (adam(), AdaptiveState),
    (Scaffold(), ScaffoldState),
    (Dynamic(), DynamicState),
    (Bounded(), BoundedState),
    (Decoupled(), DecoupledState),
    (ClientMomentum(), DirectionState),
    (Mime(), MimeState),
    (ClassMeans(), ClassMeansState),
    (AdaptiveMu(adam()), MuState),
    (AdaptiveClip(momentum()), ClipState),
    (Recalling(momentum()), RecallingState),
]
every_rule = pytest.mark.parametrize(("rule", "kind"), RULES, ids=lambda v: type(v).__name__)


@pytest.mark.parametrize("name", catalog.names())
def test_names_in_checkpoints_stay(name):
    assert tuple(catalog.build(name).server.init(MODEL)) == SAVED.get(name, ())


def test_names_of_a_rule_that_wraps_another_lie_beside_its_names():
    assert tuple(AdaptiveMu(adam()).init(MODEL)) == ("m", "v", *MU)
    assert tuple(AdaptiveMu(AdaptiveClip(momentum())).init(MODEL)) == ("v", "clip", *MU)


def test_old_checkpoints_are_read():
    m, v = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])
    model, state = adam(0.1, 0.5, 0.75, 0.01).step(MODEL, {"m": m, "v": v}, MEAN, AT)
    m, v = 0.5 * m + 0.5 * MEAN.delta, 0.75 * v + 0.25 * MEAN.delta**2
    np.testing.assert_array_equal(model, MODEL + 0.1 * m / (np.sqrt(v) + 0.01))
    np.testing.assert_array_equal([state.m, state.v], [m, v])

    known = {"mu": 0.3, "mu.loss": 0.5, "mu.variance": 0.01, "mu.falls": 0}
    saved = {"v": v, **known, "mu.rounds": 1, "mu.sum": 1.5, "mu.squares": 2.25}
    rule = AdaptiveMu(momentum(beta=0.5), window=2)
    assert rule.share(saved) == {"mu": 0.3}
    model, state = rule.step(MODEL, saved, MEAN, AT)
    np.testing.assert_array_equal(model, MODEL + (0.5 * v + MEAN.delta))
    # The window's losses are 1.5 and 1.0: their mean is larger than 0.5 by more than the noise.
    assert state.mu == pytest.approx(0.4) and state.loss == 1.25 and state.variance == 0.0625
    assert (state.falls, state.rounds, state.total, state.squares) == (0, 0, 0.0, 0.0)


@every_rule
def test_a_state_comes_back_from_a_checkpoint(rule, kind):
    state = rule.init(MODEL)
    for _ in range(3):
        _, state = rule.step(MODEL, state, MEAN, AT)
    assert isinstance(state, kind) and kind.of(state) is state
    back = kind.of(dict(state))
    assert dict(back).keys() == dict(state).keys() and len(back) == len(dict(state))
    for field in fields(kind):
        if field.name != "server":
            assert vars(back)[field.name] is vars(state)[field.name]
    (moved, after), (again, other) = (rule.step(MODEL, s, MEAN, AT) for s in (state, dict(state)))
    assert moved.tobytes() == again.tobytes()
    for name in after:
        assert np.asarray(after[name]).tobytes() == np.asarray(other[name]).tobytes()


@every_rule
def test_a_state_that_lacks_something_is_refused(rule, kind):
    names = tuple(rule.init(MODEL))
    inside = ("m", "v") if hasattr(rule, "server") else ()
    own = [name for name in names if name not in inside]
    with pytest.raises(ValueError) as caught:
        kind.of({"x": 1, "y": 2})
    assert str(caught.value) == (
        f"server state must hold {', '.join(own)} for {kind.__name__}, got x, y"
    )
    with pytest.raises(ValueError, match=r"got nothing$"):
        kind.of({})


class Halving:
    """A plug-in that wraps a rule in a plain mapping, as rules of one's own do."""

    def __init__(self, server):
        self.server = server

    def init(self, model):
        return {**self.server.init(model), "halved": 0}

    def step(self, model, state, mean, at):
        model, inner = self.server.step(model, state, mean, at)
        return model, {**inner, "halved": state["halved"] + 1}

    def share(self, state):
        return {**self.server.share(state), "halved": state["halved"]}


@every_rule
def test_a_plain_mapping_around_our_rules(rule, kind):
    theirs, (model, alone) = Halving(rule), (MODEL, rule.init(MODEL))
    wrapped, state = MODEL, theirs.init(MODEL)
    for _ in range(3):
        model, alone = rule.step(model, alone, MEAN, AT)
        wrapped, state = theirs.step(wrapped, state, MEAN, AT)
    assert wrapped.tobytes() == model.tobytes() and type(state) is dict
    assert state.keys() == {*alone, "halved"} and state["halved"] == 3
    assert theirs.share(state).keys() == {*rule.share(alone), "halved"}


class Counting:
    """A plug-in with a plain mapping, to which every round adds a name."""

    def init(self, model):
        return {"n": 0}

    def step(self, model, state, mean, at):
        return model + state["n"], {**state, "n": state["n"] + 1, f"was.{state['n']}": model}

    def share(self, state):
        return {"n": state["n"]}


def test_our_rules_around_a_plain_mapping():
    rule = AdaptiveMu(Counting(), mu=0.5)
    model, state = MODEL, rule.init(MODEL)
    for saved in (state, None, None):
        model, state = rule.step(model, state if saved is None else dict(saved), MEAN, AT)
    np.testing.assert_array_equal(model, MODEL + 1 + 2)
    assert tuple(state) == ("n", "was.0", "was.1", "was.2", *MU)
    assert rule.share(dict(state)) == {"n": 3, "mu": 0.5}
    assert state.loss == inf


def test_the_flower_strategy_gives_its_state_as_a_plain_mapping():
    algorithm = Algorithm("x", proximal_as_told(), WeightedMean(), AdaptiveMu(average()))
    strategy = Federated(algorithm)
    strategy.state = algorithm.server.init(MODEL)
    assert type(strategy.state) is dict and tuple(strategy.state) == MU
