"""Client rules: what a client changes in its local training.

These see gradients and weights. Those that see what models make of a batch are in
:mod:`strategies.distilling`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from strategies import checks
from strategies.client_rule import ClientRule
from strategies.schedules import Schedule


def plain() -> ClientRule:
    """Return plain local training: ``w <- w - lr * g`` with the client's own optimiser.

    Source: McMahan et al. (2017), arXiv 1602.05629.
    """
    return ClientRule()


def proximal(mu: float | Schedule) -> ClientRule:
    """Pull the local weights towards the received ones: ``g' = g + mu * (w - w0)``.

    It is the gradient of the local loss plus ``mu / 2 * ||w - w0||^2``.

    Args:
        mu: strength of the pull, >= 0 (0 is plain training), or a schedule of it.

    Raises:
        ValueError: if mu is negative or no number.

    Source: FedProx, Li et al. (2020), arXiv 1812.06127.
    """
    checks.number("mu", mu, ">= 0", schedule=True)
    return ClientRule(name="proximal", hook=proximal_hook, scalars={"mu": mu})


def one_step() -> ClientRule:
    """Take one step on all local examples: ``delta_i = -lr * grad F_i(x)`` with plain SGD.

    The configured local epochs and batch size do not apply.

    Source: FedSGD, McMahan et al. (2017), arXiv 1602.05629, section 2.
    """
    return ClientRule(name="one step", full_batch=True)


def measuring_loss() -> ClientRule:
    """Train plainly, and report the received model's training loss as ``initial_loss``.

    Source: q-FedAvg, Li et al. (2020), arXiv 1905.10497, Algorithm 2.
    """
    return ClientRule(name="measuring loss", initial_loss=True)


def proximal_hook(
    g: Any, w: Any, w0: Any, shared: Mapping[str, Any], own: Mapping[str, Any]
) -> Any:
    """Return ``g + mu * (w - w0)`` with the shared mu."""
    return g + shared["mu"] * (w - w0)
