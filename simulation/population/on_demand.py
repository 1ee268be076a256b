"""Clients that exist only when somebody looks: a million of them cost no memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strategies.random_streams import stream

CLIENT = 0x436C
"""Purpose of the random stream that draws the rows of one client."""

LAWS = ("symmetric", "prior")
"""Dirichlet laws of the label distribution: see :class:`OnDemand`."""


def validation_size(rows: int, validation: float) -> int:
    """Return how many of a client's rows are for validation.

    It is ``validation * rows`` to the nearest whole number (a half goes up), but one row at least
    is left for training.
    """
    return min(int(validation * rows + 0.5), rows - 1)


@dataclass(frozen=True)
class OnDemand:
    """Clients that draw their rows when asked, the same ones every time.

    Client i takes ``examples`` rows without replacement, from the stream (seed, client i); two
    clients may hold the same row. With ``alpha`` its labels follow a Dirichlet law over the K
    classes, of which p are the shares in the data; without it all rows are equally likely::

        symmetric    q_i ~ Dirichlet(alpha, ..., alpha)        concentrations that sum to K alpha
        prior        q_i ~ Dirichlet(alpha * p)                concentrations that sum to alpha

    With ten classes alike, alpha = 0.3 gives clients of 3.4 effective classes, 1 / sum_k q_k^2, by
    the first law and of 1.4 by the second, which is that of Hsu et al. (2019), arXiv 1909.06335.

    Args:
        clients: how many there are.
        seed: whole number >= 0.
        examples: rows of each client, training and validation together.
        validation: which part of them is for validation, in [0, 1).
        by_class: the rows sorted by label, int32 [N].
        starts: where each class begins in ``by_class``, and its length at the end; int64 [K + 1].
        alpha: concentration of the label distribution; None for no skew.
        law: one of :data:`LAWS`, for alpha.
    """

    clients: int
    seed: int
    examples: int
    validation: float
    by_class: NDArray[np.int32]
    starts: NDArray[np.int64]
    alpha: float | None = None
    law: str = "symmetric"

    def __len__(self) -> int:
        """Return the number of clients."""
        return self.clients

    def rows(self, client: int) -> NDArray[np.int32]:
        """Return the rows of a client, in random order; those for training come first."""
        if not 0 <= client < self.clients:
            raise IndexError(f"client must be between 0 and {self.clients - 1}, got {client}")
        rng = stream(self.seed, CLIENT, client)
        total = len(self.by_class)
        if self.alpha is None:
            return self.by_class[rng.choice(total, self.examples, replace=False)]
        counts = self._counts(rng)
        rows = [
            self.by_class[self.starts[k] + rng.choice(sizes, counts[k], replace=False)]
            for k, sizes in enumerate(np.diff(self.starts))
            if counts[k] > 0
        ]
        return rng.permutation(np.concatenate(rows))

    def _counts(self, rng: np.random.Generator) -> NDArray[np.int64]:
        # Multinomial, drawn again for what a class cannot give.
        room = np.diff(self.starts)
        assert self.alpha is not None
        prior = room / room.sum() if self.law == "prior" else np.ones(len(room))
        # Not below the smallest that NumPy draws from without a division by zero.
        weights = rng.dirichlet(np.maximum(self.alpha * prior, np.finfo(np.float64).tiny))
        counts = np.zeros(len(room), np.int64)
        while (need := self.examples - int(counts.sum())) > 0:
            left = room - counts
            weights = np.where(left > 0, weights, 0)
            if weights.sum() <= 0:
                weights = left.astype(np.float64)
            counts += np.minimum(rng.multinomial(need, weights / weights.sum()), left)
        return counts

    def train_rows(self, client: int) -> NDArray[np.int32]:
        """Return the rows that a client trains on, int32."""
        return self.rows(client)[: self._train]

    def validation_rows(self, client: int) -> NDArray[np.int32]:
        """Return the rows that a client keeps for validation, int32, perhaps none."""
        return self.rows(client)[self._train :]

    @property
    def _train(self) -> int:
        return self.examples - validation_size(self.examples, self.validation)

    @property
    def train_sizes(self) -> NDArray[np.int32]:
        """Training rows of every client, int32 [clients] (one number, seen many times)."""
        return np.broadcast_to(np.int32(self._train), (self.clients,))

    @property
    def validation_sizes(self) -> NDArray[np.int32]:
        """Validation rows of every client, int32 [clients]."""
        return np.broadcast_to(np.int32(self.examples - self._train), (self.clients,))
