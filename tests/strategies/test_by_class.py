"""Means by class against NumPy: the server rule, what clients add to their loss, refusals."""

import numpy as np
import pytest

from strategies import Round, Spec, WeightedMean, average, catalog, plain
from strategies.algorithm import Algorithm
from strategies.by_class import ClassMeans, prototypes, to_logits, to_prototypes
from strategies.client_rule import ClientRule
from strategies.objective import KNOWN, MEANS, Objective, Outputs, Seen
from strategies.reducing import fold_all
from strategies.updates import Update

CLASSES, NUMBERS, SIZE = 3, 2, 4
SPEC = Spec(("w",), ((SIZE,),), 1, (CLASSES, NUMBERS))
AT = Round(1, population=5, seed=0)


def update(client, known, seed):
    means = np.random.default_rng(seed).normal(size=(CLASSES, NUMBERS)) * np.array(known)[:, None]
    extras = {MEANS: means.ravel(), KNOWN: np.array(known, float)}
    return Update(client, 1 + client, np.zeros(SIZE), 1, extras)


@pytest.mark.parametrize("laid_out", [True, False])
@pytest.mark.parametrize("name", ["fedproto", "feddistill"])
def test_the_server_keeps_the_mean_of_those_who_have_a_class(name, laid_out):
    algorithm = catalog.build(name)
    model = np.ones(SIZE, np.float32)
    state = algorithm.init(SPEC if laid_out else Spec(("w",), ((SIZE,),), 1), model)
    if laid_out:
        assert algorithm.share(state, 1)[MEANS].shape == (CLASSES * NUMBERS,)
        assert not algorithm.share(state, 1)[KNOWN].any()
    expected = np.zeros((CLASSES, NUMBERS))
    # In the second round nobody has class 0, of which more was known; class 2 comes in the third.
    cohorts = [
        [update(0, (1, 1, 0), 1), update(1, (1, 0, 0), 2)],
        [update(2, (0, 1, 0), 3), update(3, (0, 1, 0), 4)],
        [update(0, (0, 0, 1), 5)],
    ]
    for cohort in cohorts:
        for k in range(CLASSES):
            own = [u.extras[MEANS].reshape(CLASSES, -1)[k] for u in cohort if u.extras[KNOWN][k]]
            expected[k] = np.mean(own, axis=0) if own else expected[k]
        mean = algorithm.reducer.finish(fold_all(algorithm.reducer, None, cohort))
        model, state = algorithm.step(SPEC, model, state, mean, AT)
        shared = algorithm.share(state, 2)
        np.testing.assert_allclose(shared[MEANS], expected.ravel(), rtol=1e-12)
    np.testing.assert_array_equal(shared[KNOWN], np.ones(CLASSES))
    np.testing.assert_array_equal(model, np.ones(SIZE))  # Models stay on the clients.


class Arrays:
    """NumPy by the names of keras.ops."""

    square, matmul, sum, mean, exp, maximum = (
        np.square, np.matmul, np.sum, np.mean, np.exp, np.maximum,
    )  # fmt: skip

    @staticmethod
    def log_softmax(x):
        return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_terms_are_those_of_the_papers():
    rng = np.random.default_rng(3)
    y, counts = np.array([0, 2, 1, 0, 2]), np.array([1.0, 1, 1, 1, 0])  # The last fills up.
    z, logits = rng.normal(size=(5, NUMBERS)), rng.normal(size=(5, CLASSES))
    known = np.array([1.0, 0, 1])
    own, rows = Outputs(logits, z), [0, 1, 3]
    c, g = rng.normal(size=(CLASSES, NUMBERS)), rng.normal(size=(CLASSES, CLASSES))
    far = sum(np.mean((z[i] - c[y[i]]) ** 2) for i in rows) / 4
    seen = Seen(np.eye(CLASSES)[y], counts, own, means=c, known=known)
    assert to_prototypes(Arrays, seen, {"mu": 0.5}) == pytest.approx(0.5 * far)

    def p(f):
        return np.exp(f) / np.exp(f).sum()

    kl = sum(np.sum(p(g[y[i]]) * np.log(p(g[y[i]]) / p(logits[i]))) for i in rows) / 4
    seen = Seen(np.eye(CLASSES)[y], counts, own, means=g, known=known)
    assert to_logits(Arrays, seen, {"gamma": 0.5}) == pytest.approx(0.5 * kl)


def test_uploads_are_counted():
    rule = catalog.build("fedproto").client
    assert rule.sent(SPEC) == CLASSES * NUMBERS + CLASSES
    assert catalog.build("scaffold").client.sent(SPEC) == SIZE


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: catalog.build("fedproto", mu=-1), "mu must be >= 0, got -1"),
        (lambda: catalog.build("feddistill", gamma=-1), "gamma must be >= 0, got -1"),
        (
            lambda: Algorithm("x", plain(), WeightedMean("uniform"), ClassMeans()),
            "parts of 'x' must fit together: a mean by class needs clients who tell theirs, got "
            "'plain'",
        ),
        (
            lambda: Algorithm("x", prototypes(1.0), WeightedMean(), ClassMeans()),
            "parts of 'x' must fit together: in a mean by class clients weigh alike, which only "
            "WeightedMean('uniform') has them do, got WeightedMean(by=None)",
        ),
        (
            lambda: Algorithm("x", prototypes(1.0), WeightedMean("uniform"), average()),
            "client rule of 'x' must be used with a server rule that shares known, means: "
            "prototypes does not work with Average(learning_rate=1.0)",
        ),
        (
            lambda: ClientRule("x", objective=Objective(to_logits, means="logits")),
            "means of classes of client rule 'x' must be among its uploads and uses, got uploads "
            "() and uses ()",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, line):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == line
