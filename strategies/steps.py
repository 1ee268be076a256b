"""What a client's SGD steps weigh together: where a method takes gradients from a delta."""

from __future__ import annotations

from typing import Any

from strategies.optional_protocols import NeedsSGD, ToldMomentum, WrapsReducer, innermost


def step_weight(steps: int, momentum: float = 0.0, nesterov: bool = False) -> float:
    """Return ``||a||_1``: with which coefficients a client's gradients are in its delta, summed up.

    With gradients g_k and learning rate lr, ``delta = -lr * sum_k a_k g_k``. Plain SGD has
    a_k = 1: tau steps weigh tau. A momentum rho that begins at zero, ``v <- rho v - lr g``,
    ``w <- w + v``, gives::

        a_k     = (1 - rho^(tau - k + 1)) / (1 - rho),      k = 1 .. tau
        ||a||_1 = (tau - rho (1 - rho^tau) / (1 - rho)) / (1 - rho)

    and Nesterov's, ``w <- w + rho v - lr g``, one power of rho more in each a_k.

    Args:
        steps: tau, >= 0.
        momentum: rho, in [0, 1).
        nesterov: whether it is Nesterov's.

    Source: Wang et al. (2020), arXiv 2007.07481, section 4.
    """
    if not momentum:
        return float(steps)
    missing = momentum * (1 - momentum**steps) / (1 - momentum)
    return (steps - (momentum * missing if nesterov else missing)) / (1 - momentum)


def needs_sgd(*parts: Any) -> bool:
    """Tell whether a client rule or reducer takes clients' steps for those of SGD."""
    return any(
        (isinstance(part, NeedsSGD) and part.sgd)
        or (isinstance(part, WrapsReducer) and needs_sgd(part.reducer))
        for part in parts
    )


def told_momentum(reducer: Any) -> float | None:
    """Return the clients' momentum that a reducer was told; None where it asks the clients."""
    behind = innermost(reducer)
    return behind.momentum if isinstance(behind, ToldMomentum) and behind.sgd else None
