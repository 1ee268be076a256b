"""A strategy of one's own: signed clients under a server with momentum, clipped and robust.

    sunflower run --strategy examples.my_strategy:signed --dataset fashion-mnist-mini
    sunflower run --strategy examples.my_strategy:signed --set strategy.strength=0.01

An algorithm is three parts. This one writes its own client rule, a gradient hook in plain
operators, and its own server rule, three pure functions, and takes the reducer as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from strategies import Algorithm, ClientRule, Mean, Round, State, Vector, WeightedMean, clipped


def decayed(strength: float) -> ClientRule:
    """Shrink the weights a little in every local step: ``g' = g + strength * w``."""

    def hook(g: Any, w: Any, w0: Any, shared: Mapping[str, Any], own: Mapping[str, Any]) -> Any:
        return g + shared["strength"] * w

    return ClientRule("decayed", hook=hook, scalars={"strength": strength})


@dataclass(frozen=True)
class Signed:
    """Move every weight by the same amount, in the direction of the averaged update.

    ::

        m <- beta * m + (1 - beta) * delta                  m_0 = 0
        x <- x + lr * sign(m)

    Args:
        learning_rate: how far, > 0.
        beta: momentum, in [0, 1).
    """

    learning_rate: float = 0.01
    beta: float = 0.9

    def init(self, model: Vector) -> State:
        """Return ``m = 0``, float64 [T]."""
        return {"m": np.zeros(model.size)}

    def step(self, model: Vector, state: State, mean: Mean, at: Round) -> tuple[Vector, State]:
        """Return the next model and momentum."""
        m = self.beta * state["m"] + (1 - self.beta) * mean.delta
        return (model + self.learning_rate * np.sign(m)).astype(model.dtype), {"m": m}

    def share(self, state: State) -> Mapping[str, Any]:
        """Return nothing: clients need only the model."""
        return {}


def signed(strength: float = 0.001, learning_rate: float = 0.01, norm: float = 10.0) -> Algorithm:
    """Decay on the clients, clip what they send, take the sign of the mean on the server."""
    reducer = clipped(WeightedMean(), norm)
    return Algorithm("Signed", decayed(strength), reducer, Signed(learning_rate))
