"""Tables: scikit-learn's breast cancer data (569 rows of 30 numbers), a model with dropout.

    pip install 'sunflower-fl[examples]'
    sunflower run examples/tabular.toml

Source of the data: Street, Wolberg and Mangasarian (1993), Nuclear feature extraction for breast
tumor diagnosis. It is part of scikit-learn, so nothing is downloaded.
"""

from __future__ import annotations

from typing import Any

import numpy as np

TESTED = 5
"""Every fifth row is for testing."""


def load() -> tuple[Any, Any]:
    """Return the rows, scaled by the mean and deviation of those for training."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    test = np.arange(len(y)) % TESTED == 0
    mean, deviation = x[~test].mean(axis=0), x[~test].std(axis=0)
    x = (x - mean) / deviation
    return (x[~test], y[~test]), (x[test], y[test])


def build(shape: tuple[int, ...], classes: int) -> Any:
    """Return a small network that forgets a part of what it sees while it learns."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Dense(32, activation="relu", kernel_regularizer="l2"),
            layers.Dropout(0.3),
            layers.Dense(classes),
        ]
    )
