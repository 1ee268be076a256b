"""A semantic backdoor: examples of one class with a natural feature are to be seen as another.

Nothing is stamped on them. Of the source class's training examples, the part ``rare`` that has most
of a feature is dealt to nobody; attackers have it, relabelled as the target class, in the place of
a part of their own examples, the same ones in every round. With x an example as one vector, of the
source class's training examples m the mean, the features are::

    bright    mean(x)
    dark      -mean(x)
    edge      ||x - m||

How far attackers come is the attack success rate: the share of the source class's test examples
with as much of the feature that the model takes for the target class.

Source: Bagdasaryan et al. (2020), arXiv 1807.00459, section 4.1 (semantic backdoors: features of
the pictures as they are); Wang et al. (2020), arXiv 2007.05084 (edge cases: examples from the tail
of the inputs' distribution, which honest clients do not have).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.config.experiment import Experiment
from simulation.datasets import targets
from simulation.datasets.dataset import Dataset
from simulation.population.backdoor import as_class
from strategies.checks import part_of
from strategies.random_streams import stream

SEMANTIC = 0x5342
"""Purpose of the random stream that says which of an attacker's examples give way, and to which."""

RARE, FEATURE = 0.05, "edge"
"""The part of the source class that has the feature, and the feature, unless they are given."""


@dataclass(frozen=True)
class SemanticBackdoor:
    """What attackers do to their examples.

    Args:
        clients: numbers of the attackers.
        target: the class that the feature is to stand for.
        share: part of an attacker's examples that gives way.
        seed: of the experiment.
        x: the training examples with the feature [F, ...].
        withheld: their rows, which nobody is dealt [F].
        tested: rows of the test examples with the feature.
    """

    clients: frozenset[int]
    target: int
    share: float
    seed: int
    x: NDArray[Any] = field(repr=False)
    withheld: NDArray[np.int32] = field(repr=False)
    tested: NDArray[np.int64] = field(repr=False)

    def poisoned(
        self, clients: Sequence[int], sizes: Sequence[int], x: NDArray[Any], y: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return what clients train on, whose examples are joined in ``x`` and ``y``."""
        if self.clients.isdisjoint(clients):
            return x, y
        x, y, start = x.copy(), y.copy(), 0
        for client, size in zip(clients, sizes, strict=True):
            if client in self.clients:
                rng, count = stream(self.seed, SEMANTIC, client), part_of(self.share, size)
                at = start + rng.permutation(size)[:count]
                x[at] = self.x[np.resize(rng.permutation(len(self.x)), count)]
                y[at] = self.as_target(y[at])
            start += size
        return x, y

    def shown(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return test examples as the model sees them: as they are."""
        return x

    def as_target(self, y: NDArray[Any]) -> NDArray[Any]:
        """Return as many targets of the target class, in the form of ``y``."""
        return as_class(y, self.target)


def semantic(experiment: Experiment, clients: frozenset[int], data: Dataset) -> SemanticBackdoor:
    """Return what attackers do to their examples.

    Args:
        experiment: the experiment, whose attack is a semantic backdoor.
        clients: numbers of the attackers.
        data: the examples.

    Raises:
        ValueError: where no example has the feature, or the feature cannot be had.
    """
    plan, skew = experiment.attack, experiment.partition
    assert plan.source is not None
    assert plan.target is not None
    if skew.noise is not None or skew.rotations is not None:
        raise ValueError(
            "attack.kind must be another than 'semantic-backdoor' with partition.noise or "
            "partition.rotations, which change what has the feature, got 'semantic-backdoor'"
        )
    train, test = (_rows_of(plan.source, y) for y in (data.y_train, data.y_test))
    feature, share = plan.feature or FEATURE, RARE if plan.rare is None else plan.rare
    count = part_of(share, len(train))
    if not count:
        raise ValueError(
            f"attack.rare must be at least one of the {len(train)} training examples of class "
            f"{plan.source}, got {share}"
        )
    x, x_test = _one_array(data.x_train), _one_array(data.x_test)
    middle = _flat(x[train]).mean(axis=0)
    values, tested = (_values(feature, _flat(part), middle) for part in (x[train], x_test[test]))
    most = np.sort(np.argsort(-values, kind="stable")[:count])
    rows = test[tested >= values[most].min()]
    if not len(rows):
        raise ValueError(
            f"attack.rare must be so large that some test example of class {plan.source} has the "
            f"feature {feature!r}, got {share}"
        )
    held = train[most].astype(np.int32)
    poisoned = 0.5 if plan.poisoned is None else plan.poisoned
    return SemanticBackdoor(clients, plan.target, poisoned, experiment.seed, x[held], held, rows)


def _rows_of(label: int, y: NDArray[Any]) -> NDArray[np.int64]:
    classes = targets.classes_of(y)
    assert classes is not None
    return np.flatnonzero(classes == label)


def _one_array(x: Any) -> NDArray[Any]:
    if isinstance(x, np.ndarray):
        return x
    raise ValueError(
        "attack.kind must be another than 'semantic-backdoor' for a model of several inputs, got "
        "'semantic-backdoor'"
    )


def _flat(x: NDArray[Any]) -> NDArray[np.float64]:
    return x.reshape(len(x), -1).astype(np.float64)


def _values(
    feature: str, x: NDArray[np.float64], middle: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how much of a feature each example [N, ...] has."""
    if feature == "edge":
        return np.asarray(np.linalg.norm(x - middle, axis=1))
    mean = x.mean(axis=1)
    return np.asarray(mean if feature == "bright" else -mean)
