"""The work of the GPU benchmark: who holds how many images, and how a contestant reports.

NumPy is all that is imported, so that any process can import this. :func:`write` deals the images
once, :func:`read` gives them to a contestant. Images and labels are drawn at random: what is
measured is speed alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

LEARNING_RATE = 0.05
SEED = 0
CLASSES = 10

FOLDER = "SUNFLOWER_BENCHMARK_WORK"
"""Environment variable: where :func:`dataset` finds the images."""

Model = Literal["cnn", "resnet18", "cifar-cnn"]

SHAPES: dict[Model, tuple[int, int, int]] = {
    "cnn": (28, 28, 1),
    "resnet18": (32, 32, 3),
    "cifar-cnn": (32, 32, 3),
}
"""Of an image, by the model that takes it."""

PARAMETERS: dict[Model, int] = {"cnn": 225_034, "resnet18": 11_173_962, "cifar-cnn": 1_626_442}
"""Of each model, whatever it is written in: every contestant asserts it."""

SKEW_SEED = 3
"""Draws the log-normal sizes."""


@dataclass(frozen=True)
class Workload:
    """Clients that train one epoch of SGD in every round.

    Args:
        name: on the command line.
        title: in tables.
        clients: how many.
        images: how many they hold together, about.
        model: what they train.
        batch: images of a batch.
        skewed: whether sizes are log-normal (sigma 1), not equal.
    """

    name: str
    title: str
    clients: int
    images: int
    model: Model = "cnn"
    batch: int = 32
    skewed: bool = False

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Images of every client [clients]."""
        if not self.skewed:
            return np.full(self.clients, self.images // self.clients)
        drawn = np.random.default_rng(SKEW_SEED).lognormal(0.0, 1.0, self.clients)
        return np.maximum(1, (drawn / drawn.sum() * self.images).astype(np.int64))

    def steps(self, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many batches clients of some sizes train on."""
        return -(-sizes // self.batch)


def _by_name(*workloads: Workload) -> dict[str, Workload]:
    return {workload.name: workload for workload in workloads}


FULL = _by_name(
    Workload("100x600", "100 clients x 600 images", 100, 60_000),
    Workload("1000x60", "1,000 clients x 60 images", 1_000, 60_000),
    Workload("10000x6", "10,000 clients x 6 images", 10_000, 60_000),
    Workload("skewed-100", "100 clients, log-normal sizes", 100, 60_000, skewed=True),
    Workload("skewed-1000", "1,000 clients, log-normal sizes", 1_000, 60_000, skewed=True),
    Workload("cifar", "50 users x 50 images, batches of 10", 50, 2_500, "cifar-cnn", 10),
    Workload("resnet18", "ResNet-18, 50 clients x 128 images", 50, 6_400, "resnet18"),
)
"""What runs on a GPU."""

SMALL = _by_name(
    Workload("20x64", "20 clients x 64 images", 20, 1_280),
    Workload("100x6", "100 clients x 6 images", 100, 600),
    Workload("skewed-20", "20 clients, log-normal sizes", 20, 1_280, skewed=True),
    Workload("cifar-4", "4 users x 50 images, batches of 10", 4, 200, "cifar-cnn", 10),
)
"""What runs anywhere."""

ALL = FULL | SMALL


@dataclass(frozen=True)
class Data:
    """What a contestant trains on.

    Args:
        x: images, uint8 [N, height, width, channels].
        y: labels, int64 [N].
        offsets: where each client's images begin, and the end; int64 [clients + 1].
    """

    x: NDArray[np.uint8]
    y: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of clients."""
        return len(self.offsets) - 1

    def client(self, number: int) -> slice:
        """Return where a client's images are."""
        return slice(int(self.offsets[number]), int(self.offsets[number + 1]))

    def first(self, images: int) -> int:
        """Return how many clients, from the first on, hold about so many images; at least one."""
        return int(max(1, np.searchsorted(self.offsets, images, side="right") - 1))


def write(workload: Workload, folder: Path) -> None:
    """Draw a workload's images and write them where contestants can read them."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes, stream = workload.sizes, np.random.default_rng(SEED)
    count = int(sizes.sum())
    shape = SHAPES[workload.model]
    np.save(folder / "x.npy", stream.integers(0, 256, (count, *shape), dtype=np.uint8))
    np.save(folder / "y.npy", stream.integers(0, CLASSES, count, dtype=np.int64))
    np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def read(folder: Path) -> Data:
    """Return what :func:`write` wrote."""
    return Data(*(np.load(folder / f"{name}.npy") for name in ("x", "y", "offsets")))


def dataset() -> dict[str, Any]:
    """Return the images as a dataset of Sunflower, whose clients are those of the workload."""
    data = read(Path(os.environ[FOLDER]))
    return {
        "x_train": data.x,
        "y_train": data.y,
        "x_test": data.x[:100],
        "y_test": data.y[:100],
        "classes": CLASSES,
        "owners": np.repeat(np.arange(len(data)), np.diff(data.offsets)).astype(np.int32),
    }


def settings(workload: Workload, rounds: int, gpus: float) -> dict[str, Any]:
    """Return Sunflower's experiment for a workload, as JSON values."""
    models = {"cnn": "cnn", "resnet18": "resnet18", "cifar-cnn": "cifar_cnn"}
    name = models[workload.model]
    return {
        "dataset": "benchmarks.gpu_work:dataset",
        "model": name if name == "cnn" else f"benchmarks.gpu_models:{name}",
        "clients": workload.clients,
        "rounds": rounds,
        "seed": SEED,
        "partition": {"kind": "natural", "validation": 0},
        "training": {
            "optimizer": "sgd",
            "learning_rate": LEARNING_RATE,
            "batch_size": workload.batch,
            "local_epochs": 1,
        },
        "evaluation": {"server": False, "clients": False, "all_clients": False},
        "resources": {"engine": "inline", "backend": "jax", "client_gpus": gpus},
    }
