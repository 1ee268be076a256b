"""The work that every peer does, and how a peer reports.

NumPy is all that is imported, so that any process can import this. A *shape* such as ``100x600``
is a number of clients and how many images each of them holds. All peers train the same clients on
the same rows: :func:`write` deals them once, :func:`read` gives them to a peer.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from simulation.config.experiment import Experiment

PARAMETERS = 225_034
"""Parameters of the CNN that everybody trains."""

LEARNING_RATE = 0.05
BATCH = 32
SEED = 0

DATASETS = {
    60_000: "fashion-mnist",
    10_000: "benchmarks.work:first_10000",
    6_000: "fashion-mnist-mini",
    1_000: "benchmarks.work:first_1000",
}
"""Which data a shape uses, by its number of images."""


@dataclass(frozen=True)
class Shape:
    """So many clients, with so many images each."""

    clients: int
    size: int

    @classmethod
    def parse(cls, text: str) -> Shape:
        """Return the shape written as ``CLIENTSxIMAGES``."""
        try:
            clients, size = (int(part) for part in text.split("x"))
        except ValueError:
            raise ValueError(f"shape must be CLIENTSxIMAGES, got {text!r}") from None
        if min(clients, size) < 1 or clients * size not in DATASETS:
            known = ", ".join(f"{images:,}" for images in DATASETS)
            raise ValueError(f"shape must multiply to one of {known}, got {text!r}")
        return cls(clients, size)

    @property
    def images(self) -> int:
        """Images that are trained on in a round."""
        return self.clients * self.size

    def __str__(self) -> str:
        """Return ``CLIENTSxIMAGES``."""
        return f"{self.clients}x{self.size}"


def settings(shape: Shape, rounds: int, **changes: Any) -> dict[str, Any]:
    """Return Sunflower's experiment for a shape, as JSON values; dotted changes win."""
    data: dict[str, Any] = {
        "dataset": DATASETS.get(shape.images, "fashion-mnist"),
        "model": "cnn",
        "clients": shape.clients,
        "rounds": rounds,
        "seed": SEED,
        "partition": {"kind": "iid", "validation": 0},
        "training": {
            "optimizer": "sgd",
            "learning_rate": LEARNING_RATE,
            "batch_size": BATCH,
            "local_epochs": 1,
        },
        "evaluation": {"server": False, "clients": False},
    }
    for key, value in changes.items():
        table, _, last = key.rpartition(".")
        (data.setdefault(table, {}) if table else data)[last] = value
    return data


@dataclass(frozen=True)
class Work:
    """Images, labels, and the rows of every client.

    Args:
        x: images, uint8 [N, 28, 28, 1].
        y: labels, int64 [N].
        rows: rows of client 0, then of client 1 ..., int32.
        offsets: where each client begins in ``rows``, and the end; int64 [clients + 1].
    """

    x: NDArray[np.uint8]
    y: NDArray[np.int64]
    rows: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of clients."""
        return len(self.offsets) - 1

    def client(self, number: int) -> NDArray[np.int32]:
        """Return the rows of a client."""
        return self.rows[self.offsets[number] : self.offsets[number + 1]]

    def batches(self) -> NDArray[np.int64]:
        """Return where every batch begins and ends in ``rows``, [batches, 2].

        No batch crosses from one client to the next: the last one of a client may be short.
        """
        return np.array(
            [
                (first, min(first + BATCH, end))
                for start, end in zip(self.offsets[:-1], self.offsets[1:], strict=True)
                for first in range(start, end, BATCH)
            ]
        )


def write(shape: Shape, folder: Path) -> None:
    """Deal the rows of a shape as Sunflower does, and write them where peers can read them."""
    from simulation.config.experiment import parse
    from simulation.population.deal import prepare

    data, parts = prepare(parse(settings(shape, 1)))
    rows = [parts.train_rows(client) for client in range(len(parts))]
    sizes = [len(part) for part in rows]
    if sizes != [shape.size] * shape.clients:
        raise ValueError(f"shape {shape} must deal equal clients, got sizes {sorted(set(sizes))}")
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "x": data.x_train,
        "y": data.y_train,
        "rows": np.concatenate(rows).astype(np.int32),
        "offsets": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def read(folder: Path) -> Work:
    """Return what :func:`write` wrote."""
    return Work(*(np.load(folder / f"{name}.npy") for name in ("x", "y", "rows", "offsets")))


def scaled(x: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return images with values in [0, 1]."""
    return x.astype(np.float32) / np.float32(255)


def emit(event: str, **fields: Any) -> None:
    """Report to the benchmark that started this process: one line of JSON."""
    print(json.dumps({"event": event, "time": time.time(), **fields}), flush=True)


def experiment(data: dict[str, Any]) -> Experiment:
    """Return the experiment that :func:`settings` wrote."""
    from simulation.config.experiment import parse

    return parse(data)


def first_10000() -> dict[str, Any]:
    """Return a dataset: the first 10,000 images of Fashion-MNIST, and its test set."""
    return _first("fashion-mnist", 10_000)


def first_1000() -> dict[str, Any]:
    """Return a dataset: the first 1,000 images of the small Fashion-MNIST, and its test set."""
    return _first("fashion-mnist-mini", 1_000)


def _first(name: str, rows: int) -> dict[str, Any]:
    from simulation.datasets import registry

    data = registry.load(name)
    return {
        "x_train": data.x_train[:rows],
        "y_train": data.y_train[:rows],
        "x_test": data.x_test,
        "y_test": data.y_test,
        "classes": data.classes,
    }
