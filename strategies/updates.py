"""What one client sends back, and what a cohort's updates become: two values of flat vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from strategies.spec import Vector


@dataclass(frozen=True)
class Update:
    """What one client sends back.

    Args:
        client: the client's number.
        examples: how many training examples it holds.
        delta: its weights after training minus those it received, float32 [P].
        steps: optimiser steps it took.
        extras: further uploads by name, each [T] (a control variate's change, say).
        metrics: numbers the client measured while training (``loss``, ``accuracy``; also
            ``initial_loss`` if the client rule asks for it).
        learning_rate: of the client's optimiser, 0 where there is no single one.
        momentum, nesterov: of its SGD.
        moved: the delta before encoding and clipping, where there is any: how far the client moved.
        trainable: T, how many leading entries of delta are trainable; None means all.
    """

    client: int
    examples: int
    delta: Vector
    steps: int = 1
    extras: Mapping[str, Vector] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    learning_rate: float = 0.0
    trainable: int | None = None
    momentum: float = 0.0
    nesterov: bool = False
    moved: Vector | None = None


@dataclass(frozen=True)
class Mean:
    """The aggregate of a cohort: what a reducer makes and a server rule consumes.

    Args:
        delta: the aggregated delta, float64 [P].
        extras: the aggregated extras, float64 [T] each.
        weight: total weight of the clients.
        clients: how many clients it stands for.
        scale: what the trainable part is to be multiplied by (FedNova's effective number of
            steps, say); moving statistics, behind it, are averaged as they are.
        sensitivity: the largest L2 norm of one client's part of ``delta``: how far adding or
            removing one moves it (replacing one, twice as far); None if unbounded.
        metrics: means over the cohort by name: ``loss`` is that of the local training; a reducer
            adds what it counts.
    """

    delta: Vector
    extras: Mapping[str, Vector] = field(default_factory=dict)
    weight: float = 1.0
    clients: int = 1
    scale: float = 1.0
    sensitivity: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
