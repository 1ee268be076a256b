"""DnC, FoolsGold and SignGuard against their papers' algorithms, written out with NumPy."""

import numpy as np
import pytest

from strategies import DivideAndConquer, FoolsGold, SignGuard, Update
from strategies.filters import COORDINATES
from strategies.geometry import largest_cluster
from strategies.protocols import Round
from strategies.random_streams import stream
from strategies.reducing import during
from tests.strategies.test_robust import DELTAS, reduced

RNG = np.random.default_rng(31)
AT = Round(3, 20, seed=5)


@pytest.mark.parametrize(("coordinates", "iterations", "filter"), [(3, 1, 1.0), (9, 2, 1.5)])
def test_dnc_leaves_out_who_stands_out_along_the_first_singular_vector(
    coordinates, iterations, filter
):
    f, rng, good = 2, stream(5, COORDINATES, 3), set(range(11))
    for _ in range(iterations):
        at = rng.choice(5, coordinates, replace=False) if coordinates < 5 else np.arange(5)
        some = DELTAS[:, at] - DELTAS[:, at].mean(axis=0)
        values, vectors = np.linalg.eigh(some.T @ some)
        scores = (some @ vectors[:, np.argmax(values)]) ** 2
        good &= set(np.argsort(scores)[: 11 - int(filter * f)].tolist())
    reducer = DivideAndConquer(f, iterations, coordinates, filter)
    found = reduced(during(reducer, AT, {}), extras=2 * DELTAS)
    np.testing.assert_allclose(found.delta, DELTAS[sorted(good)].mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(found.extras["c"], 2 * found.delta, rtol=1e-10)


def foolsgold(rows, kappa):
    """Fung et al., Algorithm 1, lines 5 to 26, in plain loops."""
    n = len(rows)
    cs = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j:
                cs[i, j] = rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j])
    most = [max(0.0, *(cs[i, j] for j in range(n) if j != i)) for i in range(n)]
    a = []
    for i in range(n):
        for j in range(n):
            if i != j and most[j] > most[i]:
                cs[i, j] *= most[i] / most[j]
        a.append(1 - max(cs[i, j] for j in range(n) if j != i))
    a = np.clip(a, 0, 1)
    a = np.minimum(a / max(a), 0.99)
    return np.clip([kappa * (np.log(v / (1 - v)) + 0.5) if v else 0.0 for v in a], 0, 1)


def test_foolsgold_trusts_who_is_unlike_all_others():
    rows = [np.array(row) for row in ((-0.6, -0.8), (1.0, 0.0), (0.01, 1.0))]
    assert FoolsGold().weights(rows) == [1.0, 1.0, 1.0] == foolsgold(rows, 1.0).tolist()


def test_signguard_of_few_clients_averages_them():
    rows = np.array([[1.0, 2.0, -1.0], [1.1, 2.1, -1.0], [0.9, 2.0, -1.1]])
    norms = np.linalg.norm(rows, axis=1)
    clipped = rows * np.minimum(1.0, np.median(norms) / norms)[:, None]
    found = reduced(SignGuard(share=1.0), rows).delta
    np.testing.assert_allclose(found, clipped.mean(axis=0), rtol=1e-12)
    two = np.array([[0.0, 0.0], [2.0, 0.0]])  # Both norms are far from their median, 1.
    found = reduced(SignGuard(upper=1.5, share=1.0), two).delta
    np.testing.assert_allclose(found, [0.5, 0.0])  # the mean of 0 and of 2 clipped to 1


@pytest.mark.parametrize("kappa", [0.5, 1.0])
def test_foolsgold_is_algorithm_1(kappa):
    rows = RNG.normal(size=40) + np.linspace(0.9, 1.6, 11)[:, None] * RNG.normal(size=(11, 40))
    rows[1] = 3 * rows[0]
    a = foolsgold(rows, kappa)
    assert a.max() > 0 and a.min() == 0 and len(set(a.round(6))) > 3
    found = reduced(FoolsGold(kappa), rows)
    np.testing.assert_allclose(found.delta, a @ rows / a.sum(), rtol=1e-9)


def test_foolsgold_silences_sybils_and_keeps_those_who_differ():
    sybil = RNG.normal(size=200)
    deltas = np.concatenate([np.repeat([sybil], 5, axis=0), RNG.normal(size=(5, 200))])
    found = reduced(FoolsGold(), deltas, [1] * 10).delta
    np.testing.assert_allclose(found, deltas[5:].mean(axis=0), atol=0.05)
    same = reduced(FoolsGold(), np.repeat([sybil], 5, axis=0), [1] * 5).delta
    np.testing.assert_allclose(same, sybil, rtol=1e-12)


def test_signguard_drops_far_norms_and_odd_signs_and_clips_the_others():
    base = np.abs(RNG.normal(size=400)) * np.where(np.arange(400) < 280, 1.0, -1.0)
    deltas = base + 0.01 * RNG.normal(size=(20, 400))
    deltas *= np.linspace(0.8, 1.2, 20)[:, None]
    deltas[0] *= 50  # a norm beyond 3 medians
    deltas[1] *= 0.01  # one below a tenth
    deltas[2:5] *= -1  # signs turned
    norms = np.linalg.norm(deltas, axis=1)
    expected = np.mean([deltas[i] * min(1, np.median(norms) / norms[i]) for i in range(5, 20)], 0)
    for share in (0.3, 1.0):
        found = reduced(during(SignGuard(share=share), AT, {}), deltas, [1] * 20).delta
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_signguard_of_nothing_but_zeros_is_zero():
    assert not reduced(SignGuard(), np.zeros((4, 10)), [1] * 4).delta.any()


def test_the_largest_cluster_is_the_fullest_group_of_points():
    points = np.concatenate(
        [RNG.normal(0, 0.01, (6, 3)), RNG.normal(1, 0.01, (11, 3)), RNG.normal(-2, 0.01, (3, 3))]
    )
    assert largest_cluster(points).tolist() == [False] * 6 + [True] * 11 + [False] * 3
    assert largest_cluster(points[:1]).tolist() == [True]
    twice = np.array([[0.0], [0.0], [0.0], [5.0]])
    assert largest_cluster(twice).tolist() == [True, True, True, False]


FILTERS = [DivideAndConquer(0.2), SignGuard()]


@pytest.mark.parametrize("reducer", FILTERS)
@pytest.mark.parametrize("attack", ["sign flip", "far away"])
def test_a_fifth_of_attackers_does_not_move_them(reducer, attack):
    deltas = 1 + 0.1 * RNG.normal(size=(20, 300))
    far = -10 * deltas[:4] if attack == "sign flip" else 1e6 * RNG.normal(size=(4, 300))
    deltas[:4] = far
    found = reduced(during(reducer, AT, {}), deltas, [1] * 20).delta
    np.testing.assert_allclose(found, deltas[4:].mean(axis=0), atol=0.05)


@pytest.mark.parametrize("reducer", [*FILTERS, FoolsGold()])
def test_the_order_of_the_clients_changes_no_bit(reducer):
    deltas = RNG.normal(size=(12, 40)).astype(np.float32)
    found = set()
    for seed in range(4):
        partial = None
        for i in np.random.default_rng(seed).permutation(12):
            partial = reducer.fold(partial, Update(int(i), 1, deltas[i]))
        found.add(during(reducer, AT, {}).finish(partial).delta.tobytes())
    assert len(found) == 1


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: DivideAndConquer(0.7),
            "byzantine must be a whole number >= 1 or a share in [0, 0.5), got 0.7",
        ),
        (lambda: DivideAndConquer(filter=0.0), "filter must be > 0, got 0.0"),
        (lambda: DivideAndConquer(coordinates=0), "coordinates must be >= 1, got 0"),
        (
            lambda: reduced(DivideAndConquer(0.4, iterations=3)),
            "DnC must have a cohort of more than iterations * filter * byzantine = 12 clients, "
            "got 11",
        ),
        (lambda: FoolsGold(0.0), "confidence must be > 0, got 0.0"),
        (lambda: SignGuard(lower=1.5), "lower must be in [0, 1], got 1.5"),
        (lambda: SignGuard(upper=0.5), "upper must be >= 1, got 0.5"),
        (lambda: SignGuard(share=0.0), "share must be in (0, 1], got 0.0"),
    ],
)
def test_bad_options_and_cohorts(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text
