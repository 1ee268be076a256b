"""What streaming reducers share: sums over clients that are folded in place and merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np

from strategies.spec import Vector
from strategies.stacked import Difference, Row, head_of, squared_norm
from strategies.updates import Mean, Update

DRIFT = "drift"
"""The metric of a :class:`~strategies.updates.Mean` that :func:`drift` gives."""

_BLOCK = 9_984
"""Entries folded at a time. The scratch (117 KiB) then stays in the processor's cache, and BLAS
takes vectors of up to 10,000 entries in one thread, always in the same way."""


@dataclass
class Sums:
    """The partial of a weighted mean: sums over clients, all in float64.

    Args:
        delta: sum of ``weight * delta``, [P].
        extras: sums of ``weight * extra`` by name, [T] each.
        weight: sum of the weights.
        clients: number of clients.
        tallies: further sums of numbers by name.
        squares: sum of ``weight * ||delta||^2`` over the trainable part.
        trainable: its length T.
        moved: the same sums with the examples as weights and deltas before encoding and clipping,
            over the trainable part, for :func:`drift`; None where these sums are those already.
    """

    delta: Vector
    extras: dict[str, Vector] = field(default_factory=dict)
    weight: float = 0.0
    clients: int = 0
    tallies: dict[str, float] = field(default_factory=dict)
    squares: float = 0.0
    trainable: int = 0
    moved: Sums | None = None


class Streaming:
    """A weighted mean of the updates: ``scale * sum_i a_i * delta_i / sum_i a_i``.

    A subclass gives the weight a_i, and if it needs any, tallies and the scale made of them.
    """

    only_sums = True

    def weigh(self, update: Update) -> float:
        """Return the client's weight a_i, >= 0."""
        raise NotImplementedError

    @property
    def by_examples(self) -> bool:
        """Whether a_i is the number of examples, so that drift needs no sums of its own."""
        return False

    def tally(self, update: Update) -> dict[str, float]:
        """Return further numbers to sum over the clients."""
        return {}

    def scale(self, total: Sums) -> float:
        """Return what the trainable part of the mean is to be multiplied by."""
        return 1.0

    def lift(self, update: Update) -> Sums:
        """Return the sums over one client."""
        return self.fold_many(None, [update])

    def merge(self, a: Sums, b: Sums) -> Sums:
        """Return the sums over both groups, in arrays of its own."""
        same_extras(a.extras, b.extras)
        return Sums(
            a.delta + b.delta,
            {name: a.extras[name] + b.extras[name] for name in a.extras},
            a.weight + b.weight,
            a.clients + b.clients,
            {name: a.tallies[name] + b.tallies[name] for name in a.tallies},
            a.squares + b.squares,
            a.trainable,
            None if a.moved is None or b.moved is None else self.merge(a.moved, b.moved),
        )

    def absorb(self, a: Sums, b: Sums) -> Sums:
        """Add the sums of ``b`` to those of ``a`` in place: the bits of ``merge``."""
        same_extras(a.extras, b.extras)
        a.delta += b.delta
        for name, extra in b.extras.items():
            a.extras[name] += extra
        for name, number in b.tallies.items():
            a.tallies[name] += number
        a.weight += b.weight
        a.clients += b.clients
        a.squares += b.squares
        if a.moved is not None and b.moved is not None:
            self.absorb(a.moved, b.moved)
        return a

    def merge_discounted(self, partials: Sequence[Sums], factors: Sequence[float]) -> Sums:
        """Return the sums over all groups, the deltas and extras of each times a factor.

        The denominator stays: ``sum_i a_i s_i delta_i / sum_i a_i``. So does drift.
        """
        first, cut = partials[0], partials[0].trainable
        for other in partials[1:]:
            same_extras(first.extras, other.extras)
        plain = [part if part.moved is None else part.moved for part in partials]
        moved = Sums(np.empty(cut), trainable=cut)
        total = Sums(np.empty_like(first.delta), trainable=cut, moved=moved)
        if all(a is b for a, b in zip(plain, partials, strict=True)):
            _add_both(total.delta, moved.delta, [part.delta for part in partials], factors)
        else:
            _add_all(total.delta, [part.delta for part in partials], factors)
            _add_all(moved.delta, [part.delta[:cut] for part in plain])
        for name in first.extras:
            total.extras[name] = np.empty_like(first.extras[name])
            _add_all(total.extras[name], [part.extras[name] for part in partials], factors)
        for into, parts in ((total, partials), (moved, plain)):
            into.weight = sum(part.weight for part in parts)
            into.clients = sum(part.clients for part in parts)
            into.squares = sum(part.squares for part in parts)
        for name in first.tallies:
            total.tallies[name] = sum(part.tallies[name] for part in partials)
        return total

    def fold(self, partial: Sums | None, update: Update) -> Sums:
        """Add a client to ``partial`` in place."""
        return self.fold_many(partial, [update])

    def fold_many(self, partial: Sums | None, updates: Sequence[Update]) -> Sums:
        """Add clients to ``partial`` in place, one after the other."""
        if not updates:
            raise ValueError("updates must have at least one entry, got none")
        if partial is not None:
            return self._add(partial, updates)
        size, cut = updates[0].delta.size, updates[0].trainable
        started = Sums(np.empty(size), trainable=size if cut is None else cut)
        return self._add(started, updates, first=True)

    def _add(self, partial: Sums, updates: Sequence[Update], first: bool = False) -> Sums:
        """Add clients in place; to a total that is still to be written when they are the first."""
        names = updates[0].extras if first else partial.extras
        for update in updates:
            same_extras(names, update.extras)
        weights = [self.weigh(update) for update in updates]
        deltas, cut = [update.delta for update in updates], partial.trainable
        squares = add_scaled(partial.delta, deltas, weights, cut, first)
        for update, weight, square in zip(updates, weights, squares, strict=True):
            for name, extra in update.extras.items():
                if first:
                    partial.extras[name] = np.multiply(extra, weight, dtype=np.float64)
                else:
                    add_scaled(partial.extras[name], [extra], [weight])
            for name, number in self.tally(update).items():
                partial.tallies[name] = number if first else partial.tallies[name] + number
            partial.weight += weight
            partial.squares += square
            partial.clients += 1
            first = False
        self._add_moved(partial, updates)
        return partial

    def _add_moved(self, partial: Sums, updates: Sequence[Update]) -> None:
        """Add to the sums that drift is made of, where they are not those of the mean."""
        if self.by_examples and updates[0].moved is None:
            return
        cut, fresh = partial.trainable, partial.moved is None
        if partial.moved is None:
            partial.moved = Sums(np.empty(cut), trainable=cut)
        moved, weights = partial.moved, [float(update.examples) for update in updates]
        ways = [head_of(u.delta if u.moved is None else u.moved, cut) for u in updates]
        moved.squares += sum(add_scaled(moved.delta, ways, weights, cut, fresh))
        moved.weight += sum(weights)
        moved.clients += len(updates)

    def finish(self, partial: Sums) -> Mean:
        """Divide by the total weight; the metric ``drift`` is how far the clients are apart."""
        total = partial.weight
        if not total > 0:
            raise ValueError(f"total weight of the cohort must be > 0, got {total}")
        extras = {name: extra / total for name, extra in partial.extras.items()}
        scale, mean = self.scale(partial), partial.delta / total
        moved = partial if partial.moved is None else partial.moved
        weight = moved.weight or 1.0  # Clients without examples do not drift.
        same = moved is partial
        middle = mean[: partial.trainable] if same else moved.delta[: partial.trainable] / weight
        apart = drift(moved.squares / weight, middle, partial.clients)
        return Mean(mean, extras, total, partial.clients, scale, metrics={DRIFT: apart})


def drift(mean_square: float, mean: Vector, clients: int) -> float:
    """Return the clients' root mean square distance from their mean, from sums that stream.

    One quantity for all strategies: the deltas are those of local training, before any clipping,
    and p_i is a client's share of the cohort's examples, whatever weights the mean has::

        sqrt(sum_i p_i ||delta_i - mean||^2) = sqrt(sum_i p_i ||delta_i||^2 - ||mean||^2)

    Args:
        mean_square: ``sum_i p_i ||delta_i||^2``.
        mean: ``sum_i p_i delta_i``, over the same entries.
        clients: how many there are; a single one does not drift.
    """
    # Equal updates may give a difference below zero by rounding.
    return sqrt(max(0.0, mean_square - squared_norm(mean))) if clients > 1 else 0.0


def add_scaled(
    total: Vector,
    vectors: Sequence[Any],
    weights: Sequence[float],
    measured: int = 0,
    fresh: bool = False,
) -> list[float]:
    """Compute ``total += weight * vector`` for one vector after the other, in float64.

    Rows of a :class:`~strategies.stacked.Stack` are summed where they are, and that sum is added.
    All others block by block: a block of the total stays in the processor's cache while all
    vectors are added to it. The product may be rounded together with the sum (a fused
    multiply-add); products with whole numbers, such as counts of examples, are exact either way.

    Args:
        total: float64 [P].
        vectors: arrays [P], or all a :class:`~strategies.stacked.Difference`, or all a
            :class:`~strategies.stacked.Row`.
        weights: of each.
        measured: of how many leading entries the norm is wanted.
        fresh: the total holds nothing yet: the first vector is written into it.

    Returns:
        ``weight * ||vector[:measured]||^2`` of each, taken while its block is in the cache.
    """
    for vector in vectors:
        if vector.shape != total.shape:
            raise ValueError(f"vector has shape {vector.shape}, expected {total.shape}")
    rows = [vector for vector in vectors if isinstance(vector, Row)]
    if rows and len(rows) == len(vectors):
        return _add_rows(total, rows, weights, measured, fresh)
    from scipy.linalg.blas import daxpy  # Not at the start: `sunflower --help` needs none of it.

    size, squares = min(_BLOCK, total.size), [0.0] * len(vectors)
    scratch, narrow = np.empty(size), np.empty(size, np.float32)
    sources = [
        (vector.end, vector.start) if isinstance(vector, Difference) else (vector, None)
        for vector in vectors
    ]
    for first in range(0, total.size, _BLOCK):
        # What all vectors share is cut once: a slice costs as much as 1,000 additions.
        last = min(first + _BLOCK, total.size)
        into, part, room = total[first:last], scratch[: last - first], narrow[: last - first]
        cut = min(last, measured) - first
        head = part if cut == last - first else part[: max(0, cut)]
        for i, ((vector, start), weight) in enumerate(zip(sources, weights, strict=True)):
            if start is None:
                np.copyto(part, vector[first:last])
            else:
                np.copyto(part, np.subtract(vector[first:last], start[first:last], out=room))
            if fresh and i == 0:
                np.multiply(part, weight, out=into)
            else:
                daxpy(part, into, a=weight)
            squares[i] += float(head.dot(head))
    return [weight * square for weight, square in zip(weights, squares, strict=True)]


def _add_all(total: Vector, vectors: Sequence[Vector], factors: Sequence[float] = ()) -> None:
    """Write the sum of vectors, each times its factor if there are any, from the left."""
    scratch = np.empty(min(_BLOCK, total.size))
    for first in range(0, total.size, _BLOCK):
        into = total[first : first + _BLOCK]
        part = scratch[: into.size]
        for i, vector in enumerate(vectors):
            piece = vector[first : first + _BLOCK]
            if factors:
                piece = np.multiply(piece, factors[i], out=into if i == 0 else part)
            elif i == 0:
                np.copyto(into, piece)
            if i:
                into += piece


def _add_both(
    total: Vector, plain: Vector, vectors: Sequence[Vector], factors: Sequence[float]
) -> None:
    """Do what :func:`_add_all` does with factors, and for leading entries without: read once."""
    scratch = np.empty(min(_BLOCK, total.size))
    for first in range(0, total.size, _BLOCK):
        into, beside = total[first : first + _BLOCK], plain[first : first + _BLOCK]
        part, cut = scratch[: into.size], beside.size
        for i, (vector, factor) in enumerate(zip(vectors, factors, strict=True)):
            piece = vector[first : first + _BLOCK]
            if i == 0:
                np.multiply(piece, factor, out=into)
                np.copyto(beside, piece[:cut])
                continue
            np.multiply(piece, factor, out=part)
            into += part
            beside += piece[:cut]


def _add_rows(
    total: Vector, rows: Sequence[Row], weights: Sequence[float], measured: int, fresh: bool
) -> list[float]:
    """Do what :func:`add_scaled` does for rows of stacks."""
    part, squares = rows[0].stack.total(rows, weights, measured)
    if fresh:
        np.copyto(total, part)
    else:
        total += part
    return [weight * square for weight, square in zip(weights, squares.tolist(), strict=True)]


def same_extras(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Raise ValueError unless two clients or groups upload extras of the same names."""
    if a.keys() != b.keys():
        raise ValueError(f"extras must be equal for all clients, got {sorted(a)} and {sorted(b)}")
