"""Objectives, by the formulas of their papers: for both backends.

A client takes one step of plain SGD on all that it has, so its delta tells the gradient of its loss
and term; that is compared with central differences of both in NumPy's float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from simulation.config.experiment import parse
from simulation.datasets.dataset import Dataset
from simulation.training.backend import backend
from simulation.training.plan import Asked, Examples
from strategies.client_rule import ClientRule
from strategies.distilling import calibrating, contrasting, decorrelating, distilling
from strategies.objective import LAST
from tests.simulation.training.optimizer_cases import Floats

HERE = "tests.simulation.training.objective_cases"
RATE, INPUTS, UNITS, CLASSES = 0.5, 3, 4, 3
CLIENTS = {4: slice(0, 9), 5: slice(9, 14)}


def network(shape: Any, classes: int) -> Any:
    """Two layers, the first of them with features that are not linear."""
    import keras

    layers = [keras.layers.Dense(UNITS, activation="tanh"), keras.layers.Dense(classes)]
    return keras.Sequential([keras.Input(shape), *layers])


def likely(shape: Any, classes: int) -> Any:
    """As :func:`network`, with classes' probabilities in the place of logits."""
    import keras

    return keras.Sequential([*network(shape, classes).layers, keras.layers.Softmax()])


def outputs(flat: Floats, x: Floats) -> tuple[Floats, Floats]:
    """Logits and features."""
    cut = np.cumsum([INPUTS * UNITS, UNITS, UNITS * CLASSES])
    w, b, v, c = np.split(flat, cut)
    z = np.tanh(x @ w.reshape(INPUTS, UNITS) + b)
    return z @ v.reshape(UNITS, CLASSES) + c, z


def softmax(scores: Floats) -> Floats:
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def moon(now: Any, then: Any, last: Any, y: Any) -> float:
    def sim(a: Floats, b: Floats) -> Floats:
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        return np.asarray((a * b).sum(1) / lengths)

    near, far = np.exp(sim(now[1], then[1]) / 0.5), np.exp(sim(now[1], last[1]) / 0.5)
    return float(2.0 * -np.log(near / (near + far)).mean())


def fedntd(now: Any, then: Any, last: Any, y: Any) -> float:
    found = []
    for own, theirs, label in zip(now[0], then[0], y, strict=True):
        p, q = (softmax(np.delete(scores, label) / 1.5) for scores in (own, theirs))
        found.append((q * np.log(q / p)).sum())
    return float(0.7 * 1.5**2 * np.mean(found))


def feddecorr(now: Any, then: Any, last: Any, y: Any) -> float:
    z = now[1]
    k = np.cov(z.T, bias=True) / np.outer(z.std(0), z.std(0))
    return float(0.3 * (k**2).sum() / UNITS**2)


def fedlc(now: Any, then: Any, last: Any, y: Any) -> float:
    """The loss in the place of the cross-entropy, which is taken away."""
    f, own = now[0], np.arange(len(y))
    n = np.maximum(np.bincount(y, minlength=CLASSES), 1e-8)
    margin = 0.8 * n**-0.25
    whole = np.exp(f[own, y] - margin[y]) / np.exp(f - margin).sum(1)
    return float(-np.log(whole).mean() + np.log(softmax(f)[own, y]).mean())


Formula = Callable[[Any, Any, Any, Any], float]

CASES: dict[str, tuple[ClientRule, Formula]] = {
    "moon": (contrasting(2.0, 0.5), moon),
    "fedntd": (distilling(0.7, 1.5), fedntd),
    "fedlc": (calibrating(0.8), fedlc),
    "feddecorr": (decorrelating(0.3), feddecorr),
}


def data() -> Dataset:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(14, INPUTS)).astype(np.float32)
    y = rng.integers(0, CLASSES, 14)
    return Dataset("made", x, y, x, y, CLASSES, 1.0, "made")


def check(library: str, name: str, model: str = "network") -> None:
    """Compare two clients' deltas with the formula, in a first round and with a last model."""
    made, given, (rule, formula) = backend(library), data(), CASES[name]
    made.prepare(1, 0.0)
    resources: dict[str, Any] = {"engine": "inline", "backend": library}
    if library == "jax":
        resources["lanes"] = 2
    wanted = parse({
        "model": f"{HERE}:{model}", "resources": resources,
        "training": {"learning_rate": RATE, "batch_size": 16},
    })  # fmt: skip
    trainer: Any = made.trainer(wanted, rule, given, False)
    sizes = [s.stop - s.start for s in CLIENTS.values()]
    start = trainer.info.initial + np.float32(0.1)
    # The received model is not the one under way: the second step sees another gradient.
    asked = Asked(epochs=2, shared=rule.share(1))
    before: list[Any] = [None, None]
    for _ in range(2 if LAST in rule.own else 1):
        examples = Examples(given.x_train, given.y_train)
        job = trainer.plan.job(list(CLIENTS), sizes, 1, examples, asked, before)
        done = trainer.train(trainer.place(start), job)
        for (client, rows), one, own in zip(CLIENTS.items(), done, before, strict=True):
            assert one.update.client == client
            x, y = given.x_train[rows].astype(np.float64), given.y_train[rows]
            received = start.astype(np.float64)
            last = received if own is None else own[LAST].astype(np.float64)
            flat = received.copy()
            for _ in range(2):
                flat = flat - RATE * gradient(formula, flat, received, last, x, y)
            delta = np.asarray(one.update.delta)
            np.testing.assert_allclose(delta, flat - received, atol=1e-6)
            plain = received.copy()
            for _ in range(2):
                plain = plain - RATE * gradient(lambda *_: 0.0, plain, received, last, x, y)
            assert (np.abs(plain - flat).max() > 1e-3) == (own is not None or name != "moon")
            if LAST in rule.own:
                np.testing.assert_allclose(one.own[LAST], start + delta, atol=1e-6)
        before = [{LAST: start + np.float32(0.3 * (i + 1)) * np.sin(np.arange(start.size)).astype(
            np.float32)} for i in range(2)]  # fmt: skip


def gradient(
    formula: Formula, flat: Floats, received: Floats, last: Floats, x: Floats, y: Any
) -> Floats:
    """Of cross-entropy and term, by central differences."""
    then, before = outputs(received, x), outputs(last, x)

    def loss(at: Floats) -> float:
        now = outputs(at, x)
        entropy = -np.log(softmax(now[0])[np.arange(len(y)), y]).mean()
        return float(entropy + formula(now, then, before, y))

    step = 1e-5
    found = np.zeros_like(flat)
    for i in range(flat.size):
        move = np.zeros_like(flat)
        move[i] = step
        found[i] = (loss(flat + move) - loss(flat - move)) / (2 * step)
    return found
