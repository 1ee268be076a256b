"""Strategies whose clients send means by class in the place of models: FedProto, FedDistill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from strategies import checks
from strategies.algorithm import Algorithm
from strategies.client_rule import ClientRule
from strategies.drift import not_uniform
from strategies.objective import KNOWN, MEANS, OF_CLASSES, Objective, Seen, Term, mean
from strategies.phases import EVERYTHING
from strategies.protocols import Round, State
from strategies.schedules import Schedule
from strategies.server_state import ServerState
from strategies.servers import move
from strategies.spec import Spec, Vector
from strategies.updates import Mean


def prototypes(mu: float | Schedule) -> ClientRule:
    """Keep the model, and pull the features of a row to the mean of its class over all clients.

    With z [D] the features of a row and c_y the shared mean of its class::

        loss + mu * mean((z - c_y)^2)

    over rows and features; rows of classes of which nothing is known yet add nothing. After its
    training a client tells the means of the features of its rows, by class.

    Args:
        mu: strength, >= 0, or a schedule of it; the paper's lambda.

    Source: FedProto, Tan et al. (2022), arXiv 2105.00243, equations 3 and 7 and Algorithm 1; the
    distance is that of the authors' code.
    """
    checks.number("mu", mu, ">= 0", schedule=True)
    return _telling("prototypes", "features", to_prototypes, {"mu": mu})


def matching(gamma: float | Schedule) -> ClientRule:
    """Keep the model, and learn from the mean logits of a row's class over all clients.

    With f [K] the logits of a row and g_y the shared mean of its class::

        loss + gamma * mean(KL(softmax(g_y) || softmax(f)))

    over rows; those of classes of which nothing is known yet add nothing. After its training a
    client tells the means of the logits of its rows, by class.

    Args:
        gamma: strength, >= 0, or a schedule of it.

    Source: federated distillation, Jeong et al. (2018), arXiv 1811.11479, Algorithm 1, where the
    logits are those met while training, and a client's own means are taken out of what it gets;
    here all get the same, as in FedDistill of Zhu, Hong and Zhou (2021), arXiv 2105.10056.
    """
    checks.number("gamma", gamma, ">= 0", schedule=True)
    return _telling("matching logits", "logits", to_logits, {"gamma": gamma})


def _telling(
    name: str, means: Literal["features", "logits"], term: Term, scalars: Mapping[str, Any]
) -> ClientRule:
    return ClientRule(
        name=name, objective=Objective(term, means=means), local=(EVERYTHING,), scalars=scalars,
        uploads=OF_CLASSES, uses=OF_CLASSES,
    )  # fmt: skip


def to_prototypes(ops: Any, seen: Seen, numbers: Mapping[str, Any]) -> Any:
    """Return FedProto's term."""
    far = ops.mean(ops.square(seen.own.features - ops.matmul(seen.truth, seen.means)), axis=-1)
    return numbers["mu"] * mean(ops, far * _known(ops, seen), seen.counts)


def to_logits(ops: Any, seen: Seen, numbers: Mapping[str, Any]) -> Any:
    """Return FedDistill's term."""
    theirs = ops.log_softmax(ops.matmul(seen.truth, seen.means))
    own = ops.log_softmax(seen.own.logits)
    each = ops.sum(ops.exp(theirs) * (theirs - own), axis=-1)
    return numbers["gamma"] * mean(ops, each * _known(ops, seen), seen.counts)


def _known(ops: Any, seen: Seen) -> Any:
    """Return whether anything is known of the class of each row [n]."""
    return ops.sum(seen.truth * seen.known, axis=-1)


@dataclass(frozen=True, eq=False)
class ClassMeansState(ServerState):
    """What the server knows of each class.

    Args:
        means: of each, float64 [K * D], row by row; 0 where nothing is known.
        known: 1 for the classes of which something is, float64 [K].
    """

    means: NDArray[np.float64]
    known: NDArray[np.float64]


@dataclass(frozen=True)
class ClassMeans:
    """The server rule of FedProto and FedDistill.

    With S_k the clients of the cohort who have rows of class k, and m_i,k what they tell::

        m_k <- mean over S_k of m_i,k

    Where nobody has any, what was known stays. The model moves by the mean update, which is zero
    where models stay on the clients.

    Source: Tan et al. (2022), arXiv 2105.00243, equation 6, where clients weigh by their rows of
    the class; alike, as here, in the authors' code.
    """

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse clients who tell nothing of their classes, and means that are not uniform."""
        rule = algorithm.client
        if not set(OF_CLASSES) <= set(rule.uploads):
            return f"a mean by class needs clients who tell theirs, got {rule.name!r}"
        if not_uniform("", algorithm) is None:
            return None
        return (
            "in a mean by class clients weigh alike, which only WeightedMean('uniform') has them "
            f"do, got {algorithm.reducer}"
        )

    def init(self, model: Vector) -> ClassMeansState:
        """Return what is known of no classes."""
        return ClassMeansState(np.zeros(0), np.zeros(0))

    def init_laid_out(self, spec: Spec, model: Vector) -> ClassMeansState:
        """Return what is known at first: nothing of any class."""
        classes, numbers = spec.of_classes
        return ClassMeansState(np.zeros(classes * numbers), np.zeros(classes))

    def step(
        self, model: Vector, state: State, mean: Mean, at: Round
    ) -> tuple[Vector, ClassMeansState]:
        """Return the next model, and what is known of the classes."""
        before, share = ClassMeansState.of(state), mean.extras[KNOWN]
        classes, met = share.size, share > 0
        told = mean.extras[MEANS].reshape(classes, -1)
        # Without a layout, nobody knew of how many classes the clients would tell.
        old = before.means if before.known.size else np.zeros(told.size)
        known = np.maximum(before.known if before.known.size else np.zeros(classes), met)
        now = told / np.where(met, share, 1.0)[:, None]
        means = np.where(met[:, None], now, old.reshape(told.shape))
        return move(model, mean.delta), ClassMeansState(means.ravel(), known.astype(np.float64))

    def share(self, state: State) -> Mapping[str, Any]:
        """Return the means, and of which classes they are known."""
        now = ClassMeansState.of(state)
        return {MEANS: now.means, KNOWN: now.known}
