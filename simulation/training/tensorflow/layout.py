"""Several models as the graph takes them: so that a client begins with its own without a copy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from strategies.spec import Spec, Vector

ALIGNED = 16
"""Entries of float32 of 64 bytes: TensorFlow copies a part of a vector that begins elsewhere."""


class Apart:
    """A layout of a model in which every weight is at hand without copying it.

    Args:
        spec: of the flat vector.
    """

    def __init__(self, spec: Spec) -> None:
        room = [-(-size // ALIGNED) * ALIGNED for size in spec.sizes]
        self.spec, self.places = spec, np.cumsum([0, *room]).tolist()

    @property
    def size(self) -> int:
        """How many entries there are, those between weights too."""
        return int(self.places[-1])

    def of(self, flat: Vector) -> Vector:
        """Return a flat vector [P] in this layout."""
        found = np.zeros(self.size, np.float32)
        first = 0
        for size, place in zip(self.spec.sizes, self.places, strict=False):
            found[place : place + size] = flat[first : first + size]
            first += size
        return found

    def parts(self, model: tf.Tensor) -> list[tf.Tensor]:
        """Return the weights of a model in this layout."""
        sizes, shapes = self.spec.sizes, self.spec.shapes
        return [
            tf.reshape(model[place : place + size], shape)
            for size, shape, place in zip(sizes, shapes, self.places, strict=False)
        ]


def rows_of(size: int, count: int | tf.Tensor) -> tf.TensorArray:
    """Return room for vectors of equal size, which can be read more than once."""
    return tf.TensorArray(tf.float32, count, element_shape=[size], clear_after_read=False)


def listed(models: Sequence[tf.Tensor]) -> tf.TensorArray:
    """Return models so that a client finds its own: none of them is copied."""
    found = rows_of(models[0].shape[0], len(models))
    for place, model in enumerate(models):
        found = found.write(place, model)
    return found
