"""IFCA against its algorithm written out: quadratics with two kinds of clients."""

from typing import Any

import numpy as np
import pytest

from strategies import Algorithm, Spec, WeightedMean, average, catalog
from strategies.clustered import ClusteredMean, Clusters, best_of, names_of
from strategies.protocols import Round
from strategies.updates import Update

SPEC = Spec(("w", "b", "moving"), ((2, 2), (1,), (2,)), 2)
MODEL = np.array([1.0, -2.0, 0.5, 3.0, 0.25, 7.0, 9.0], np.float32)
OPTIMA = np.array([[1.0, 1.0, 1.0, 1.0, 1.0], [-1.0, -1.0, -1.0, -1.0, -1.0]])
EXAMPLES = [10, 20, 30, 40]


def test_rounds_are_those_of_the_algorithm() -> None:
    """Clients i of kind i mod 2 take a half step towards their kind's optimum."""
    algorithm, lr = catalog.build("ifca", clusters=3, learning_rate=0.8), 0.8
    state, model = algorithm.init(SPEC, MODEL), MODEL
    plain = [MODEL[:5].astype(float), *(state[name].copy() for name in names_of(3))]
    for number in range(1, 6):
        shared = algorithm.share(state, number)
        models = [model[:5].astype(float), *(shared[name] for name in names_of(3))]
        total, sums, heads = None, {k: (np.zeros(5), 0) for k in range(3)}, []
        for client, n in enumerate(EXAMPLES):
            target = OPTIMA[client % 2]
            best = int(np.argmin([np.sum((m - target) ** 2) for m in models]))
            head = (target - models[best]) / 2
            delta = np.concatenate([head, [client, 1.0]])
            told = {"cluster": float(best)}
            update = Update(client, n, delta, metrics=told, trainable=5)
            total = algorithm.reducer.fold(total, update)
            one, weight = sums[best]
            sums[best] = one + n * head, weight + n
            heads.append((best, n, head))
        mean = algorithm.reducer.finish(total)
        assert mean.clients == 4 and mean.weight == 100
        apart = [n * np.sum((head - sums[k][0] / sums[k][1]) ** 2) for k, n, head in heads]
        assert mean.metrics["drift"] == pytest.approx(np.sqrt(sum(apart) / 100), abs=1e-6)
        before = model
        model, state = algorithm.step(SPEC, model, state, mean, Round(number, 4))
        for k, (one, weight) in sums.items():
            plain[k] = plain[k] + (lr * one / weight if weight else 0.0)
        np.testing.assert_allclose(model[:5], plain[0], atol=1e-6)
        for k, name in enumerate(names_of(3), 1):
            np.testing.assert_allclose(state[name], plain[k], atol=1e-6)
        moving = np.average(np.arange(4), weights=EXAMPLES)
        np.testing.assert_allclose(model[5:] - before[5:], [moving, 1.0], rtol=1e-5)


def test_further_models_begin_with_signs_of_their_own() -> None:
    spec, model = Spec(("w", "b"), ((8, 8), (1,)), 2), np.arange(1.0, 66.0, dtype=np.float32)
    state: Any = catalog.build("ifca", clusters=3).init(spec, model)
    two, three = state["model2"], state["model3"]
    for one in (two, three):
        np.testing.assert_array_equal(np.abs(one), model)
        assert one[-1] == 65.0
        assert 16 < (one < 0).sum() < 48
    assert (two != three).sum() > 16


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: catalog.build("ifca", clusters=1), "clusters must be >= 2, got 1"),
        (
            lambda: Algorithm("x", best_of(2), ClusteredMean(2), Clusters(3)),
            "parts of 'x' must fit together: IFCA's server rule needs clients that choose among 3 "
            "models",
        ),
        (
            lambda: Algorithm("x", best_of(2), WeightedMean(), Clusters(2)),
            "parts of 'x' must fit together: IFCA's server rule needs a mean of each of 2 models",
        ),
        (
            lambda: Algorithm("x", best_of(2), ClusteredMean(2), average()),
            "client rule of 'x' must be used with a server rule that shares model2: best of "
            "several does not work with Average(learning_rate=1.0)",
        ),
    ],
    ids=["one", "three", "mean", "server"],
)
def test_what_does_not_fit_is_refused(make: Any, line: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == line
