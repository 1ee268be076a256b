"""FLTrust: updates count as far as they agree with one of the server's own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import sqrt

import numpy as np

from strategies.algorithm import Algorithm
from strategies.protocols import Round, State
from strategies.robust import Kept, Robust
from strategies.spec import Vector
from strategies.stacked import squared_norm
from strategies.sums import DRIFT, add_scaled
from strategies.updates import Mean

SERVER_UPDATE = "server.update"
"""Name of the server's own update [P] beside its state, where a reducer is told of it."""


@dataclass(frozen=True)
class TrustedMean(Robust):
    """FLTrust: the mean of updates as long as the server's, weighted by how they agree with it.

    With g what training on the server's own examples moves the received model by::

        t_i   = max(0, cos(g, delta_i))
        delta = sum_i t_i ||g|| / ||delta_i|| delta_i / sum_i t_i

    over the trainable part; moving statistics are averaged with the weights t_i. A cohort of whom
    nobody agrees moves nothing.

    Args:
        server: g, given by :meth:`during`.

    Raises:
        ValueError: in ``finish`` where there is no g.

    Source: Cao et al. (2021), arXiv 2012.13995, section IV-B and Algorithm 2.
    """

    server: Vector | None = field(default=None, repr=False, compare=False)

    trains_on_server = True

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse clients whose training the server cannot do as they do, or who send more."""
        rule = algorithm.client
        if not (rule.keeps or rule.phases or rule.candidates or rule.uploads):
            return None
        return (
            "FLTrust compares updates with one that the server trains in the same way, which is "
            f"not to be had with the client rule {rule.name!r}"
        )

    def during(self, at: Round, state: State) -> TrustedMean:
        """Return the reducer that knows the server's update of a round."""
        return replace(self, server=state.get(SERVER_UPDATE, self.server))

    def finish(self, partial: Kept) -> Mean:
        """Combine the updates, in the order of the clients' numbers."""
        if self.server is None:
            raise ValueError("server update must be given to FLTrust, got none")
        cohort = partial.in_order()
        cut = len(cohort.heads()[0])
        own = np.asarray(self.server[:cut], np.float64)
        length = sqrt(squared_norm(own))
        norms = [sqrt(squared_norm(head)) for head in cohort.heads()]
        trust = [
            max(0.0, _product(own, head) / (length * norm)) if length * norm > 0 else 0.0
            for head, norm in zip(cohort.heads(), norms, strict=True)
        ]
        total = np.zeros(len(cohort.deltas[0]))
        for delta, t, norm in zip(cohort.deltas, trust, norms, strict=True):
            if t > 0:
                add_scaled(total[:cut], [delta[:cut]], [t * length / norm])
                add_scaled(total[cut:], [delta[cut:]], [t])
        if sum(trust) > 0:
            total /= sum(trust)
        weight = float(sum(cohort.examples))
        return Mean(total, {}, weight, len(cohort.clients), metrics={DRIFT: cohort.drift()})


def _product(a: Vector, b: Vector) -> float:
    return float(np.einsum("i,i->", a, b, dtype=np.float64))
