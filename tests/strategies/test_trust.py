"""FLTrust against its paper's Algorithm 2, written out with NumPy."""

from dataclasses import replace

import numpy as np
import pytest

from strategies import Cohort, Federated, TrustedMean, Update, average, catalog, plain
from strategies.algorithm import Algorithm
from strategies.client_rule import ClientRule
from strategies.drift import dynamic
from strategies.protocols import Round
from strategies.trust import SERVER_UPDATE

RNG = np.random.default_rng(5)
CUT = 6
SERVER = RNG.normal(size=8)
DELTAS = RNG.normal(size=(5, 8)) + 0.4 * SERVER


def reduced(deltas, server=SERVER, order=None):
    reducer, partial = TrustedMean().during(Round(1, 9), {SERVER_UPDATE: server}), None
    for i in range(len(deltas)) if order is None else order:
        partial = reducer.fold(partial, Update(i, i + 1, deltas[i], trainable=CUT))
    return reducer.finish(partial)


def fltrust(deltas, server):
    """Return the mean as the paper has it, and the trust scores."""
    g0, trust, total = server[:CUT], [], np.zeros(CUT)
    for delta in deltas:
        g = delta[:CUT]
        trust.append(max(0.0, g @ g0 / (np.linalg.norm(g) * np.linalg.norm(g0))))
        total += trust[-1] * np.linalg.norm(g0) / np.linalg.norm(g) * g
    return total / sum(trust), np.array(trust)


def test_fltrust_is_algorithm_2_whatever_the_order():
    expected, trust = fltrust(DELTAS, SERVER)
    found = reduced(DELTAS)
    np.testing.assert_allclose(found.delta[:CUT], expected, rtol=1e-10)
    # Moving statistics are not scaled: they are no direction.
    np.testing.assert_allclose(found.delta[CUT:], trust @ DELTAS[:, CUT:] / trust.sum(), rtol=1e-10)
    other = reduced(DELTAS, order=[3, 0, 4, 2, 1])
    assert other.delta.tobytes() == found.delta.tobytes()


def test_who_turns_against_the_server_or_shouts_moves_nothing_more():
    against = np.vstack([DELTAS, -3.0 * SERVER])
    np.testing.assert_allclose(reduced(against).delta, reduced(DELTAS).delta, rtol=1e-12)
    loud = DELTAS * np.array([1, 1, 1, 1, 1e4])[:, None]
    np.testing.assert_allclose(reduced(loud).delta[:CUT], reduced(DELTAS).delta[:CUT], rtol=1e-10)
    nobody = reduced(-np.repeat(SERVER[None], 3, axis=0))
    assert not nobody.delta.any() and nobody.clients == 3
    assert not reduced(np.zeros((2, 8))).delta.any()


def test_a_server_that_cannot_train_is_told(grid):
    strategy = Federated(catalog.build("fltrust"), Cohort())
    strategy._now = strategy.algorithm
    strategy._model = SERVER
    with pytest.raises(ValueError) as caught:
        strategy._on_server(1)
    assert str(caught.value) == (
        "server_update must be given with FLTrust, whose server trains on examples of its own, "
        "got none"
    )


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: TrustedMean().finish(TrustedMean().lift(Update(0, 1, SERVER))),
            "server update must be given to FLTrust, got none",
        ),
        (
            lambda: Algorithm("x", dynamic(), TrustedMean(), catalog.build("feddyn").server),
            "parts of 'x' must fit together: FLTrust compares updates with one that the server "
            "trains in the same way, which is not to be had with the client rule "
            "'dynamic regulariser'",
        ),
        (
            lambda: Algorithm("x", replace(ClientRule(), second=True), TrustedMean(), average()),
            "parts of 'x' must fit together: FLTrust compares updates with one that the server "
            "trains in the same way, which is not to be had with the client rule 'plain'",
        ),
    ],
    ids=["no update", "rule with a state", "second model"],
)
def test_what_does_not_fit(make, text):
    assert Algorithm("x", plain(), TrustedMean(), average()).reducer.trains_on_server
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text
