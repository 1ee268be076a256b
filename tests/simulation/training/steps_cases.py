"""Local work, recomputed with NumPy step by step: for both backends."""

from __future__ import annotations

from typing import Any

import numpy as np

from simulation.config.local_work import LocalWork
from simulation.training.backend import backend
from simulation.training.plan import SHUFFLE, Asked, Examples
from strategies.client_rule import ClientRule
from strategies.random_streams import stream
from tests.simulation.training.optimizer_cases import RATE, Floats, data, experiment

WORK = [
    LocalWork(1, 8), LocalWork(2, 8), LocalWork(0.5, 2), LocalWork(1.5, 5), LocalWork(1, 8, 1),
    LocalWork(1, 5, 7), LocalWork(3, None), LocalWork(0.4, None), LocalWork(1, None, 4),
]  # fmt: skip

ROUND, SEED = 3, 0
CLIENTS = {4: slice(0, 9), 5: slice(9, 12)}


def formula(client: int, work: LocalWork, start: Floats) -> Floats:
    """The weights after a client's steps of plain SGD, on its rows in the order that is drawn."""
    given = data()
    x, y = given.x_train[CLIENTS[client]].astype(np.float64), given.y_train[CLIENTS[client]]
    n, w, b = len(y), start[:15].reshape(5, 3).copy(), start[15:].copy()
    batch = work.batch or n
    per_epoch = -(-n // batch)
    steps = work.count or int(np.ceil(work.epochs * per_epoch - 1e-9))
    shuffle = stream(SEED, SHUFFLE, ROUND, client)
    order = np.arange(n)
    for step in range(steps):
        if step % per_epoch == 0 and n > batch:
            order = shuffle.permutation(n)
        rows = order[step % per_epoch * batch :][:batch]
        scores = x[rows] @ w + b
        p = np.exp(scores - scores.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        p[np.arange(len(rows)), y[rows]] -= 1
        w -= RATE * x[rows].T @ p / len(rows)
        b -= RATE * p.mean(0)
    return np.concatenate([w.ravel(), b])


def check(library: str, work: LocalWork) -> None:
    """Compare what a backend trains with the formula, for two clients of one call."""
    made, given = backend(library), data()
    made.prepare(1, 0.0)
    more: dict[str, Any] = {"batch_size": work.batch or "all"}
    trainer: Any = made.trainer(experiment(library, {}, **more), ClientRule(), given, False)
    asked = Asked(epochs=work.epochs, count=work.count)
    sizes = [s.stop - s.start for s in CLIENTS.values()]
    examples = Examples(given.x_train, given.y_train)
    job = trainer.plan.job(list(CLIENTS), sizes, ROUND, examples, asked)
    start = trainer.info.initial
    for client, one in zip(CLIENTS, trainer.train(trainer.place(start), job), strict=True):
        expected = formula(client, work, start.astype(np.float64))
        np.testing.assert_allclose(start + one.update.delta, expected, atol=1e-6)
