"""Client rules against their formulas."""

import numpy as np
import pytest

from strategies import plain, proximal

RNG = np.random.default_rng(1)
G, W, W0 = RNG.normal(size=(3, 5))


def test_plain_changes_nothing():
    rule = plain()
    assert rule.hook is None and rule.after is None
    assert rule.share(1) == {}


def test_proximal_over_three_rounds_of_local_steps():
    mu, lr = 0.3, 0.1
    rule = proximal(mu)
    w = expected = W0
    for _ in range(3):
        w = w - lr * rule.hook(G, w, W0, rule.share(1), {})
        expected = expected - lr * (G + mu * (expected - W0))
    np.testing.assert_allclose(w, expected, rtol=1e-10)


def test_proximal_is_the_gradient_of_the_proximal_term():
    mu, step = 0.7, 1e-6
    penalty = [mu / 2 * np.sum((W + s * np.eye(5) - W0) ** 2, axis=1) for s in (step, -step)]
    hook = proximal(mu).hook(np.zeros(5), W, W0, {"mu": mu}, {})
    np.testing.assert_allclose(hook, (penalty[0] - penalty[1]) / (2 * step), rtol=1e-8)


def test_proximal_takes_a_schedule():
    rule = proximal(lambda round: 1 / round)
    assert [rule.share(round) for round in (1, 2, 4)] == [{"mu": 1.0}, {"mu": 0.5}, {"mu": 0.25}]


@pytest.mark.parametrize(
    ("mu", "text"),
    [
        (-1.0, "mu must be >= 0, got -1.0"),
        ("big", "mu must be a number >= 0, got 'big'"),
        (None, "mu must be a number >= 0, got None"),
        (float("inf"), "mu must be >= 0, got inf"),
    ],
)
def test_bad_mu(mu, text):
    with pytest.raises(ValueError) as caught:
        proximal(mu)
    assert str(caught.value) == text
