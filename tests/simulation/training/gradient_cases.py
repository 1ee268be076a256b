"""Gradients on all that clients have, recomputed with NumPy: for both backends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulation.training.backend import backend
from simulation.training.plan import Asked, Examples
from strategies.client_rule import GRADIENT
from strategies.mime import fixed_momentum
from tests.simulation.training import optimizer_cases as of_options
from tests.simulation.training.optimizer_cases import Floats, data, experiment

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "decayed": {"momentum": 0.5, "weight_decay": 0.05},
    "clipped": {"clipnorm": 0.3},
}
"""Options of SGD. No momentum of the optimiser is in a gradient."""

NAMES = [
    pytest.param(name, marks=() if name in ("plain", "nesterov") else pytest.mark.soak)
    for name in CASES
]

CLIENTS = {4: slice(0, 9), 5: slice(9, 12)}


def gradient(client: int, start: Floats, weight_decay: float, clipnorm: float) -> Floats:
    """Of softmax(x w + b), as the optimiser takes it."""
    given, at = data(), CLIENTS[client]
    x, y = given.x_train[at].astype(np.float64), given.y_train[at]
    w, b = start[:15].reshape(5, 3), start[15:]
    scores = x @ w + b
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    found = [x.T @ p / len(y), p.mean(0)]
    if clipnorm:
        found = [g * min(1.0, clipnorm / np.linalg.norm(g)) for g in found]
    decayed = [g + weight_decay * w for g, w in zip(found, (w, b), strict=True)]
    return np.concatenate([g.ravel() for g in decayed])


def check(library: str, name: str) -> None:
    """Compare what clients upload with the gradients; and training with what m and beta ask."""
    made, given = backend(library), data()
    made.prepare(1, 0.0)
    options = CASES[name]
    asked = experiment(library, options, batch_size=4)
    trainer: Any = made.trainer(asked, fixed_momentum(), given, False)
    start = trainer.info.initial
    beta, m = np.float32(0.6), np.random.default_rng(1).normal(size=start.size).astype(np.float32)
    sizes = [s.stop - s.start for s in CLIENTS.values()]
    job = trainer.plan.job(
        list(CLIENTS), sizes, 3, Examples(given.x_train, given.y_train),
        Asked(count=1, shared={"m": m, "beta": beta}),
    )  # fmt: skip
    decay, clip = options.get("weight_decay", 0.0), options.get("clipnorm", 0.0)
    done = trainer.train(trainer.place(start), job)
    for client, one in zip(CLIENTS, done, strict=True):
        expected = gradient(client, start.astype(np.float64), decay, clip)
        np.testing.assert_allclose(one.update.extras[GRADIENT], expected, atol=2e-7)
    # The client of fewer examples than a batch steps along its whole gradient, and along m.
    g = gradient(5, start.astype(np.float64), 0.0, 0.0)
    moved = (1 - 0.6) * g + 0.6 * m.astype(np.float64)
    if not options:
        step = -of_options.RATE * moved
        np.testing.assert_allclose(done[1].update.delta, step, atol=1e-6)
