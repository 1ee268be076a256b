"""Metrics by name, by their plain definitions, and what a backend makes of the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from simulation.config.experiment import Experiment, parse
from simulation.datasets.dataset import Dataset
from simulation.training.backend import backend
from strategies.client_rule import ClientRule
from tests.simulation.training.optimizer_cases import Floats

ROWS, BATCH = 90, 16
WORDS = 6
SEGMENTS = [40, 0, 17, 33]
HERE = "tests.simulation.training.metric_cases"


def scores(kind: str, shape: Any, units: int) -> Any:
    """A model of one layer: softmax, sigmoid, logits or numbers."""
    import keras

    activation = {"logits": None, "numbers": None}.get(kind, kind)
    layers = [keras.Input(shape), keras.layers.Dense(units, activation=activation)]
    return keras.Sequential(layers)


def softmax(shape: Any, classes: int) -> Any:
    return scores("softmax", shape, classes)


def logits(shape: Any, classes: int) -> Any:
    return scores("logits", shape, classes)


def one_sigmoid(shape: Any, classes: int) -> Any:
    return scores("sigmoid", shape, 1)


def labels(shape: Any, classes: int) -> Any:
    return scores("sigmoid", shape, 3)


def numbers(shape: Any) -> Any:
    return scores("numbers", shape, 2)


def words(shape: Any, classes: int) -> Any:
    """A class for each word, where words are padded with 0."""
    import keras

    layers = [keras.layers.Embedding(WORDS, 3, mask_zero=True), keras.layers.Dense(classes)]
    return keras.Sequential([keras.Input(shape), *layers])


def compiled(shape: Any, classes: int) -> Any:
    import keras

    model = scores("softmax", shape, classes)
    top = keras.metrics.SparseTopKCategoricalAccuracy(2, name="own")
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy", top])
    return model


CLASSES = (
    "f1",
    "precision",
    "recall",
    "balanced-accuracy",
    "auc",
    "per-class",
    "confusion",
    "top2",
)

CASES: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "softmax": ("softmax", 4, CLASSES),
    "logits": ("logits", 4, CLASSES),
    "two": ("logits", 2, CLASSES[:-1]),
    "one sigmoid": ("one_sigmoid", 2, ("f1", "precision", "recall", "auc", "confusion")),
    "labels": ("labels", "labels", ("f1", "precision", "recall", "auc", "per-class")),
    "numbers": ("numbers", None, ("mae", "mse", "rmse", "r2")),
    "words": ("words", 4, CLASSES),
    "compiled": ("compiled", 4, ("f1", "top3")),
}
"""By name: the model, the number of classes, what is asked for."""


def data(name: str) -> Dataset:
    rng, classes = np.random.default_rng(9), CASES[name][1]
    x = rng.normal(size=(ROWS, 3)).astype(np.float32)
    if classes is None:
        y = (1000 + x[:, :2] + rng.normal(size=(ROWS, 2))).astype(np.float32)
    elif classes == "labels":
        y, classes = (x + rng.normal(size=(ROWS, 3)) > 0.5).astype(np.int64), 2
    else:
        size = (ROWS, 5) if name == "words" else (ROWS,)
        y = rng.integers(0, classes, size) * (rng.random(size) > 0.3)
    if name == "words":
        x = rng.integers(0, WORDS, (ROWS, 5))
    return Dataset("made", x, y, x, y, classes, 1.0, "made")


def experiment(library: str, name: str) -> Experiment:
    model, _, asked = CASES[name]
    resources: dict[str, Any] = {"engine": "inline", "backend": library}
    if library == "jax":
        resources["lanes"] = 2
    return parse(
        {"model": f"{HERE}:{model}", "evaluation": {"metrics": asked}, "resources": resources}
    )


def outputs(name: str, weights: Floats, x: Any) -> Floats:
    """What the model gives: scores from 0 to 1, or numbers."""
    if name == "words":
        x, weights = weights[: WORDS * 3].reshape(WORDS, 3)[x], weights[WORDS * 3 :]
    units = len(weights) // 4
    raw = x @ weights[: 3 * units].reshape(3, units) + weights[3 * units :]
    if name == "numbers":
        return raw
    if name in ("one sigmoid", "labels"):
        return 1 / (1 + np.exp(-raw))
    e = np.exp(raw - raw.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def auc(truth: Any, score: Floats) -> float:
    """P(s+ > s-) + P(s+ = s-) / 2, of scores in bins."""
    bins = np.minimum(np.floor(score.astype(np.float32) * 256), 255)
    pairs = bins[truth][:, None] - bins[~truth][None]
    return float((np.mean(pairs > 0) + np.mean(pairs == 0) / 2) if pairs.size else np.nan)


def expected(name: str, y: Any, p: Floats) -> dict[str, float]:
    """Every metric of some examples, by its definition."""
    if name == "numbers":
        error = p - y
        spread = ((y - y.mean(0)) ** 2).mean(0)
        mse = (error**2).mean()
        return {
            "mae": np.abs(error).mean(), "mse": mse, "rmse": np.sqrt(mse),
            "r2": (1 - (error**2).mean(0) / spread).mean(),
        }  # fmt: skip
    k = p.shape[1]
    if name == "labels":
        truth, chosen = y.astype(bool), p > 0.5
    elif k == 1:
        truth, chosen = (y == 1)[:, None], p > 0.5
    else:
        truth, chosen = np.arange(k) == y[:, None], np.arange(k) == p.argmax(1)[:, None]
    recall, precision, f1, area = [], [], [], []
    for t, c, s in zip(truth.T, chosen.T, p.T, strict=True):
        both = (t & c).sum()
        recall.append(both / t.sum() if t.any() else np.nan)
        precision.append((both / c.sum() if c.any() else 0.0) if t.any() else np.nan)
        f1.append(2 * both / (t.sum() + c.sum()) if t.any() else np.nan)
        area.append(auc(t, s))
    last = k == 1 or (k == 2 and name != "labels")
    found = {
        key: float(values[-1] if last else np.nanmean(values))
        for key, values in
        {"recall": recall, "precision": precision, "f1": f1, "auc": area}.items()
    }  # fmt: skip
    found["balanced_accuracy"] = float(np.nanmean(recall))
    found |= {f"per_class_{i}": r for i, r in enumerate(recall)}
    if name != "labels":
        guess = chosen[:, 0].astype(int) if k == 1 else p.argmax(1)
        pairs = [(i, j) for i in range(max(2, k)) for j in range(max(2, k))]
        found |= {f"confusion_{i}_{j}": ((y == i) & (guess == j)).sum() for i, j in pairs}
    if k > 2 and name != "labels":
        ranks = (p > p[np.arange(len(y)), y][:, None]).sum(1)
        found |= {"top2": (ranks < 2).mean(), "top3": (ranks < 3).mean()}
        found["own"] = found["top2"]
    return found


def check(library: str, name: str) -> None:
    """Compare a backend's values of segments, and of all of them added up, with the definitions."""
    made = backend(library)
    made.prepare(1, 0.0)
    given = data(name)
    trainer: Any = made.trainer(experiment(library, name), ClientRule(), given, False)
    weights = np.random.default_rng(1).normal(size=trainer.spec.size).astype(np.float32)
    if name == "numbers":
        weights[-2:] += 1000
    rows = np.arange(ROWS)
    found = trainer.evaluate(weights, given.x_test, given.y_test, rows, SEGMENTS, BATCH)
    p = outputs(name, weights.astype(np.float64), np.asarray(given.x_test))
    metrics = trainer.metrics
    parts = np.split(rows, np.cumsum(SEGMENTS)[:-1])
    sums = found.states.sum(axis=0, dtype=np.float64)
    for states, at in [*zip(found.states, parts, strict=True), (sums, rows)]:
        values = dict(zip(metrics.names, metrics.results(states[None])[0], strict=True))
        if not len(at):
            assert all(np.isnan(v) or v == 0 for v in values.values())
            continue
        counts = given.x_test[at] != 0 if name == "words" else ...
        wanted = expected(name, given.y_test[at][counts], p[at][counts])
        assert set(values) <= set(wanted)
        for key, value in values.items():
            np.testing.assert_allclose(value, wanted[key], rtol=2e-4, atol=1e-6, err_msg=key)
    assert len(metrics.names) >= len(CASES[name][2])
