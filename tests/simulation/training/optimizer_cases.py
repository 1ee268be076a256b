"""Optimizers with options, recomputed with NumPy: a softmax regression whose gradient is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.config.experiment import Experiment, parse
from simulation.datasets.dataset import Dataset
from simulation.training.backend import backend
from simulation.training.plan import Asked, Examples
from strategies.client_rule import ClientRule

RATE, STEPS, ROWS = 0.1, 5, 12
Floats = NDArray[np.float64]

CASES: dict[str, dict[str, Any]] = {
    "nesterov": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
    "clipped": {"clipnorm": 0.3, "momentum": 0.5},
    "clipped together": {"global_clipnorm": 0.3},
    "clipped each": {"clipvalue": 0.05, "weight_decay": 0.01},
    "accumulated": {"gradient_accumulation_steps": 2},
    "averaged": {"use_ema": True, "ema_momentum": 0.7},
}
"""Options of SGD."""


def data() -> Dataset:
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(ROWS, 5)).astype(np.float32), rng.integers(0, 3, ROWS)
    return Dataset("made", x, y, x, y, 3, 1.0, "made")


def experiment(library: str, options: dict[str, Any], **more: Any) -> Experiment:
    resources = {"engine": "inline", "backend": library}
    if library == "jax":
        resources["lanes"] = 2  # type: ignore[assignment]
    training = {"optimizer": {"name": "sgd", **options}, "learning_rate": RATE, "batch_size": ROWS}
    return parse({"model": "logistic", "training": training | more, "resources": resources})


def trained(library: str, options: dict[str, Any]) -> tuple[Floats, Floats]:
    """Train STEPS steps on all rows; return the initial weights and the last ones."""
    made, given = backend(library), data()
    made.prepare(1, 0.0)
    trainer: Any = made.trainer(experiment(library, options), ClientRule(), given, False)
    examples = Examples(given.x_train, given.y_train)
    job = trainer.plan.job([0], [ROWS], 1, examples, Asked(epochs=STEPS))
    start = trainer.info.initial
    (done,) = trainer.train(trainer.place(start), job)
    return start.astype(np.float64), start + done.update.delta.astype(np.float64)


def gradient(w: Floats, b: Floats) -> list[Floats]:
    """Of the mean cross-entropy of softmax(x w + b)."""
    given = data()
    x = given.x_train.astype(np.float64)
    scores = x @ w + b
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(ROWS), given.y_train] -= 1
    return [x.T @ p / ROWS, p.mean(0)]


def formula(
    start: Floats, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0,
    clipnorm: float = 0.0, global_clipnorm: float = 0.0, clipvalue: float = 0.0,
    gradient_accumulation_steps: int = 1, use_ema: bool = False, ema_momentum: float = 0.0,
) -> Floats:  # fmt: skip
    """SGD of Keras, as its documentation has it."""
    weights = [start[:15].reshape(5, 3).copy(), start[15:].copy()]
    velocity = [np.zeros_like(w) for w in weights]
    averages = [w.copy() for w in weights]
    sums = [np.zeros_like(w) for w in weights]
    for step in range(1, STEPS + 1):
        sums = [s + g for s, g in zip(sums, gradient(*weights), strict=True)]
        if step % gradient_accumulation_steps:
            continue
        now = [s / gradient_accumulation_steps for s in sums]
        sums = [np.zeros_like(w) for w in weights]
        if clipnorm:
            now = [g * min(1.0, clipnorm / np.linalg.norm(g)) for g in now]
        if global_clipnorm:
            norm = np.sqrt(sum((g**2).sum() for g in now))
            now = [g * min(1.0, global_clipnorm / norm) for g in now]
        if clipvalue:
            now = [np.clip(g, -clipvalue, clipvalue) for g in now]
        for w, g, v, a in zip(weights, now, velocity, averages, strict=True):
            w -= RATE * weight_decay * w
            v[:] = momentum * v - RATE * g
            w += momentum * v - RATE * g if nesterov else v
            a[:] = w if step == 1 else ema_momentum * a + (1 - ema_momentum) * w
    return np.concatenate([w.ravel() for w in (averages if use_ema else weights)])


def check(library: str, name: str) -> None:
    """Compare a case with its formula, and with what plain SGD would give."""
    start, end = trained(library, CASES[name])
    np.testing.assert_allclose(end, formula(start, **CASES[name]), atol=1e-6)
    assert np.abs(end - formula(start)).max() > 1e-4
