"""Clients that attack: the same seeded ones in every round, for studies of robustness.

With c the number of classes and s the strength, an attacker trains on labels ``c - 1 - y``
(``label-flip``; with a source and a target class, on the target for the source) or trains as all
others do and sends, in place of its delta::

    sign-flip    -s * delta
    noise        s * N(0, 1) in every entry
    scale        s * delta
    free-rider   s * N(0, 1) in every entry, with s = 0 the model as it was received

Attackers that send one update together are in :mod:`simulation.population.collusion`, those that
train on pictures with a pattern (``backdoor``, sent as ``s * delta``) in
:mod:`simulation.population.backdoor`, or on others' examples (``semantic-backdoor``, likewise) in
:mod:`simulation.population.semantic`. Moving statistics are sent like any weight; extras that a
client rule uploads stay honest.

Source: label flipping, Fang et al. (2020), arXiv 1911.11815, of one class to another, Tolpegin et
al. (2020), arXiv 2007.08432; noise, Blanchard et al. (2017), arXiv 1703.02757; sign flipping, Li et
al. (2019), arXiv 1811.03761; free riders, Fraboni et al. (2021), arXiv 2006.11901. Scaling is no
backdoor: it is the boost alone of model replacement (Bagdasaryan et al., 2020, arXiv 1807.00459),
by clients that train on their own data as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.config.attack import COLLUDING
from simulation.config.experiment import Experiment
from simulation.datasets.dataset import Dataset
from simulation.population.backdoor import SHARE, Backdoor, victims, white
from simulation.population.collusion import Colluding
from simulation.population.semantic import SemanticBackdoor, semantic
from strategies.checks import part_of
from strategies.protocols import Reducer
from strategies.random_streams import stream
from strategies.spec import Vector
from strategies.updates import Update

ATTACKERS, NOISE = 0x4174, 0x416E
"""Purposes of the random streams: who attacks, and the noise that an attacker sends."""

STRENGTH = {
    "sign-flip": 1.0, "noise": 1.0, "scale": 10.0, "free-rider": 0.0, "ipm": 0.5, "backdoor": 1.0,
    "fang": 2.0, "semantic-backdoor": 1.0,
}  # fmt: skip
"""The strength of each attack unless it is given; that of ``alie`` then goes by who takes part."""

BACKDOORS = ("backdoor", "semantic-backdoor")
"""Attacks whose success is measured on examples of their own."""

AS_TRAINED = ("label-flip", *COLLUDING)
"""Attacks whose clients send what they trained, as far as the client itself goes."""


@dataclass(frozen=True)
class Attackers:
    """The clients that attack, and how.

    Args:
        clients: their numbers.
        kind: of the attack.
        strength: s.
        classes: number of classes, for ``label-flip``; one-hot rows are reversed.
        seed: of the experiment.
        source, target: classes, where ``label-flip`` turns one alone into another.
    """

    clients: frozenset[int]
    kind: str
    strength: float
    classes: int
    seed: int
    source: int | None = None
    target: int | None = None

    def labels(self, clients: Sequence[int], sizes: Sequence[int], y: NDArray[Any]) -> NDArray[Any]:
        """Return the labels that clients train on, whose rows are joined in ``y`` [sum sizes]."""
        if self.kind != "label-flip" or self.clients.isdisjoint(clients):
            return y
        bad = np.repeat([client in self.clients for client in clients], sizes)
        y = y.copy()
        y[bad] = self._flipped(y[bad])
        return y

    def _flipped(self, y: NDArray[Any]) -> NDArray[Any]:
        one_hot = y.ndim == 2 and y.shape[1] > 1
        if self.source is None or self.target is None:
            return y[:, ::-1] if one_hot else self.classes - 1 - y.astype(np.int64)
        if not one_hot:
            return np.where(y == self.source, self.target, y)
        y[y.argmax(axis=1) == self.source] = np.eye(y.shape[1], dtype=y.dtype)[self.target]
        return y

    def sent(self, update: Update, round: int) -> Update:
        """Return the update that a client sends in a round."""
        if self.kind in AS_TRAINED or update.client not in self.clients:
            return update
        return replace(update, delta=self._delta(update, round).astype(update.delta.dtype))

    def _delta(self, update: Update, round: int) -> Vector:
        if self.kind in ("noise", "free-rider"):
            rng = stream(self.seed, NOISE, round, update.client)
            return self.strength * rng.normal(size=update.delta.size)
        return (-self.strength if self.kind == "sign-flip" else self.strength) * update.delta


def chosen(experiment: Experiment, clients: int) -> frozenset[int]:
    """Return which clients attack, in all rounds: ``floor(fraction * clients)`` of them."""
    plan = experiment.attack
    if plan.kind is None or experiment.mode != "federated":
        return frozenset()
    order = stream(experiment.seed, ATTACKERS).permutation(clients)
    return frozenset(order[: part_of(plan.fraction, clients)].tolist())


def attackers(experiment: Experiment, clients: int, classes: int | None) -> Attackers | None:
    """Return who attacks: ``floor(fraction * clients)`` clients; None if there are none.

    Args:
        experiment: the experiment.
        clients: how many there are.
        classes: number of classes; None where an example has no one class.

    Raises:
        ValueError: for labels that cannot be flipped.
    """
    plan = experiment.attack
    if plan.kind is None or experiment.mode != "federated":
        return None
    if plan.kind in ("label-flip", *BACKDOORS) and classes is None:
        raise ValueError(
            f"attack.kind must be another than {plan.kind!r} where an example has no one class, "
            f"as in a regression, got {plan.kind!r}"
        )
    for name, label in (("source", plan.source), ("target", plan.target)):
        if label is not None and label >= (classes or 0):
            raise ValueError(
                f"attack.{name} must be a class of the dataset, 0 to {(classes or 0) - 1}, "
                f"got {label}"
            )
    who = chosen(experiment, clients)
    if not who:
        return None
    strength = STRENGTH.get(plan.kind, 0.0) if plan.strength is None else plan.strength
    seed = experiment.seed
    return Attackers(who, plan.kind, strength, classes or 0, seed, plan.source, plan.target)


def backdoor(
    experiment: Experiment, clients: int, data: Dataset
) -> Backdoor | SemanticBackdoor | None:
    """Return what attackers do to their examples; None where they do nothing.

    Args:
        experiment: the experiment.
        clients: how many there are.
        data: the examples.

    Raises:
        ValueError: where examples are no pictures, or none has what the attack goes by.
    """
    plan = experiment.attack
    if plan.kind not in BACKDOORS or experiment.mode != "federated":
        return None
    who = chosen(experiment, clients)
    if plan.kind == "semantic-backdoor":
        return semantic(experiment, who, data)
    value, target = white(data), plan.target or 0
    share = SHARE if plan.poisoned is None else plan.poisoned
    tested = victims(data.y_test, target)
    return Backdoor(who, target, share, value, experiment.seed, tested)


def attacked(reducer: Reducer, experiment: Experiment, clients: int) -> Reducer:
    """Return the reducer to which the experiment's attackers send, where they do so together.

    Args:
        reducer: of the strategy.
        experiment: the experiment.
        clients: how many there are.
    """
    kind = experiment.attack.kind
    who = chosen(experiment, clients)
    if kind not in COLLUDING or not who:
        return reducer
    given = experiment.attack.strength
    return Colluding(reducer, who, kind, STRENGTH.get(kind) if given is None else given)
