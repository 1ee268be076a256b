"""What clients tell of their labels, where a client rule asks for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulation.datasets.dataset import Dataset
from simulation.population.partition import AnyPartition, label_counts
from strategies.client_rule import ClientRule
from strategies.label_discrepancy import DISCREPANCY, RELATIVE_SIZE


@dataclass(frozen=True)
class ToldLabels:
    """What each client tells of the examples that it trains on, of those that were dealt to it.

    Args:
        discrepancies: of each client, over their mean [K].
        sizes: examples of each client, over their mean [K].
    """

    discrepancies: NDArray[np.float64]
    sizes: NDArray[np.float64]

    def metrics(self, client: int) -> dict[str, float]:
        """Return what a client tells, by name."""
        return {
            DISCREPANCY: float(self.discrepancies[client]),
            RELATIVE_SIZE: float(self.sizes[client]),
        }


def told_labels(rule: ClientRule, parts: AnyPartition, data: Dataset) -> ToldLabels | None:
    """Return what clients tell of their labels; None where they tell nothing.

    Every client's labels are counted, once.

    Raises:
        ValueError: where an example has no one class.
    """
    if rule.discrepancy is None:
        return None
    if data.labels is None or data.classes is None:
        raise ValueError(
            f"strategy must be another than one whose clients are {rule.name} where an example has "
            "no one class, as in a regression"
        )
    counts = label_counts(parts, range(len(parts)), data.labels, data.classes, training=True)
    sizes = parts.train_sizes.astype(np.float64)
    return ToldLabels(rule.discrepancy.of(counts), sizes / max(1.0, float(sizes.mean())))
