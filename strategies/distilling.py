"""Client rules with an objective of their own: MOON, FedNTD, FedDecorr, FedLC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from strategies import checks
from strategies.client_rule import ClientRule
from strategies.objective import LAST, Objective, Seen, mean
from strategies.schedules import Schedule

_SMALL = 1e-8


def contrasting(mu: float | Schedule, temperature: float) -> ClientRule:
    """Pull features towards those of the received model, away from those of the last one.

    With z, z_x and z_l the features of a row in the client's model, the received one and that of
    its last round, and sim the cosine::

        loss + mu * mean(-log(e^(sim(z, z_x) / t) / (e^(sim(z, z_x) / t) + e^(sim(z, z_l) / t))))

    In its first round a client has no last model: the term is constant then. Features are what the
    last layer with weights takes.

    Args:
        mu: strength, >= 0, or a schedule of it.
        temperature: t, > 0.

    Source: MOON, Li, He and Song (2021), arXiv 2103.16257, equation 3.
    """
    checks.number("mu", mu, ">= 0", schedule=True)
    checks.number("temperature", temperature, "> 0")
    return ClientRule(
        name="contrasting", objective=Objective(contrast, received=True, last=True),
        scalars={"mu": mu, "temperature": temperature}, own=(LAST,),
    )  # fmt: skip


def distilling(beta: float | Schedule, temperature: float) -> ClientRule:
    """Keep what the received model tells of the classes that a row is not of.

    With q and q_x the softmax of logits / t over the classes other than a row's own, in the
    client's model and in the received one::

        loss + beta * t^2 * mean(sum_c q_x(c) log(q_x(c) / q(c)))

    Args:
        beta: strength, >= 0, or a schedule of it.
        temperature: t, > 0.

    Source: FedNTD, Lee et al. (2022), arXiv 2106.03097, equations 4 to 6; the factor t^2 is that
    of the authors' code, and 1 with their t = 1.
    """
    checks.number("beta", beta, ">= 0", schedule=True)
    checks.number("temperature", temperature, "> 0")
    return ClientRule(
        name="distilling", objective=Objective(not_true, received=True),
        scalars={"beta": beta, "temperature": temperature},
    )  # fmt: skip


def decorrelating(beta: float | Schedule) -> ClientRule:
    """Keep the features of a batch from being correlated with each other.

    With K [D, D] the correlation matrix of the features of a batch::

        loss + beta / D^2 * ||K||_F^2

    Args:
        beta: strength, >= 0, or a schedule of it.

    Source: FedDecorr, Shi et al. (2023), arXiv 2210.00226, equation 6.
    """
    checks.number("beta", beta, ">= 0", schedule=True)
    objective = Objective(correlation)
    return ClientRule(name="decorrelating", objective=objective, scalars={"beta": beta})


def calibrating(tau: float | Schedule) -> ClientRule:
    """Ask more of the logits of classes of which a client has few rows.

    With f the logits and n_c a client's rows of class c (1e-8 for none), the loss is::

        mean(-log(e^(f_y - tau n_y^(-1/4)) / sum_c e^(f_c - tau n_c^(-1/4))))

    in the place of the cross-entropy.

    Args:
        tau: strength, >= 0 (0 is the cross-entropy), or a schedule of it.

    Source: FedLC, Zhang et al. (2022), arXiv 2209.00189, equation 6; the sum is over all classes:
    over the others alone, the loss would have no lower bound and the row's own margin no gradient.
    """
    checks.number("tau", tau, ">= 0", schedule=True)
    objective = Objective(calibration, held=True, entropy=True)
    return ClientRule(name="calibrating", objective=objective, scalars={"tau": tau})


def calibration(ops: Any, seen: Seen, numbers: Mapping[str, Any]) -> Any:
    """Return FedLC's loss without the cross-entropy that it takes the place of."""
    margin = numbers["tau"] * ops.power(ops.maximum(seen.held, _SMALL), -0.25)
    logits = seen.own.logits
    gained = ops.log_softmax(logits) - ops.log_softmax(logits - margin)
    return mean(ops, ops.sum(gained * seen.truth, axis=-1), seen.counts)


def contrast(ops: Any, seen: Seen, numbers: Mapping[str, Any]) -> Any:
    """Return MOON's term."""
    assert seen.received is not None and seen.last is not None
    z = seen.own.features
    near = _cosine(ops, z, seen.received.features) / numbers["temperature"]
    far = _cosine(ops, z, seen.last.features) / numbers["temperature"]
    return numbers["mu"] * mean(ops, ops.softplus(far - near), seen.counts)


def not_true(ops: Any, seen: Seen, numbers: Mapping[str, Any]) -> Any:
    """Return FedNTD's term."""
    assert seen.received is not None
    t, others = numbers["temperature"], 1.0 - seen.truth
    far = -1e9 * seen.truth  # Out of the softmax.
    own = ops.log_softmax(seen.own.logits / t + far)
    theirs = ops.log_softmax(seen.received.logits / t + far)
    each = ops.sum(ops.exp(theirs) * (theirs - own) * others, axis=-1)
    return numbers["beta"] * t * t * mean(ops, each, seen.counts)


def correlation(ops: Any, seen: Seen, numbers: Mapping[str, Any]) -> Any:
    """Return FedDecorr's term."""
    z, counts = seen.own.features, seen.counts[:, None]
    rows = ops.maximum(ops.sum(seen.counts), 1.0)
    centred = (z - ops.sum(z * counts, axis=0) / rows) * counts
    spread = ops.sqrt(ops.sum(ops.square(centred), axis=0) / rows + _SMALL)
    scaled = centred / spread
    matrix = ops.matmul(ops.transpose(scaled), scaled) / rows
    return numbers["beta"] * ops.mean(ops.square(matrix))


def _cosine(ops: Any, a: Any, b: Any) -> Any:
    lengths = ops.sum(a * a, axis=-1) * ops.sum(b * b, axis=-1)
    return ops.sum(a * b, axis=-1) / ops.sqrt(lengths + _SMALL**2)
