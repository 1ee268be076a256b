"""Parts combine freely where the mathematics allows; where not, the reason is given."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from strategies import (
    Algorithm,
    ClientRule,
    Constant,
    FairMean,
    GaussianNoise,
    Krum,
    Median,
    NormalizedMean,
    Round,
    Spec,
    Step,
    TrimmedMean,
    WeightedMean,
    adam,
    average,
    clipped,
    control_variate,
    dynamic,
    measuring_loss,
    momentum,
    one_step,
    plain,
    proximal,
    yogi,
)
from strategies.drift import Dynamic, Scaffold

SPEC = Spec(("w", "moving"), ((5,), (2,)), 1)

FREE = list(
    itertools.product(
        [plain(), proximal(0.1), proximal(Step(1.0, 2)), one_step(), measuring_loss()],
        [WeightedMean(), WeightedMean("uniform"), NormalizedMean(), Median(), TrimmedMean()],
        [average(), momentum(nesterov=True), adam(), yogi(Constant(0.1))],
    )
)


@pytest.mark.parametrize("clip", [False, True])
def test_every_free_combination_runs_two_rounds(clip, updates):
    seen = set()
    for client, reducer, server in FREE:
        behind = clipped(reducer, 1.0) if clip else reducer
        algorithm = Algorithm("mine", client, behind, server)
        x = np.zeros(7, np.float32)
        state = algorithm.init(SPEC, x)
        for number in (1, 2):
            partial = None
            for update in updates(algorithm, 7, 7, seed=number):
                partial = behind.fold(partial, replace(update, trainable=5))
            mean = behind.finish(partial)
            x, state = algorithm.step(SPEC, x, state, mean, Round(number, 10))
        assert x.dtype == np.float32 and np.all(np.isfinite(x)) and np.all(x[:5] != 0)
        seen.add(x.tobytes())
    # Client rules act in training, not here: the 5 reducers times 4 server rules all differ.
    assert len(seen) == 5 * 4


UNIFORM = WeightedMean("uniform")


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (
            (control_variate(), UNIFORM, average()),
            "client rule of 'x' must be used with a server rule that shares c: control variate "
            "does not work with Average(learning_rate=1.0)",
        ),
        (
            (dynamic(), UNIFORM, average()),
            "client rule of 'x' must be used with a server rule that shares alpha: dynamic "
            "regulariser does not work with Average(learning_rate=1.0)",
        ),
        (
            (plain(), UNIFORM, Scaffold()),
            "parts of 'x' must fit together: SCAFFOLD's server rule needs the client rule "
            "'control variate', got 'plain'",
        ),
        (
            (proximal(0.1), UNIFORM, Dynamic()),
            "parts of 'x' must fit together: FedDyn's server rule needs the client rule "
            "'dynamic regulariser', got 'proximal'",
        ),
        (
            (control_variate(), WeightedMean(), Scaffold()),
            "parts of 'x' must fit together: SCAFFOLD corrects the plain mean over clients, which "
            "only WeightedMean('uniform') gives, got WeightedMean(by=None)",
        ),
        (
            (dynamic(), Krum(), Dynamic()),
            "parts of 'x' must fit together: FedDyn corrects the plain mean over clients, which "
            "only WeightedMean('uniform') gives, got Krum(byzantine=0.2, select=1)",
        ),
        (
            (control_variate(), clipped(UNIFORM, 1.0), Scaffold()),
            "parts of 'x' must fit together: clipping bounds the delta but not the extras that "
            "the client rule 'control variate' uploads",
        ),
        (
            (plain(), FairMean(), average()),
            "parts of 'x' must fit together: q-FedAvg weighs clients by initial_loss, which this "
            "client rule does not measure",
        ),
        (
            (plain(), clipped(FairMean(), 1.0), average()),
            "parts of 'x' must fit together: q-FedAvg weighs clients by initial_loss, which this "
            "client rule does not measure",
        ),
        (
            (plain(), clipped(WeightedMean(), 1.0), average(), GaussianNoise(1.0)),
            "parts of 'x' must fit together: noise needs a bound on what one client can change, "
            "which only clipped(WeightedMean('uniform'), norm) gives, got "
            "Clipped(reducer=WeightedMean(by=None), norm=1.0)",
        ),
        (
            (plain(), UNIFORM, adam(), GaussianNoise(1.0)),
            "parts of 'x' must fit together: noise needs a bound on what one client can change, "
            "which only clipped(WeightedMean('uniform'), norm) gives, got "
            "WeightedMean(by='uniform')",
        ),
    ],
)
def test_senseless_combinations_are_refused_with_the_reason(parts, text):
    with pytest.raises(ValueError) as caught:
        Algorithm("x", *parts)
    assert str(caught.value) == text


def test_privacy_combines_with_proximal_clients_and_a_server_optimiser():
    parts = (proximal(0.1), clipped(UNIFORM, 1.0), adam(), GaussianNoise(1.0))
    assert Algorithm("x", *parts).noise == GaussianNoise(1.0)


def test_a_rule_of_ones_own_needs_no_declarations():
    rule = ClientRule("sign", hook=lambda g, w, w0, shared, own: g / abs(g))
    assert Algorithm("x", rule, Median(), momentum()).share({}, 1) == {}
