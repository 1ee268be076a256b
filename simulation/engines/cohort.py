"""A cohort trained on an engine: hand out the units of the merge tree, merge what comes back.

A unit that takes its workers down is split along the tree, and its last chunk in halves, until
the client at fault is known. The chunk is then trained without that client, so that all others
give the bits that they would give had the client raised an error.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulation.config.scheduling import server_round
from simulation.engines import schedule
from simulation.engines.calls import Home, Merge, Poisoned, Train, ValueLost
from simulation.engines.engine import Engine
from simulation.engines.evaluation import Evaluations
from simulation.engines.gathering import Gathering
from simulation.engines.policy import POLICY
from simulation.records.rows import Rows
from simulation.training.client_config import AS_CONFIGURED, ClientConfig
from simulation.worker import tree
from simulation.worker.chunk import Part, merge_parts
from simulation.worker.faults import ClientError, Lost, WorkerError
from strategies.optional_protocols import AddsUp
from strategies.spec import Vector

log = logging.getLogger("sunflower.folding")

Node = Any
"""A node of the merge tree: a chunk (an array of clients) or a tuple of nodes."""


class CohortResult(NamedTuple):
    """What training a cohort gives.

    Args:
        total: the reducer's total; None when no client gave an update.
        rows: a row for each client that gave one, by client.
        lost: who did not, and why, by client.
        measured: what the model's own metrics say of all of them, by name.
    """

    total: Any
    rows: Rows
    lost: tuple[Lost, ...]
    measured: dict[str, float]


def train_cohort(
    engine: Engine, round: int, clients: Sequence[int], model: Vector, shared: Mapping[str, Any],
    config: ClientConfig = AS_CONFIGURED, parts: Mapping[int, float] | None = None,
    plan: CohortPlan | None = None,
) -> CohortResult:  # fmt: skip
    """Train a cohort and fold its updates where they are made.

    Args:
        engine: what trains.
        round: the round, from 1.
        clients: the cohort.
        model: global weights [P].
        shared: what the server shares.
        config: what the strategy decides of local training.
        parts: of stragglers, which part of their local work they do.
        plan: of this cohort and these settings, where it was made before.

    Raises:
        ClientError: naming the first client that fails, if none may.
        WorkerError: when workers go down and no client is at fault.
    """
    engine.begin_round(round)
    part = CohortTraining(engine, round, clients, model, shared, config, parts, plan).result()
    measured = Evaluations(engine).totals(part.rows, "train_")
    order = np.argsort(part.rows["client"], kind="stable")
    rows = {name: column[order] for name, column in part.rows.items()}
    lost = tuple(sorted(part.lost, key=lambda one: one.client))
    return CohortResult(part.partial, rows, lost, measured)


@dataclass(frozen=True)
class CohortPlan:
    """In which order and groups a cohort's clients are trained: it follows from their sizes alone.

    Args:
        root: the merge tree.
        costs: estimated cost of each client.
        examples: how many each has.
    """

    root: Node
    costs: Mapping[int, float]
    examples: Mapping[int, int]

    @classmethod
    def of(
        cls, engine: Engine, clients: Sequence[int], config: ClientConfig = AS_CONFIGURED
    ) -> CohortPlan:
        """Plan a cohort's training; arguments as those of :func:`train_cohort`."""
        sizes = engine.partition.train_sizes[np.asarray(clients, np.int64)].astype(np.int64)
        return cls.made(engine, clients, costs_of(engine, clients, config), sizes)

    @classmethod
    def made(
        cls,
        engine: Engine,
        clients: Sequence[int],
        cost: NDArray[np.float64],
        sizes: NDArray[np.int64],
    ) -> CohortPlan:
        """Plan the training of clients whose costs and examples are known."""
        return cls(
            schedule.grow(clients, cost, schedule.least(engine.lanes)),
            dict(zip(clients, cost.tolist(), strict=True)),
            dict(zip(clients, sizes.tolist(), strict=True)),
        )


class CohortTraining:
    """One cohort's training; arguments as those of :func:`train_cohort`."""

    def __init__(
        self,
        engine: Engine,
        round: int,
        clients: Sequence[int],
        model: Vector,
        shared: Mapping[str, Any],
        config: ClientConfig = AS_CONFIGURED,
        parts: Mapping[int, float] | None = None,
        plan: CohortPlan | None = None,
    ) -> None:
        self.engine, self.round, self.config, self.parts = engine, round, config, parts or {}
        setup = engine.setup
        assert setup.reducer is not None
        self.reducer = setup.reducer
        plan = plan or CohortPlan.of(engine, clients, config)
        self.root, self.costs, self.examples = plan.root, plan.costs, plan.examples
        total = float(np.sum(list(self.costs.values())))
        self.model, self.shared = engine.share(model), engine.share(dict(shared))
        self.tickets: dict[int, Any] = {}
        self.merged: dict[int, Any] = {}
        self.gathered: dict[int, tuple[int, Any]] = {}
        self.units: list[tuple[Node, Any]] = []
        self.bytes = 8 * len(model)  # of a sum over clients: all are in float64
        self.homes = engine.homes if self._few_should_travel else {}
        handed = self._handed_out(total)
        whole = [node for node, _ in handed]
        # Whoever merges: the tree says what is added to what, and so do the bits.
        much = self.bytes * len(whole) > POLICY.driver_bytes + POLICY.driver_rate * engine.seconds(
            total
        )
        self.spread = much and engine.workers > POLICY.driver_workers and not self.homes
        self.zipped = engine.far and not self.spread and not self.homes
        for node, home in handed:
            self.tickets[id(node)] = self._submit(node, home=home)
        if not (self.spread or self.homes):
            engine.expect([ticket for _, ticket in self.units], self.bytes)

    @property
    def _carries(self) -> bool:
        """Whether clients' states travel with the parts."""
        return self.engine.setup.keeps_state and self.engine.setup.shelf is None

    @property
    def _few_should_travel(self) -> bool:
        """Whether parts are sums alone, and so large that few should come to the driver."""
        adds_up = isinstance(self.reducer, AddsUp) and self.reducer.only_sums
        return adds_up and self.bytes > POLICY.piece_bytes and not self._carries

    def _handed_out(self, total: float) -> list[tuple[Node, Home | None]]:
        """Return the nodes that are handed out whole, and where each belongs.

        Args:
            total: cost of the cohort.
        """
        engine = self.engine
        if self._carries:  # States that travel with a unit's result must be few.
            return [(leaf, None) for leaf in tree.leaves(self.root)]
        least, workers = engine.min_cost(total), engine.effective_workers
        if not self.homes:
            whole = schedule.units([self.root], self._cost, workers, least=least)
            return [(node, None) for node in whole]
        parts = np.array(list(self.homes.values())) / sum(self.homes.values())
        dealt = schedule.homes(self.root, self._cost, parts.tolist())
        rows = []
        for name, part, roots in zip(self.homes, parts.tolist(), dealt, strict=True):
            home = Home(name, POLICY.home_waits * total * part)
            there = max(1, round(workers * part))
            whole = schedule.units(roots, self._cost, there, least=least)
            rows.append([(node, home) for node in whole])
        # Each host's first, then each one's second ...
        return [one for row in zip_longest(*rows) for one in row if one is not None]

    def result(self) -> Part:
        """Wait for all, and return the cohort's total."""
        if self.homes:
            gathering = Gathering(self.engine, self.tickets, self.bytes)
            gathering.gather(self.root)
            self.gathered = gathering.merged
        part = self._part(self.root)
        if self.engine.setup.keeps_state:
            gone = {lost.client for lost in part.lost}
            for node, ticket in self.units:
                ids = [c for c in clients_of(node) if c not in gone]
                if ids:
                    self.engine.ledger.keep(self.round, ids, ticket)
        return part

    @property
    def _told(self) -> int:
        """The round as users count them: the server's."""
        return server_round(self.engine.setup.experiment, self.round)

    def _cost(self, leaf: NDArray[np.int64]) -> float:
        return float(sum(self.costs[c] for c in leaf.tolist()))

    def _submit(
        self,
        node: Node,
        attempts: int | None = None,
        skip: Mapping[int, str] | None = None,
        probe: bool = False,
        home: Home | None = None,
    ) -> Any:
        ids, engine = clients_of(node), self.engine
        call = Train(
            round=self.round,
            node=node,
            model=self.model,
            shared=self.shared,
            states=[engine.ledger.state_of(c) for c in ids],
            skip=dict(skip or {}),
            config=self.config,
            parts={c: self.parts[c] for c in ids if c in self.parts},
            cost=sum(self.costs[c] for c in ids),
            clients=len(ids),
            examples=sum(self.examples[c] for c in ids),
            lanes=engine.lanes if engine.lanes > 1 else None,
            zipped=self.zipped,
            home=home,
        )
        told = None if probe else partial(engine.progress, "train", call.clients, call.examples)
        ticket = engine.submit(call, told, attempts)
        if not probe:
            self.units.append((node, ticket))
        return ticket

    def _part(self, node: Node) -> Part:
        """Return a node's part: merged on the cluster where that is better, else here."""
        if id(node) in self.tickets:
            return self._unit(node, self.tickets[id(node)])
        if (found := self._gathered(node)) is not None:
            return found
        if self.spread and node is not self.root:
            try:
                found = self._remote(node)
                return found if isinstance(found, Part) else Part(*self.engine.result(found))
            except ValueLost:
                pass  # Merge it here, from parts that are made again where they are gone.
        return merge_parts([self._part(child) for child in node], self.reducer)

    def _gathered(self, node: Node) -> Part | None:
        """Return a node's part where its host has merged it, or its first children."""
        count, ticket = self.gathered.get(id(node), (0, None))
        if not count:
            return None
        try:
            first = Part(*self.engine.result(ticket))
        except ValueLost:
            return None  # It is merged here, from parts that are made again where they are gone.
        return merge_parts([first, *(self._part(child) for child in node[count:])], self.reducer)

    def _remote(self, node: Node) -> Any:
        """Return a ticket that is done or has been given all that it needs, or the part itself."""
        if id(node) in self.tickets:
            ticket = self.tickets[id(node)]
            try:
                self.engine.values_of([ticket])
            except Poisoned as error:
                return self._split(node, ticket, error)
            return ticket
        if id(node) not in self.merged:
            inputs = [self._remote(child) for child in node]
            values = [i if isinstance(i, Part) else self.engine.values_of([i])[0] for i in inputs]
            self.merged[id(node)] = self.engine.submit(
                Merge(inputs=tuple(values), shape=tuple(range(len(values))))
            )
        return self.merged[id(node)]

    def _unit(self, node: Node, ticket: Any) -> Part:
        try:
            return Part(*self.engine.result(ticket))
        except Poisoned as error:
            return self._split(node, ticket, error)

    def _split(self, node: Node, ticket: Any, error: Poisoned) -> Part:
        """Train a unit that took its workers down, in parts."""
        self.units = [(n, t) for n, t in self.units if t is not ticket]
        if isinstance(node, tuple):
            log.warning("%d clients are trained in parts: %s", len(clients_of(node)), error)
            # The parts are suspects: each is split again as soon as it takes a worker down.
            tickets = [self._submit(child, attempts=1) for child in node]
            self.tickets.pop(id(node), None)
            self.tickets.update({id(n): t for n, t in zip(node, tickets, strict=True)})
            parts = [self._unit(n, t) for n, t in zip(node, tickets, strict=True)]
            return merge_parts(parts, self.reducer)
        ids = node.tolist()
        guilty = {ids[0]: str(error)} if len(ids) == 1 and error.final else {}
        if not guilty:
            log.warning("%d clients are tried one by one: %s", len(ids), error)
            guilty = self._guilty(node)
        for client, reason in guilty.items():
            if self.engine.setup.experiment.faults.on_client_error == "fail":
                raise ClientError(str(Lost(self._told, client, reason)))
        try:
            return Part(*self.engine.result(self._submit(node, skip=guilty)))
        except Poisoned as again:
            names = ", ".join(map(str, ids))
            raise WorkerError(
                f"round {self._told}, clients {names}: {again}, though none of them does so alone"
            ) from None

    def _guilty(self, leaf: NDArray[np.int64]) -> dict[int, str]:
        """Return the clients of a chunk that take a worker down by themselves, and how."""
        alone = len(leaf) == 1
        try:
            self.engine.result(self._submit(leaf, attempts=None if alone else 1, probe=True))
        except Poisoned as error:
            if alone:
                return {int(leaf[0]): str(error)}
            half = len(leaf) // 2
            return {**self._guilty(leaf[:half]), **self._guilty(leaf[half:])}
        return {}


def costs_of(
    engine: Engine, clients: Sequence[int], config: ClientConfig = AS_CONFIGURED
) -> NDArray[np.float64]:
    """Return what training each client costs (see :func:`schedule.weights`)."""
    sizes = engine.partition.train_sizes[np.asarray(clients, np.int64)].astype(np.int64)
    setup = engine.setup
    works = config.works(setup.experiment.training, setup.rule.phases)
    way = setup.rule.direction
    examples = np.sum([work.examples(sizes) for work in works], 0)
    return schedule.weights(examples * (1 if way is None else way.gradients))


def clients_of(node: Node) -> list[int]:
    """Return the clients below a node, in the order of training."""
    return tree.clients_below(node)
