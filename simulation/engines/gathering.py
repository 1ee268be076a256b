"""Parts merged on the hosts where they were made, so that one sum of each host travels.

Which calls a host has done is known when they are over. Every node of the merge tree below which
one host has done all is merged there, and so are the first children of a node, as far as one host
has done them: the tree adds from the left. The driver merges these, as the tree says. So the bits
are those of any other way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from simulation.engines.calls import Home, Merge, Poisoned, ValueLost
from simulation.engines.engine import Engine
from simulation.engines.policy import POLICY
from simulation.worker.tree import Tree


class Bundle(NamedTuple):
    """Parts of a node of the merge tree that one host has.

    Args:
        place: the host's node.
        tickets: the calls that have made them.
        shape: the tree below the node, with places in ``tickets`` as leaves.
    """

    place: str
    tickets: tuple[Any, ...]
    shape: Tree[int]


class Gathering:
    """Merge a cohort's parts where they were made.

    Args:
        engine: where.
        tickets: the calls of nodes that were handed out whole, by the node's id.
        bytes: of a part, about.
    """

    def __init__(self, engine: Engine, tickets: Mapping[int, Any], bytes: int) -> None:
        self._engine, self._tickets, self._bytes = engine, tickets, bytes
        self._here = engine.here
        self.merged: dict[int, tuple[int, Any]] = {}
        self._tops: list[Any] = []

    def gather(self, root: Any) -> None:
        """Wait for all calls, and let nodes be merged.

        ``merged`` then has, by the node's id, how many of its first children are merged, and the
        call that does it.
        """
        self._leave(root, self._bundle(root))
        self._engine.expect(self._tops, self._bytes)

    def _bundle(self, node: Any) -> Bundle | None:
        """Return what one host has of a node; None where no single one has all of it."""
        if id(node) in self._tickets:
            ticket = self._tickets[id(node)]
            try:
                self._engine.values_of([ticket])
            except Poisoned:
                return None  # The driver finds out whose fault it is.
            return Bundle(self._engine.place_of(ticket), (ticket,), 0)
        found = [self._bundle(child) for child in node]
        first = _of_one_host(found)
        if len(first) < len(found):
            self._begin(node, first)
            for child, bundle in zip(node[len(first) :], found[len(first) :], strict=True):
                self._leave(child, bundle)
            return None
        joined = join(first)
        if len(joined.tickets) <= POLICY.merge_inputs or joined.place == self._here:
            return joined
        return self._merge(node, joined, False)

    def _begin(self, node: Any, first: Sequence[Bundle]) -> None:
        """Let the driver have a node's first children in one, where they are several."""
        if len(first) > 1 and first[0].place != self._here:
            ticket = self._sum(join(first), True)
            if ticket is not None:
                self.merged[id(node)] = len(first), ticket
                self._tops.append(ticket)
                return
        for child, bundle in zip(node, first, strict=False):
            self._leave(child, bundle)

    def _leave(self, node: Any, bundle: Bundle | None) -> None:
        """Let the driver have a node as it is, after its host has merged it."""
        if bundle is None:
            return
        if len(bundle.tickets) > 1 and bundle.place != self._here:
            bundle = self._merge(node, bundle, True)
        if bundle is not None:
            self._tops += bundle.tickets

    def _merge(self, node: Any, bundle: Bundle, travels: bool) -> Bundle | None:
        ticket = self._sum(bundle, travels)
        if ticket is None:
            return None
        self.merged[id(node)] = len(node), ticket
        return Bundle(bundle.place, (ticket,), 0)

    def _sum(self, bundle: Bundle, travels: bool) -> Any | None:
        """Return a call of the host that merges what it has; None where some of it was lost."""
        try:
            values = self._engine.values_of(bundle.tickets)
        except ValueLost:
            return None  # The driver merges it, from parts that are made again.
        return self._engine.submit(
            Merge(
                inputs=tuple(values),
                shape=bundle.shape,
                home=Home(bundle.place),
                zipped=travels and self._engine.far,
            )
        )


def _of_one_host(bundles: Sequence[Bundle | None]) -> list[Bundle]:
    """Return those at the front that one host has."""
    first: list[Bundle] = []
    for bundle in bundles:
        if bundle is None or (first and bundle.place != first[0].place):
            break
        first.append(bundle)
    return first


def join(bundles: Sequence[Bundle]) -> Bundle:
    """Return what a host has of several neighbours."""
    shape, before = [], 0
    for bundle in bundles:
        shape.append(_moved(bundle.shape, before))
        before += len(bundle.tickets)
    tickets = tuple(ticket for bundle in bundles for ticket in bundle.tickets)
    return Bundle(bundles[0].place, tickets, tuple(shape))


def _moved(shape: Tree[int], by: int) -> Tree[int]:
    return tuple(_moved(child, by) for child in shape) if isinstance(shape, tuple) else shape + by
