"""Personalisation: layers, or a whole second model, that stay on the client."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategies import checks
from strategies.client_rule import ClientRule
from strategies.phases import EVERYTHING, EXCEPT, RECEIVED, Phase
from strategies.schedules import Schedule
from strategies.spec import Spec

LAST = "last:"
"""``last:2`` stands for all weights of the last two layers that have trainable ones."""

FIRST = "first:"
"""``first:2`` stands for all weights of the first two layers that have trainable ones."""


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


def fixed_head(layers: int, epochs: float) -> ClientRule:
    """Train all layers but the last ones, which stay as they were initialised.

    A client's model is what ``epochs`` of training all its weights make of the server's; what they
    learn is not kept.

    Args:
        layers: of the head, >= 1.
        epochs: local epochs in front of each measurement, > 0.

    Raises:
        ValueError: for values out of range.

    Source: FedBABU, Oh et al. (2022), arXiv 2106.06042, Algorithm 1.
    """
    checks.integer("layers", layers, ">= 1")
    checks.number("tuning_epochs", epochs, "> 0")
    tuned = Phase(epochs=epochs)
    return ClientRule("body alone", frozen=(f"{LAST}{layers}",), tuned=tuned)


def in_turns(layers: int, head_epochs: float) -> ClientRule:
    """Keep the last layers on the client; train them first, then the others as they are.

    With b the received body and h the client's own head: h' by ``head_epochs`` of SGD on
    ``F_i(b, h)``, then b' by the configured local work on ``F_i(b, h')``, of which b' - b is sent.

    Args:
        layers: of the head, >= 1.
        head_epochs: local epochs of the head, > 0.

    Raises:
        ValueError: for values out of range.

    Source: FedRep, Collins et al. (2021), arXiv 2102.07078, Algorithm 1.
    """
    checks.integer("layers", layers, ">= 1")
    checks.number("head_epochs", head_epochs, "> 0")
    head = f"{LAST}{layers}"
    phases = (Phase(frozen=(EXCEPT + head,), epochs=head_epochs), Phase(frozen=(head,)))
    return ClientRule(name="head, then body", local=(head,), phases=phases)


def beside(mu: float | Schedule, epochs: float | None = None) -> ClientRule:
    """Train plainly, and a second model of the client's own near the received one.

    The second model v starts where it ended in the client's last round (in its first at the
    received weights x), and is trained by ``g' = g + mu * (v - x)``: the gradient of
    ``F_i(v) + mu / 2 * ||v - x||^2``.

    Args:
        mu: strength of the pull, >= 0, or a schedule of it; the paper's lambda.
        epochs: local epochs of the second model; None: the configured local work.

    Raises:
        ValueError: for values out of range.

    Source: Ditto, Li et al. (2021), arXiv 2012.04221, Algorithm 1.
    """
    checks.number("mu", mu, ">= 0", schedule=True)
    phases = (Phase(), Phase(epochs=epochs, hook=to_received, second=True))
    return ClientRule(name="a model beside", phases=phases, second=True, scalars={"mu": mu})


def to_received(g: Any, w: Any, w0: Any, shared: Mapping[str, Any], own: Mapping[str, Any]) -> Any:
    """Return ``g + mu * (w - x)`` with the shared mu and the received weights x."""
    return g + shared["mu"] * (w - own[RECEIVED])


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
    chosen = _matched(spec, patterns, "local")
    if chosen >= set(spec.names):
        raise ValueError(f"local must leave weights to be averaged, got {list(patterns)}")
    ends = np.cumsum((0, *spec.sizes))
    at = [np.arange(ends[i], ends[i + 1]) for i, name in enumerate(spec.names) if name in chosen]
    return np.concatenate(at).astype(np.int64)


def frozen_weights(spec: Spec, patterns: tuple[str, ...]) -> frozenset[int]:
    """Return the places of the trainable weights that are not trained, in the spec's order.

    Raises:
        ValueError: if a pattern fits no weight, or none would be trained.
    """
    chosen = _matched(spec, patterns, "frozen")
    trained = spec.names[: spec.trainable]
    if chosen and chosen >= set(trained):
        raise ValueError(f"frozen must leave weights to be trained, got {list(patterns)}")
    return frozenset(i for i, name in enumerate(trained) if name in chosen)


def travelling(spec: Spec, rule: ClientRule) -> int:
    """Return how many of the model's entries the clients of a rule are sent, and send back.

    Weights that stay on the clients do not travel, nor do those that nobody trains.
    """
    staying = np.zeros(spec.size, bool)
    if rule.local:
        staying[local_entries(spec, rule.local)] = True
    ends = np.cumsum((0, *spec.sizes))
    for place in frozen_weights(spec, rule.frozen):
        staying[ends[place] : ends[place + 1]] = True
    return int(spec.size - staying.sum())


def _matched(spec: Spec, patterns: tuple[str, ...], field: str) -> set[str]:
    """Return the names that patterns fit, each at least one."""
    chosen: set[str] = set()
    for pattern in patterns:
        found = _chosen(spec, pattern)
        if not found:
            raise ValueError(
                f"{field} must name weights of the model ({', '.join(spec.names)}), got {pattern!r}"
            )
        chosen |= found
    return chosen


def _chosen(spec: Spec, pattern: str) -> set[str]:
    """Return the names that a pattern fits; none where what it excepts is nothing."""
    found = _matching(spec, pattern.removeprefix(EXCEPT))
    if pattern.startswith(EXCEPT):
        return set(spec.names) - found if found else set()
    return found


def _matching(spec: Spec, pattern: str) -> set[str]:
    kind = next((kind for kind in (FIRST, LAST) if pattern.startswith(kind)), None)
    if kind is None:
        return {name for name in spec.names if fnmatchcase(name, pattern)}
    number = pattern.removeprefix(kind)
    checks.integer("layers", int(number) if number.isdigit() else number, ">= 1")
    layers = list(dict.fromkeys(layer_of(name) for name in spec.names[: spec.trainable]))
    some = layers[: int(number)] if kind == FIRST else layers[-int(number) :]
    return {name for name in spec.names if layer_of(name) in some}
