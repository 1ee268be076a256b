"""A network with batch normalisation, so that FedBN has layers to keep: see `personal.toml`."""

from __future__ import annotations

from typing import Any


def network(shape: tuple[int, ...], classes: int) -> Any:
    """Return a network of two layers for pictures."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Flatten(),
            layers.Dense(64),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dense(classes),
        ]
    )
