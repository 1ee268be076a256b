"""Clients that attack together: they send what they make of the honest updates of a round.

With m the mean and s the deviation of the honest updates x_i, coordinate by coordinate::

    alie       m - z s,  z = Phi^-1((n - a - supporters) / (n - a)),  supporters = n // 2 + 1 - a
    ipm        -e m
    min-max    m - g s,  the largest g with max_i ||m - g s - x_i|| <= max_ij ||x_i - x_j||
    min-sum    m - g s,  the largest g with sum_i ||m - g s - x_i||^2 <= max_i sum_j ||x_i - x_j||^2
    fang       between min_i x_i and b times as low where m > 0, else between max_i x_i and b times
               as high, each attacker at random; of an end on the other side of 0 it is 1 / b times

n clients take part, a of them attackers; supporters are at least 1. All but those of ``fang`` send
one and the same update. Attackers know the honest updates of their round; where nobody is honest
they send 0.

Source: ALIE, Baruch et al. (2019), arXiv 1902.06156, Algorithm 3 (whose attackers know their own
updates alone); IPM, Xie et al. (2020), arXiv 1903.03936; min-max and min-sum, Shejwalkar and
Houmansadr (2021), NDSS, with the deviation as their direction; Fang et al. (2020), arXiv
1911.11815, section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

from strategies.algorithm import Algorithm
from strategies.geometry import by_columns, squared_distances
from strategies.optional_protocols import refusal
from strategies.protocols import Reducer, Round, State
from strategies.random_streams import round_stream
from strategies.reducing import bound, finish, fold_all, merge_all
from strategies.spec import Vector
from strategies.stacked import squared_norm
from strategies.sums import add_scaled
from strategies.updates import Mean, Update

SEE_ALL = ("min-max", "min-sum")
"""Attacks that need every honest update, and not their moments or ends alone."""

BEYOND = 0x4661
"""Purpose of the random stream from which attackers of ``fang`` draw."""


@dataclass
class Seen:
    """The partial of :class:`Colluding`.

    Args:
        honest: the partial of the honest updates; None while there is none.
        colluders: the attackers' updates, without their deltas.
        size: P of the model.
        count: how many honest updates there are.
        total: their sum, float64 [P]; None while there is none.
        squares: the sum of their squares, float64 [P].
        lowest: of each coordinate, float32 [P]; None where nobody asks for it.
        highest: of each coordinate, float32 [P].
        clients: their numbers, where every update is needed.
        deltas: the updates [P] of these clients.
    """

    honest: Any = None
    colluders: list[Update] = field(default_factory=list)
    size: int = 0
    count: int = 0
    total: Vector | None = None
    squares: Vector | None = None
    lowest: Vector | None = None
    highest: Vector | None = None
    clients: list[int] = field(default_factory=list)
    deltas: list[Vector] = field(default_factory=list)


@dataclass(frozen=True)
class Colluding:
    """A reducer to which attackers send an update that they make of the honest ones.

    What they see of these folds and merges beside them, so that it depends on no number of workers.

    Args:
        reducer: folds what honest clients and attackers send.
        attackers: numbers of the clients that attack.
        kind: one of :data:`simulation.config.attack.COLLUDING`.
        strength: z of ``alie`` (None: as above), e of ``ipm``, b of ``fang``.
        now: the round, given by :meth:`during`.
    """

    reducer: Reducer
    attackers: frozenset[int] = field(repr=False)
    kind: str = "alie"
    strength: float | None = None
    now: Round = field(default=Round(0, 0), repr=False, compare=False)

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse what the reducer behind refuses."""
        return refusal(self.reducer, algorithm)

    def at(self, shared: Mapping[str, Any]) -> Colluding:
        """Return the reducer of a round."""
        return replace(self, reducer=bound(self.reducer, shared))

    def during(self, now: Round, state: State) -> Colluding:
        """Return the reducer that finishes a round."""
        return replace(self, now=now)

    def lift(self, update: Update) -> Seen:
        """Return one client's partial."""
        return self.fold(None, update)

    def fold(self, partial: Seen | None, update: Update) -> Seen:
        """Add a client in place."""
        return self.fold_many(partial, [update])

    def fold_many(self, partial: Seen | None, updates: Sequence[Update]) -> Seen:
        """Add clients in place, one after the other."""
        seen = Seen(size=updates[0].delta.size) if partial is None else partial
        honest = [u for u in updates if u.client not in self.attackers]
        nothing = np.zeros(0, np.float32)
        seen.colluders += [
            replace(u, delta=nothing, moved=None) for u in updates if u.client in self.attackers
        ]
        if not honest:
            return seen
        seen.honest = fold_all(self.reducer, seen.honest, honest)
        self._look(seen, honest)
        return seen

    def _look(self, seen: Seen, honest: Sequence[Update]) -> None:
        """Add to what colluders see of the honest updates."""
        seen.count += len(honest)
        if self.kind in SEE_ALL:
            seen.clients += [u.client for u in honest]
            seen.deltas += [u.delta for u in honest]
            return
        if seen.total is None or seen.squares is None:
            seen.total, seen.squares = np.zeros(seen.size), np.zeros(seen.size)
        for update in honest:
            add_scaled(seen.total, [update.delta], [1.0])
            seen.squares += np.square(update.delta, dtype=np.float64)
            if self.kind == "fang":
                seen.lowest = _either(np.minimum, seen.lowest, update.delta)
                seen.highest = _either(np.maximum, seen.highest, update.delta)

    def merge(self, a: Seen, b: Seen) -> Seen:
        """Return what is known of both groups, in arrays of its own."""
        if a.honest is None or b.honest is None:
            honest = deepcopy(b.honest if a.honest is None else a.honest)
        else:
            honest = self.reducer.merge(a.honest, b.honest)
        return self._join(a, b, honest)

    def absorb(self, a: Seen, b: Seen) -> Seen:
        """Return what is known of both groups; the first partial is one's own."""
        if a.honest is None:
            return self._join(a, b, deepcopy(b.honest))
        return self._join(a, b, merge_all(self.reducer, (a.honest, b.honest), own=True))

    @staticmethod
    def _join(a: Seen, b: Seen, honest: Any) -> Seen:
        return Seen(
            honest,
            a.colluders + b.colluders,
            a.size,
            a.count + b.count,
            _either(np.add, a.total, b.total),
            _either(np.add, a.squares, b.squares),
            _either(np.minimum, a.lowest, b.lowest),
            _either(np.maximum, a.highest, b.highest),
            a.clients + b.clients,
            a.deltas + b.deltas,
        )

    def finish(self, partial: Seen) -> Mean:
        """Let the attackers send their update, and return the mean of all."""
        if not partial.colluders:
            return self.reducer.finish(partial.honest)
        theirs = fold_all(self.reducer, None, self.theirs(partial))
        return self.reducer.finish(merge_all(self.reducer, (partial.honest, theirs)))

    def nobody(self, size: int) -> Mean | None:
        """Return the mean of an empty cohort."""
        return finish(self.reducer, None, size)

    def theirs(self, seen: Seen) -> list[Update]:
        """Return the updates that attackers send, in the order of their numbers."""
        ordered = sorted(seen.colluders, key=lambda update: update.client)
        if self.kind == "fang" and seen.count:
            deltas = [self._beyond(seen, update.client) for update in ordered]
        else:
            deltas = [self.sent(seen)] * len(ordered)
        pairs = zip(ordered, deltas, strict=True)
        return [replace(update, delta=delta.astype(np.float32)) for update, delta in pairs]

    def _beyond(self, seen: Seen, client: int) -> Vector:
        """Return what an attacker of ``fang`` sends: beyond all others, against their mean."""
        assert seen.total is not None
        assert seen.lowest is not None
        assert seen.highest is not None
        upwards, factor = seen.total > 0, float(self.strength or 1.0)
        end = np.where(upwards, seen.lowest, seen.highest).astype(np.float64)
        # Times b it is further out where it lies on the side that the attack goes to.
        further = np.where((end < 0) == upwards, factor, 1 / factor)
        draw = round_stream(self.now, BEYOND, client).uniform(size=seen.size)
        return np.asarray(end * (1 + draw * (further - 1)))

    def sent(self, seen: Seen) -> Vector:
        """Return the update that every attacker sends, where it is one, float64 [P]."""
        if not seen.count:
            return np.zeros(seen.size)
        if self.kind in SEE_ALL:
            return self._largest(seen)
        assert seen.total is not None
        assert seen.squares is not None
        mean = seen.total / seen.count
        if self.kind == "ipm":
            return -float(self.strength or 0.0) * mean
        spread = np.sqrt(np.maximum(seen.squares / seen.count - mean**2, 0.0))
        return np.asarray(mean - self._z(seen) * spread)

    def _z(self, seen: Seen) -> float:
        """Return ALIE's z: supporters beyond it see the attackers nearer to the mean than they."""
        if self.strength is not None:
            return self.strength
        return supported(seen.count, len(seen.colluders))

    def _largest(self, seen: Seen) -> Vector:
        """Return the update that lies as far out as the honest ones do from each other."""
        order = np.argsort(seen.clients, kind="stable")
        rows = [seen.deltas[i] for i in order.tolist()]
        mean = by_columns(rows, lambda block: block.mean(axis=0))
        spread = by_columns(rows, lambda block: block.std(axis=0))
        norm = squared_norm(spread)
        if not norm > 0:  # All are equal: there is no other update that looks like them.
            return mean
        away = np.array([squared_norm(row - mean) for row in rows])
        if self.kind == "min-sum":
            return np.asarray(mean - sqrt(float(away.max()) / norm) * spread)
        # ||m - g s - x||^2 = ||m - x||^2 - 2 g s (m - x) + g^2 ||s||^2: the least root counts.
        most = float(squared_distances(rows).max())
        slope = np.array([float(np.einsum("i,i->", spread, mean - row)) for row in rows])
        roots = (slope + np.sqrt(slope**2 + norm * np.maximum(most - away, 0.0))) / norm
        return np.asarray(mean - float(roots.min()) * spread)


def supported(honest: int, attackers: int) -> float:
    """Return ALIE's z for so many honest clients and attackers, at least 0."""
    supporters = max(1, (honest + attackers) // 2 + 1 - attackers)
    share = (honest - supporters) / honest
    return max(0.0, NormalDist().inv_cdf(share)) if share > 0 else 0.0


def _either(join: Callable[..., Vector], a: Vector | None, b: Vector | None) -> Vector | None:
    """Return what two vectors are joined to, or a copy of the only one."""
    if a is None or b is None:
        one = b if a is None else a
        return None if one is None else one.copy()
    return join(a, b)
