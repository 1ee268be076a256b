"""Reducers that stream: a cohort of any size costs the memory of one partial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import exp

from strategies import checks
from strategies.algorithm import Algorithm
from strategies.stacked import head_of, squared_norm
from strategies.steps import step_weight
from strategies.sums import Streaming, Sums
from strategies.updates import Mean, Update
from strategies.weights import Weights, check_weights, weight_of


@dataclass(frozen=True)
class WeightedMean(Streaming):
    """The weighted mean of the updates: ``sum_i a_i * delta_i / sum_i a_i``.

    Args:
        by: ``"examples"`` (a_i is the client's number of examples) or ``"uniform"`` (a_i = 1).
            None is ``"examples"``, unless cohorts are drawn by size: see
            :func:`~strategies.weights.weighed`.

    Raises:
        ValueError: for another ``by``; in ``finish`` if no client has any weight; if clients
            upload different extras.

    Source: McMahan et al. (2017), arXiv 1602.05629, Algorithm 1.
    """

    by: Weights = None

    def __post_init__(self) -> None:
        check_weights(self.by)

    @property
    def by_examples(self) -> bool:
        """Whether clients weigh by their examples."""
        return self.by != "uniform"

    def weigh(self, update: Update) -> float:
        """Return the client's number of examples, or 1."""
        return weight_of(update.examples, self.by)


SQUARE, PATH = "mean_square", "path"
"""Metrics of a :class:`~strategies.updates.Mean`: see :class:`MeasuredMean`."""


@dataclass(frozen=True)
class MeasuredMean(WeightedMean):
    """The weighted mean, with two numbers for the server rule, weighted alike.

    ``mean_square`` is the mean of ``||delta_i||^2`` over the trainable part, ``path`` that of
    ``||a_i||_1 * lr_i``: how far a gradient that is the same in all steps moves a client (see
    :func:`~strategies.steps.step_weight`). The second needs clients with SGD, and is left out where
    they report no learning rate.
    """

    def tally(self, update: Update) -> dict[str, float]:
        """Return the client's path times its weight."""
        steps = step_weight(update.steps, update.momentum, update.nesterov)
        return {PATH: self.weigh(update) * steps * update.learning_rate}

    def finish(self, partial: Sums) -> Mean:
        """Return the mean with both numbers."""
        mean, path = super().finish(partial), partial.tallies[PATH] / partial.weight
        told: Mapping[str, float] = {PATH: path} if path > 0 else {}
        square = partial.squares / partial.weight
        return replace(mean, metrics={**mean.metrics, SQUARE: square, **told})


@dataclass(frozen=True)
class NormalizedMean(Streaming):
    """FedNova: average directions per local step, then take the cohort's number of steps.

    With ``p_i = n_i / sum_j n_j`` and ``tau_i`` the client's steps::

        delta = (sum_i p_i tau_i) * sum_i p_i delta_i / tau_i

    With clients whose SGD has momentum, tau_i is replaced by the weight that their steps have
    together, ||a_i||_1: see :func:`~strategies.steps.step_weight`. Moving statistics are averaged
    with weights n_i / tau_i. Other optimisers are refused.

    Args:
        momentum: of the clients' SGD, in [0, 1); None takes what each client reports.
        by: ``"examples"``, or ``"uniform"``: every n_i is 1. None: see
            :func:`~strategies.weights.weighed`.

    Raises:
        ValueError: if momentum is out of its range.

    Source: Wang et al. (2020), arXiv 2007.07481, equations 6 and 7 and section 4 (SGD with
    momentum); p_i is taken over the round's cohort.
    """

    momentum: float | None = None
    by: Weights = None

    sgd = True

    def __post_init__(self) -> None:
        if self.momentum is not None:
            checks.number("client_momentum", self.momentum, "in [0, 1)")
        check_weights(self.by)

    def steps(self, update: Update) -> float:
        """Return the weight of the client's steps (their number without momentum)."""
        momentum = update.momentum if self.momentum is None else self.momentum
        return step_weight(update.steps, momentum, update.nesterov)

    def weigh(self, update: Update) -> float:
        """Return n_i / tau_i; 0 for a client that took no step."""
        return weight_of(update.examples, self.by) / self.steps(update) if update.steps else 0.0

    def tally(self, update: Update) -> dict[str, float]:
        """Return n_i and n_i * tau_i."""
        n = weight_of(update.examples, self.by)
        return {"examples": n, "steps": n * self.steps(update)}

    def scale(self, total: Sums) -> float:
        """Return ``(sum p_i tau_i) * (sum p_i / tau_i)``."""
        examples = total.tallies["examples"]
        return (total.tallies["steps"] / examples) * (total.weight / examples)


@dataclass(frozen=True)
class FairMean(Streaming):
    """q-FedAvg: clients with a larger loss weigh more.

    With F_i the client's loss of the received model and ``L = 1 / learning rate``::

        delta = L * sum_i F_i^q delta_i / sum_i h_i
        h_i   = q F_i^(q-1) ||L delta_i||^2 + L F_i^q

    q = 0 is the plain mean. The norm is that of the trainable part; moving statistics are averaged
    with weights F_i^q.

    Args:
        q: fairness, >= 0.
        lipschitz: L, > 0; None takes 1 / learning rate of each client.

    Raises:
        ValueError: if an option is out of its range, a client has no ``initial_loss``, or no
            learning rate where it is needed.

    Source: Li et al. (2020), arXiv 1905.10497, Algorithm 2. The paper samples clients in
    proportion to their examples and then weighs them equally: that is the sampling ``by-size``.
    With uniform sampling they weigh equally all the same: all clients count alike, not all
    examples.
    """

    q: float = 0.1
    lipschitz: float | None = None

    def __post_init__(self) -> None:
        checks.number("q", self.q, ">= 0")
        if self.lipschitz is not None:
            checks.number("lipschitz", self.lipschitz, "> 0")

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse clients that do not measure the loss of the received model."""
        return _unmeasured("q-FedAvg", algorithm)

    def constant(self, update: Update) -> float:
        """Return L."""
        if self.lipschitz is not None:
            return self.lipschitz
        if not update.learning_rate > 0:
            raise ValueError(
                "learning_rate of the clients must be > 0 unless lipschitz is given, "
                f"got {update.learning_rate}"
            )
        return 1 / update.learning_rate

    def loss(self, update: Update) -> float:
        """Return F_i, kept from 0 so that its powers are finite."""
        return max(initial_loss(update), 1e-10)

    def weigh(self, update: Update) -> float:
        """Return ``L * F_i^q``."""
        return float(self.constant(update) * self.loss(update) ** self.q)

    def tally(self, update: Update) -> dict[str, float]:
        """Return h_i."""
        scale, loss = self.constant(update), self.loss(update)
        cut = update.delta.size if update.trainable is None else update.trainable
        squared = scale**2 * squared_norm(head_of(update.delta, cut))
        return {"h": self.q * loss ** (self.q - 1) * squared + scale * loss**self.q}

    def scale(self, total: Sums) -> float:
        """Return ``sum L F_i^q / sum h_i``."""
        return total.weight / total.tallies["h"]


MOST_TILT = 600.0
"""Exponents of :class:`TiltedMean`, at most: e^600 times squared norms, added up, is finite."""


@dataclass(frozen=True)
class TiltedMean(Streaming):
    """TERM: clients weigh by the exponential of their loss.

    With F_i the client's loss of the received model, over all clients alike::

        delta = sum_i e^(t F_i) delta_i / sum_i e^(t F_i)

    t = 0 is the plain mean; the larger t, the closer to the client with the largest loss alone, as
    in agnostic federated learning (Mohri et al., 2019, arXiv 1902.00146). Exponents above 600 count
    as 600: clients beyond that weigh alike. Moving statistics are averaged with the same weights.

    Args:
        t: the tilt, >= 0.

    Raises:
        ValueError: if t is negative, or a client has no ``initial_loss``.

    Source: Li et al. (2021), arXiv 2007.01162, with the losses of the round's cohort for those of
    all clients.
    """

    t: float = 1.0

    def __post_init__(self) -> None:
        checks.number("t", self.t, ">= 0")

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse clients that do not measure the loss of the received model."""
        return _unmeasured("TERM", algorithm)

    def weigh(self, update: Update) -> float:
        """Return ``e^(t F_i)``."""
        return exp(min(self.t * initial_loss(update), MOST_TILT))


def initial_loss(update: Update) -> float:
    """Return the client's loss of the received model.

    Raises:
        ValueError: if it has not measured it.
    """
    if "initial_loss" not in update.metrics:
        raise ValueError(
            f"metrics of client {update.client} must have 'initial_loss', "
            f"got {sorted(update.metrics)}"
        )
    return float(update.metrics["initial_loss"])


def _unmeasured(name: str, algorithm: Algorithm) -> str | None:
    if algorithm.client.initial_loss:
        return None
    return f"{name} weighs clients by initial_loss, which this client rule does not measure"
