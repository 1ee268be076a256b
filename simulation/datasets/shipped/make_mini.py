"""Make ``fashion_mnist_mini.npz`` again from the full dataset.

Run ``python -m simulation.datasets.shipped.make_mini`` in the repository.

Of every class, 600 training and 100 test images are drawn without replacement by a seeded
generator; they keep the order that they have in the full dataset.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.datasets import registry
from simulation.datasets.dataset import Dataset
from simulation.datasets.inputs import rows
from strategies.random_streams import stream

SEED = 20170825  # the day on which Fashion-MNIST was published
TRAIN_PER_CLASS, TEST_PER_CLASS = 600, 100


def choose(y: NDArray[Any], per_class: int, part: int) -> NDArray[Any]:
    """Return the sorted rows of ``per_class`` examples of every class of ``y``.

    Args:
        y: labels, int [N].
        per_class: how many of each class.
        part: 1 for the training set, 2 for the test set: their draws are independent.
    """
    rows = [
        stream(SEED, part, int(label) + 1).choice(
            np.flatnonzero(y == label), per_class, replace=False
        )
        for label in np.unique(y)
    ]
    return np.sort(np.concatenate(rows))


def make(full: Dataset) -> dict[str, NDArray[Any]]:
    """Return the arrays of the mini dataset; labels are uint8 to keep the file small."""
    train = choose(full.y_train, TRAIN_PER_CLASS, 1)
    test = choose(full.y_test, TEST_PER_CLASS, 2)
    return {
        "x_train": rows(full.x_train, train),
        "y_train": full.y_train[train].astype(np.uint8),
        "x_test": rows(full.x_test, test),
        "y_test": full.y_test[test].astype(np.uint8),
    }


def main() -> None:
    """Write the file that the package ships."""
    arrays = make(registry.load("fashion-mnist"))
    np.savez_compressed(registry.MINI, allow_pickle=False, **arrays)
    print(f"{registry.MINI}: {registry.MINI.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
