"""Means by class and what is learned from them, recomputed with NumPy: for both backends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.config.experiment import parse
from simulation.datasets.dataset import Dataset
from simulation.training.backend import backend
from simulation.training.plan import Asked, Examples
from strategies.by_class import matching, prototypes
from strategies.client_rule import ClientRule
from strategies.objective import KNOWN, MEANS

HERE = "tests.simulation.training.by_class_cases"
CLASSES, WIDTH, INPUTS, RATE = 3, 4, 5, 0.1
CLIENTS = {4: slice(0, 9), 5: slice(9, 12)}
Floats = NDArray[np.float64]

RULES = {"features": prototypes(0.7), "logits": matching(0.7)}


def net(shape: tuple[int, ...], classes: int) -> Any:
    """Return a net of two layers, whose features are what the second takes."""
    import keras

    layers = keras.layers
    parts = [keras.Input(shape), layers.Dense(WIDTH, activation="tanh"), layers.Dense(classes)]
    return keras.Sequential(parts, name="net")


def data() -> Dataset:
    """Return examples; client 5 has none of class 2."""
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(12, INPUTS)).astype(np.float32), rng.integers(0, CLASSES, 12)
    y[:3], y[9:] = (0, 1, 2), (0, 1, 1)
    return Dataset("made", x, y, x, y, CLASSES, 1.0, "made")


@dataclass
class Net:
    """The net's weights, and what they make of examples."""

    weights: list[Floats]

    @classmethod
    def of(cls, flat: Floats) -> Net:
        shapes = [(INPUTS, WIDTH), (WIDTH,), (WIDTH, CLASSES), (CLASSES,)]
        cuts = np.cumsum([np.prod(s) for s in shapes])[:-1]
        parts = np.split(flat, cuts)
        return cls([p.reshape(s).copy() for p, s in zip(parts, shapes, strict=True)])

    def outputs(self, x: Floats) -> tuple[Floats, Floats]:
        """Return features [n, D] and logits [n, K]."""
        a, b, c, d = self.weights
        z = np.tanh(x @ a + b)
        return z, z @ c + d

    def step(self, x: Floats, to_z: Floats, to_logits: Floats) -> Net:
        """Return the net after a step along slopes of the loss to features and logits."""
        z, _ = self.outputs(x)
        _, _, c, _ = self.weights
        inner = (to_logits @ c.T + to_z) * (1 - z**2)
        slopes = [x.T @ inner, inner.sum(0), z.T @ to_logits, to_logits.sum(0)]
        return Net([w - RATE * g for w, g in zip(self.weights, slopes, strict=True)])


def softmax(scores: Floats) -> Floats:
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def told(values: Floats, y: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return the mean of each class, and whether it has rows."""
    means, known = np.zeros((CLASSES, values.shape[1])), np.zeros(CLASSES)
    for k in range(CLASSES):
        if (y == k).any():
            means[k], known[k] = values[y == k].mean(0), 1.0
    return means, known


def formula(kind: str, net: Net, x: Floats, y: NDArray[Any], shared: Any, steps: int) -> Net:
    """Train on all rows at once, by the strategies' equations."""
    means, known = shared
    n, truth = len(y), np.eye(CLASSES)[y]
    for _ in range(steps):
        z, logits = net.outputs(x)
        to_z, to_logits = np.zeros_like(z), (softmax(logits) - truth) / n
        if kind == "features":  # of 0.7 * mean over rows and features of (z - c_y)^2
            to_z = 0.7 * 2 * (z - means[y]) / z.size * known[y][:, None]
        else:  # of 0.7 * mean over rows of KL(softmax(g_y) || softmax(f))
            to_logits = (
                to_logits + 0.7 * (softmax(logits) - softmax(means[y])) / n * known[y][:, None]
            )
        net = net.step(x, to_z, to_logits)
    return net


def check(library: str, kind: str) -> None:
    """Compare weights and uploads of two rounds: in the first nothing is known of any class."""
    made, given = backend(library), data()
    made.prepare(1, 0.0)
    resources = {"engine": "inline", "backend": library} | (
        {"lanes": 2} if library == "jax" else {}
    )
    training = {"optimizer": "sgd", "learning_rate": RATE, "batch_size": "all", "local_epochs": 3}
    experiment = parse({"model": f"{HERE}:net", "training": training, "resources": resources})
    rule: ClientRule = RULES[kind]
    trainer: Any = made.trainer(experiment, rule, given, False)
    width = WIDTH if kind == "features" else CLASSES
    assert trainer.spec.of_classes == (CLASSES, width)
    start = trainer.info.initial.astype(np.float64)
    some = np.random.default_rng(2).normal(size=(CLASSES, width))
    some[1] = 0
    sizes = [s.stop - s.start for s in CLIENTS.values()]
    for shared in ((np.zeros_like(some), np.zeros(CLASSES)), (some, np.array([1.0, 0.0, 1.0]))):
        asked = Asked(
            epochs=3, shared={"mu": 0.7, "gamma": 0.7, MEANS: shared[0].ravel(), KNOWN: shared[1]}
        )
        examples = Examples(given.x_train, given.y_train)
        job = trainer.plan.job(list(CLIENTS), sizes, 1, examples, asked)
        done = trainer.train(trainer.place(trainer.info.initial), job)
        for client, one in zip(CLIENTS, done, strict=True):
            x = given.x_train[CLIENTS[client]].astype(np.float64)
            y = given.y_train[CLIENTS[client]]
            end = formula(kind, Net.of(start), x, y, shared, 3)
            flat = np.concatenate([w.ravel() for w in end.weights])
            np.testing.assert_allclose(start + one.update.delta, flat, atol=1e-6)
            z, logits = end.outputs(x)
            means, known = told(z if kind == "features" else logits, y)
            np.testing.assert_allclose(one.update.extras[MEANS], means.ravel(), atol=2e-6)
            np.testing.assert_array_equal(one.update.extras[KNOWN], known)
