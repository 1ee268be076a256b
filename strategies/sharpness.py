"""Client rules that step along gradients at perturbed weights.

FedSAM, FedASAM, MoFedSAM, FedSpeed and Per-FedAvg.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from strategies import checks
from strategies.client_rule import ADDED, ClientRule, Local
from strategies.direction import Direction, Gradient, Pieces, Place, Way
from strategies.phases import Phase
from strategies.schedules import Schedule
from strategies.shared_direction import client_momentum
from strategies.spec import Vector

TINY = 1e-12
"""What a norm is divided by at least."""


def sharpness_aware(rho: float | Schedule, eta: float | None = None) -> ClientRule:
    """Take the gradient where the batch's loss is worst nearby: ``g' = grad F(w + e)``.

    ::

        e = rho * g / ||g||                     g = grad F(w), over all weights
        e = rho * T^2 g / ||T g||               with eta: T = |w| + eta, entry by entry

    Args:
        rho: how far, >= 0 (0 is plain training), or a schedule of it.
        eta: what makes the distance go by the weights' sizes, >= 0; None: it does not.

    Raises:
        ValueError: for values out of range.

    Source: FedSAM and FedASAM, Caldarola et al. (2022), arXiv 2203.11834; SAM, Foret et al. (2021),
    arXiv 2010.01412; ASAM, Kwon et al. (2021), arXiv 2102.11600.
    """
    checks.number("rho", rho, ">= 0", schedule=True)
    scalars: dict[str, float | Schedule] = {"rho": rho}
    if eta is None:
        return ClientRule(
            "sharpness-aware", scalars=scalars, direction=Direction(_sharp, gradients=2)
        )
    checks.number("eta", eta, ">= 0")
    direction = Direction(_adaptive, gradients=2)
    return ClientRule("adaptive sharpness", scalars={**scalars, "eta": eta}, direction=direction)


def meta(rate: float, hessian: bool = False, steps: int = 1) -> ClientRule:
    """Take the gradient after a step of one's own: ``g' = grad F(u)``, ``u = w - a * grad F(w)``.

    So the model learns to be good after such a step. Both gradients are those of the step's batch.
    With ``hessian`` the change of the step with w counts too, by a difference of gradients::

        g' = grad F(u) - a * (grad F(w + d v) - grad F(w - d v)) / (2 d),     v = grad F(u)

    with d = 0.01 / ||v||, as the Hessian-free variant has it.

    Args:
        rate: a, of the step, > 0.
        hessian: whether the second derivative counts.
        steps: of SGD at that rate that a client's model takes before it is measured, >= 1.

    Raises:
        ValueError: for values out of range.

    Source: Per-FedAvg, Fallah et al. (2020), arXiv 2002.07948, Algorithm 1, its first-order and its
    Hessian-free variant.
    """
    checks.number("rate", rate, "> 0")
    checks.integer("steps", steps, ">= 1")
    checks.boolean("hessian", hessian)
    step, gradients = (_hessian_free, 4) if hessian else (_first_order, 2)
    return ClientRule(
        "meta-learning", scalars={"rate": rate}, sgd=True,
        direction=Direction(step, gradients=gradients),
        tuned=Phase(steps=steps, learning_rate=rate),
    )  # fmt: skip


def sharp_momentum(rho: float | Schedule, alpha: float | Schedule) -> ClientRule:
    """Mix the clients' last mean direction into sharpness-aware gradients.

    ``g' = alpha * grad F(w + rho * g / ||g||) + (1 - alpha) * m`` with the m of the server rule
    :class:`~strategies.shared_direction.ClientMomentum`.

    Args:
        rho: how far, >= 0, or a schedule of it.
        alpha: weight of the client's own gradient, in (0, 1]; the paper's beta.

    Raises:
        ValueError: for values out of range.

    Source: MoFedSAM, Qu et al. (2022), arXiv 2206.02618, Algorithm 2.
    """
    momentum, sharp = client_momentum(alpha), sharpness_aware(rho)
    scalars = {**momentum.scalars, **sharp.scalars}
    return replace(momentum, name="sharp momentum", scalars=scalars, direction=sharp.direction)


def extrapolated(rho: float | Schedule, alpha: float | Schedule, mu: float) -> ClientRule:
    """Correct gradients that are taken at two points, and pull to the received weights.

    With c_i, the client's correction, zero at first, and x the received weights::

        g'   = (1 - alpha) * g + alpha * grad F(w + rho * g) - c_i + mu * (w - x),  g = grad F(w)
        c_i <- c_i - mu * delta_i                         after local training
        sent:  delta_i - c_i / mu

    Args:
        rho: how far the second point is, >= 0.
        alpha: weight of the gradient there, in [0, 1].
        mu: strength of the pull, > 0; the paper's 1 / lambda.

    Raises:
        ValueError: for values out of range.

    Source: FedSpeed, Sun et al. (2023), arXiv 2302.10429, Algorithm 1.
    """
    checks.number("rho", rho, ">= 0", schedule=True)
    checks.number("alpha", alpha, "in [0, 1]", schedule=True)
    checks.number("mu", mu, "> 0")
    return ClientRule(
        "extrapolated",
        hook=_corrected_hook,
        after=_corrected_after,
        own=("c",),
        scalars={"rho": rho, "alpha": alpha, "mu": mu},
        direction=Direction(_two_points, gradients=2),
    )


def _sharp(ops: Any, gradient: Gradient, at: Place) -> Way:
    return Way(gradient(at.w + ascent(ops, gradient(at.w), at.shared["rho"])))


def ascent(ops: Any, g: Pieces, rho: Any) -> Pieces:
    """Return ``rho * g / ||g||``."""
    return g * (rho / ops.maximum(g.norm(ops), TINY))


def _adaptive(ops: Any, gradient: Gradient, at: Place) -> Way:
    scale = at.w.map(ops.abs) + at.shared["eta"]
    e = scale * ascent(ops, scale * gradient(at.w), at.shared["rho"])
    return Way(gradient(at.w + e))


def _first_order(ops: Any, gradient: Gradient, at: Place) -> Way:
    return Way(gradient(at.w - gradient(at.w) * at.shared["rate"]))


NEARBY = 0.01
"""How far from the weights, in all, gradients are compared."""


def _hessian_free(ops: Any, gradient: Gradient, at: Place) -> Way:
    g = gradient(at.w - gradient(at.w) * at.shared["rate"])
    d = NEARBY / ops.maximum(g.norm(ops), TINY)
    turn = (gradient(at.w + g * d) - gradient(at.w - g * d)) * (at.shared["rate"] / (2 * d))
    return Way(g - turn)


def _two_points(ops: Any, gradient: Gradient, at: Place) -> Way:
    alpha, g = at.shared["alpha"], gradient(at.w)
    return Way(g * (1 - alpha) + gradient(at.w + g * at.shared["rho"]) * alpha)


def _corrected_hook(
    g: Any, w: Any, w0: Any, shared: Mapping[str, Any], own: Mapping[str, Any]
) -> Any:
    return g - own["c"] + shared["mu"] * (w - w0)


def _corrected_after(
    delta: Vector, shared: Mapping[str, Any], own: Mapping[str, Vector], local: Local
) -> tuple[Mapping[str, Vector], Mapping[str, Vector]]:
    c = own["c"] - shared["mu"] * delta
    return {ADDED: -c / shared["mu"]}, {"c": c}
