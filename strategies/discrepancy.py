"""FedDisco: clients weigh less the further their labels are from those of all."""

from __future__ import annotations

from dataclasses import dataclass, replace

from strategies import checks
from strategies.algorithm import Algorithm
from strategies.client_rule import ClientRule
from strategies.label_discrepancy import DISCREPANCY, RELATIVE_SIZE, LabelDiscrepancy
from strategies.sums import Streaming, Sums
from strategies.updates import Mean, Update
from strategies.weights import Weights, check_weights


def telling_discrepancy(distance: str = "kl", target: str = "global") -> ClientRule:
    """Train plainly, and tell how far the client's labels are from those of all clients.

    Args:
        distance: ``"kl"`` or ``"l2"``: see :class:`~strategies.label_discrepancy.LabelDiscrepancy`.
        target: ``"global"`` or ``"uniform"``: likewise.

    Raises:
        ValueError: for an unknown distance or target.

    Source: FedDisco, Ye et al. (2023), arXiv 2305.19229.
    """
    return ClientRule(name="telling discrepancy", discrepancy=LabelDiscrepancy(distance, target))


@dataclass(frozen=True)
class DiscrepancyMean(Streaming):
    """FedDisco: the mean with weights by size and by the discrepancy of labels.

    With n_i a client's examples, d_i the distance of its labels' distribution from that of all
    clients, and the means over all registered clients::

        p_i   = max(0, n_i / mean n - a * d_i / mean d + b)
        delta = sum_i p_i delta_i / sum_i p_i

    A cohort of whom nobody weighs anything moves nothing, nor does a client without examples.

    Args:
        a: how much the discrepancy counts, >= 0.
        b: what every client weighs besides, >= 0.
        by: ``"examples"``, or ``"uniform"``: every n_i is 1. None: see
            :func:`~strategies.weights.weighed`.

    Raises:
        ValueError: if an option is out of its range, or a client does not tell its ``discrepancy``
            and ``relative_size``.

    Source: Ye et al. (2023), arXiv 2305.19229, with sizes and discrepancies in units of
    their means over all clients. The paper's add up to 1 over K clients who all take part: its a
    is this one, its b is 1 / K of this one.
    """

    a: float = 0.5
    b: float = 1.0
    by: Weights = None

    def __post_init__(self) -> None:
        checks.number("a", self.a, ">= 0")
        checks.number("b", self.b, ">= 0")
        check_weights(self.by)

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse clients that do not tell how far their labels are from those of all."""
        if algorithm.client.discrepancy is not None:
            return None
        return "FedDisco weighs clients by their discrepancy, which this client rule does not tell"

    def weigh(self, update: Update) -> float:
        """Return p_i."""
        size = told(update, RELATIVE_SIZE)
        if not update.examples:
            return 0.0
        size = 1.0 if self.by == "uniform" else size
        return max(0.0, size - self.a * told(update, DISCREPANCY) + self.b)

    def finish(self, partial: Sums) -> Mean:
        """Divide by the total weight, where anybody weighs anything."""
        examples = 0.0 if partial.moved is None else partial.moved.weight
        if partial.weight or not examples:
            return super().finish(partial)
        return replace(super().finish(replace(partial, weight=1.0)), weight=0.0)


def told(update: Update, name: str) -> float:
    """Return what a client tells of its labels or its size.

    Raises:
        ValueError: if it does not.
    """
    if name not in update.metrics:
        raise ValueError(
            f"metrics of client {update.client} must have {name!r}, got {sorted(update.metrics)}"
        )
    return float(update.metrics[name])
