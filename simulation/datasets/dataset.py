"""A dataset: arrays of examples for training and testing, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.datasets import (
    targets,
)
from simulation.datasets.inputs import Inputs


@dataclass(frozen=True)
class Dataset:
    """Examples for training, held by the clients, and for testing, held by the server.

    Args:
        name: as given to :func:`load`.
        x_train: inputs [N, ...]; images are uint8 [N, height, width, channels]. A model of several
            inputs takes a tuple of arrays, or a mapping of them by name.
        y_train: targets as they were given: class numbers, int64 [N]; whole numbers of more
            dimensions in their own type (masks, sequences, one-hot rows); else float32 [N, ...].
        x_test: inputs of the test set [M, ...].
        y_test: its targets, as for training.
        classes: number of classes: of one-hot rows their length, of whole numbers the highest and
            one more; None for other targets.
        scale: what the inputs are multiplied by on their way into the model; for several inputs
            one for each, in their structure.
        source: which source served the data.
        owners: the client that each training example belongs to by its origin, int32 [N], numbered
            from 0 without gaps; None where nothing tells. The partition ``natural`` follows it.
        sample_weight: how much each training example counts, float32 [N]; None for all alike.
        sample_weight_test: the same of the test examples, float32 [M].
        owner_names: what each owner is called where the data comes from, text or a whole number,
            by the owner's number; None where the numbers are all there is.
        target: what holds the targets, for messages.
        notes: lines for the log about how the data was read.
    """

    name: str
    x_train: Inputs
    y_train: NDArray[Any]
    x_test: Inputs
    y_test: NDArray[Any]
    classes: int | None
    scale: Any
    source: str
    owners: NDArray[np.int32] | None = None
    sample_weight: NDArray[np.float32] | None = None
    sample_weight_test: NDArray[np.float32] | None = None
    owner_names: tuple[str | int, ...] | None = None
    target: str = "y_train"
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """Class of every training example, int64 [N].

        None where an example has no one class: a regression, masks, several labels each.
        """
        if self.classes is None:
            return None
        return targets.classes_of(self.y_train)
