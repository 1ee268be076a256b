"""Text: predict the next character of Python's own documentation, a topic for each client.

    sunflower run examples/characters.toml

The text comes with every Python (``pydoc_data.topics``), so nothing is downloaded. Another version
of Python may have changed a few topics, and with them the numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW, STRIDE, CLIENTS, MOST = 24, 3, 30, 300
"""Characters that the model sees, and between two examples; topics, and examples of each."""

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789 .,:;()[]{}'\"=_*+-/<>\n"
"""Every other character counts as one more, behind the last."""


def load() -> dict[str, Any]:
    """Return windows of text as numbers, int64 [N, WINDOW], and the character that follows each.

    The first nine tenths of a topic are its client's, the rest is for testing.
    """
    from pydoc_data.topics import topics

    least = WINDOW + STRIDE * 50
    chosen = [topics[name] for name in sorted(topics) if len(topics[name]) >= least][:CLIENTS]
    parts = [_windows(text) for text in chosen]
    cuts = [int(0.9 * len(y)) for _, y in parts]
    owned = list(zip(parts, cuts, strict=True))
    return {
        "x_train": np.concatenate([x[:cut] for (x, _), cut in owned]),
        "y_train": np.concatenate([y[:cut] for (_, y), cut in owned]),
        "x_test": np.concatenate([x[cut:] for (x, _), cut in owned]),
        "y_test": np.concatenate([y[cut:] for (_, y), cut in owned]),
        "owners": np.repeat(np.arange(len(cuts)), cuts),
        "classes": len(ALPHABET) + 1,
    }


def _windows(text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    numbers = {character: number for number, character in enumerate(ALPHABET)}
    codes = np.array([numbers.get(c, len(ALPHABET)) for c in text.lower()], np.int64)
    runs = np.lib.stride_tricks.sliding_window_view(codes, WINDOW + 1)[::STRIDE][:MOST]
    return runs[:, :-1].copy(), runs[:, -1].copy()


def build(shape: tuple[int, ...], classes: int) -> Any:
    """Return two causal convolutions over learnt characters: 19,000 parameters or so."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(shape, dtype="int64"),
            layers.Embedding(classes, 16),
            layers.Conv1D(48, 5, padding="causal", activation="relu"),
            layers.Conv1D(48, 5, padding="causal", activation="relu", dilation_rate=4),
            layers.Cropping1D((shape[0] - 1, 0)),  # the last step has seen all the others
            layers.Flatten(),
            layers.Dense(classes),
        ]
    )
