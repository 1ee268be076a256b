"""Personalisation: named layers stay on the client, all others are averaged."""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from strategies import checks
from strategies.client_rule import ClientRule
from strategies.spec import Spec

LAST = "last:"
"""``last:2`` stands for all weights of the last two layers that have trainable ones."""

EVERYTHING = "all"
"""Stands for all weights of the model."""


def keeping(*patterns: str) -> ClientRule:
    """Train plainly, and keep the weights of some layers on the client.

    A client begins a round with the server's weights, except for those whose names match a
    pattern: these it keeps from its last round, and sends no change of them.

    Args:
        patterns: of names, such as ``"*/dense_1/*"`` or ``"*batch_normalization*"``, or
            ``"last:1"`` for the last layer.

    Raises:
        ValueError: without any pattern.

    Source: FedPer, Arivazhagan et al. (2019), arXiv 1912.00818; FedBN, Li et al. (2021),
    arXiv 2102.07623.
    """
    if not patterns:
        raise ValueError("local must name a layer at least, got none")
    return ClientRule(name="keeping layers", local=patterns)


def alone() -> ClientRule:
    """Train plainly, and keep all weights on the client: every client for itself."""
    return ClientRule(name="alone", local=(EVERYTHING,))


def layer_of(name: str) -> str:
    """Return the layer's part of a weight's path: ``mlp/dense`` of ``mlp/dense/kernel``."""
    return name.rpartition("/")[0]


def local_entries(spec: Spec, patterns: tuple[str, ...]) -> NDArray[np.int64]:
    """Return which entries of the flat model [P] stay on the client, ascending.

    Raises:
        ValueError: if a pattern fits no weight, or all weights would stay.
    """
    if patterns == (EVERYTHING,):
        return np.arange(spec.size, dtype=np.int64)
    chosen: set[str] = set()
    for pattern in patterns:
        found = _matching(spec, pattern)
        if not found:
            raise ValueError(
                f"local must name weights of the model ({', '.join(spec.names)}), got {pattern!r}"
            )
        chosen |= found
    if chosen >= set(spec.names):
        raise ValueError(f"local must leave weights to be averaged, got {list(patterns)}")
    ends = np.cumsum((0, *spec.sizes))
    at = [np.arange(ends[i], ends[i + 1]) for i, name in enumerate(spec.names) if name in chosen]
    return np.concatenate(at).astype(np.int64)


def _matching(spec: Spec, pattern: str) -> set[str]:
    if not pattern.startswith(LAST):
        return {name for name in spec.names if fnmatchcase(name, pattern)}
    number = pattern.removeprefix(LAST)
    checks.integer("layers", int(number) if number.isdigit() else number, ">= 1")
    layers = list(dict.fromkeys(layer_of(name) for name in spec.names[: spec.trainable]))
    last = layers[-int(number) :]
    return {name for name in spec.names if layer_of(name) in last}
