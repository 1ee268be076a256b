"""Client rules that move a second model along with the one that is sent: APFL and pFedMe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from strategies import checks
from strategies.client_rule import ClientRule
from strategies.direction import SECOND, Direction, Gradient, Place, Way
from strategies.schedules import Schedule
from strategies.spec import Vector


def mixed(alpha: float, adaptive: bool = False) -> ClientRule:
    """Train the model that is sent, and a second one v so that their mixture is good.

    ::

        w <- w - lr * grad F(w)                          by the client's optimiser
        v <- v - lr * a * grad F(a v + (1 - a) w)        plain SGD, of the w before the step

    The client's own model is ``a v + (1 - a) w`` at the end of a round. v goes on in the client's
    next round from where it was; it begins as the weights that the client first receives. With
    ``adaptive`` each client has its own a, which its first step of a round changes to
    ``a - lr * <v - w, grad F(a v + (1 - a) w)>``, within [0, 1].

    Args:
        alpha: a, or what it begins as, in [0, 1].
        adaptive: whether a changes.

    Raises:
        ValueError: for alpha out of its range.

    Source: APFL, Deng et al. (2020), arXiv 2003.13461, Algorithm 1 and equation 10.
    """
    checks.number("alpha", alpha, "in [0, 1]")
    checks.boolean("adaptive", adaptive)
    direction = Direction(
        _adapting if adaptive else _mixed, second=True, lasts=True, numbers={"alpha": alpha},
        model=_mixture, gradients=2,
    )  # fmt: skip
    return ClientRule("mixture", own=(SECOND,), second=True, sgd=True, direction=direction)


def moreau(mu: float | Schedule, rate: float | Schedule, steps: int) -> ClientRule:
    """Step towards the best model near the weights, which is the client's own.

    ::

        v <- v - rate * (grad F(v) + mu * (v - w))       ``steps`` times on each batch
        g' = mu * (w - v)                                the gradient of the Moreau envelope

    v begins at the received weights in each round, and goes on from batch to batch.

    Args:
        mu: how near, the paper's lambda, > 0.
        rate: learning rate of the client's own model, > 0.
        steps: on each batch, >= 1; the paper's K.

    Raises:
        ValueError: for values out of range.

    Source: pFedMe, Dinh et al. (2020), arXiv 2006.08848, Algorithm 1.
    """
    checks.number("mu", mu, "> 0", schedule=True)
    checks.number("personal_rate", rate, "> 0", schedule=True)
    checks.integer("steps", steps, ">= 1")
    direction = Direction(_moreau, second=True, model=_second, inner=steps, gradients=steps)
    scalars = {"mu": mu, "personal_rate": rate}
    return ClientRule("Moreau envelope", scalars=scalars, second=True, direction=direction)


def _mixed(ops: Any, gradient: Gradient, at: Place) -> Way:
    alpha, v = at.numbers["alpha"], at.second
    assert v is not None
    slope = gradient(at.w)
    along = gradient(v * alpha + at.w * (1 - alpha))
    return Way(slope, v - along * (alpha * at.rate))


def _adapting(ops: Any, gradient: Gradient, at: Place) -> Way:
    alpha, v = at.numbers["alpha"], at.second
    assert v is not None
    slope = gradient(at.w)
    along = gradient(v * alpha + at.w * (1 - alpha))
    moved = alpha - at.rate * (v - at.w).dot(ops, along)
    moved = ops.where(at.first, ops.maximum(ops.minimum(moved, 1.0), 0.0), alpha)
    return Way(slope, v - along * (alpha * at.rate), {"alpha": moved})


def _mixture(
    w: Vector, v: Vector, numbers: Mapping[str, float], shared: Mapping[str, float]
) -> Vector:
    return numbers["alpha"] * v + (1 - numbers["alpha"]) * w


def _moreau(ops: Any, gradient: Gradient, at: Place) -> Way:
    v, mu = at.second, at.shared["mu"]
    assert v is not None
    for _ in range(at.inner):
        v = v - (gradient(v) + (v - at.w) * mu) * at.shared["personal_rate"]
    return Way((at.w - v) * mu, v)


def _second(
    w: Vector, v: Vector, numbers: Mapping[str, float], shared: Mapping[str, float]
) -> Vector:
    return v
