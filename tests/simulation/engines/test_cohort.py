"""A unit that takes its workers down is split until the client at fault is known."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from simulation.config.experiment import parse
from simulation.engines import cohort
from simulation.engines.calls import Call, Merge, Poisoned, Train, ValueLost
from simulation.engines.client_ledger import ClientLedger
from simulation.engines.cohort import CohortTraining, clients_of
from simulation.engines.engine import Engine
from simulation.engines.inline import InlineEngine
from simulation.engines.policy import POLICY
from simulation.records import rows as tables
from simulation.worker.chunk import Part, merge_parts
from simulation.worker.faults import ClientError, Lost, WorkerError
from simulation.worker.setup import Setup
from strategies import WeightedMean
from strategies.random_streams import stream
from strategies.reducing import merge_all
from strategies.updates import Update

POPULATION, SIZE = 2_500, 5
SIZES = stream(1).integers(1, 200, POPULATION)


class Numbers:
    """An executor that needs no TensorFlow: a client's update is a function of its number."""

    def __init__(self, reducer: WeightedMean) -> None:
        self.reducer, self.trained = reducer, 0

    def train(
        self,
        round: int,
        node: Any,
        model: Any,
        shared: Any,
        states: Any,
        skip: Any = None,
        *more: Any,
    ) -> Any:
        rows, lost = [], []

        def partial(node: Any) -> Any:
            if isinstance(node, tuple):
                return merge_all(self.reducer, (partial(child) for child in node))
            total = None
            for client in node.tolist():
                if client in (skip or {}):
                    lost.append(Lost(round, client, skip[client]))
                    continue
                self.trained += 1
                delta = stream(7, client).normal(size=SIZE).astype(np.float32)
                metrics = {"loss": 0.0, "accuracy": 0.0}
                update = Update(client, int(SIZES[client]), delta, metrics=metrics)
                total = self.reducer.fold(total, update)
                rows.append(tables.Row((client, int(SIZES[client]), 1, 0.0, 0.0, 1.0), None))
            return total

        total = partial(node)
        return Part(total, tables.columns(rows), tuple(lost)), None

    def merge(self, shape: Any, parts: Any) -> Part:
        if not isinstance(shape, tuple):
            return Part(*parts[shape])
        return merge_parts([self.merge(child, parts) for child in shape], self.reducer)


class Fragile(InlineEngine):
    """A pool in which some clients, or some pairs of clients, take their worker down."""

    def __init__(self, workers: int = 3, policy: Any = "skip", **bad: Any) -> None:
        super().__init__()
        experiment = parse(
            {"clients": POPULATION, "faults": {"on_client_error": policy, "attempts": 3}}
        )
        self.setup = Setup(experiment, reducer=WeightedMean())
        self.partition: Any = SimpleNamespace(train_sizes=SIZES)
        self._executor: Any = Numbers(WeightedMean())
        self.ledger = ClientLedger(None, lambda ticket: None)
        self._count, self.bad, self.kills = workers, bad, 0
        self.gone: set[int] = set()
        self.submitted: list[Call] = []

    @property
    def workers(self) -> int:
        return self._count

    def submit(self, call: Call, done: Any = None, attempts: int | None = None) -> Any:
        ticket: Any = super().submit(call)
        self.submitted.append(call)
        ticket.call, ticket.most = call, attempts or 3
        return ticket

    def seconds(self, total: float) -> float:
        return 1.0

    def result(self, ticket: Any, timeout: float | None = None) -> Any:
        self._check(ticket)
        if isinstance(ticket.call, Merge) and self.bad.get("lose"):
            raise ValueLost("gone with its node")
        return super().result(ticket)

    def values_of(self, tickets: Any) -> list[Any]:
        for ticket in tickets:
            self._check(ticket)
        return [InlineEngine.result(self, t) for t in tickets]

    def _check(self, ticket: Any) -> None:
        if not isinstance(ticket.call, Train):
            return
        there = set(clients_of(ticket.call.node)) - set(ticket.call.skip)
        alone = there & set(self.bad.get("alone", ()))
        together = set(self.bad.get("together", ())) <= there and self.bad.get("together")
        if alone or together:
            self.kills += ticket.most
            raise Poisoned("its worker died", ticket.most == 3)


def train(grid: Engine) -> Part:
    return CohortTraining(grid, 4, range(POPULATION), np.zeros(SIZE), {}).result()


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize("workers", [1, 3, 20])
@pytest.mark.parametrize("bad", [[17], [0, 2_499], [5, 6, 7, 8, 300]])
def test_the_clients_at_fault_are_found_and_the_others_keep_their_bits(
    workers: int, bad: list[int]
) -> None:
    grid = Fragile(workers, alone=bad)
    part = train(grid)
    assert sorted(one.client for one in part.lost) == bad
    assert {one.reason for one in part.lost} == {"its worker died"}
    assert sorted(part.rows["client"].tolist()) == [c for c in range(POPULATION) if c not in bad]
    # What the same tree gives when these clients are left out from the start.
    calm = Fragile(1)
    direct = CohortTraining(calm, 4, range(POPULATION), np.zeros(SIZE), {})
    skip = dict.fromkeys(bad, "its worker died")
    wanted, _ = calm._executor.train(4, direct.root, None, None, None, skip)
    np.testing.assert_array_equal(part.partial.delta, wanted.partial.delta)
    assert part.partial.weight == sum(SIZES[c] for c in range(POPULATION) if c not in bad)
    # A bad client costs its unit three workers, itself three, and one for each level between.
    assert grid.kills <= len(bad) * (3 + 3 + 16)


def test_the_default_policy_names_the_client() -> None:
    with pytest.raises(ClientError, match=r"^round 4, client 17: its worker died$"):
        train(Fragile(policy="fail", alone=[17]))


def test_clients_that_fail_only_together_fail_the_run() -> None:
    whole = CohortTraining(Fragile(), 4, range(POPULATION), np.zeros(SIZE), {}).root
    first = next(c for c in _leaves(whole) if len(c) > 2)
    with pytest.raises(WorkerError, match="though none of them does so alone"):
        train(Fragile(together=first.tolist()))


@pytest.fixture
def heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let partials count as too much for the driver."""
    monkeypatch.setattr(cohort, "POLICY", replace(POLICY, driver_bytes=0, driver_rate=0))


def merges(grid: Fragile) -> int:
    return sum(isinstance(call, Merge) for call in grid.submitted)


def test_many_workers_merge_what_is_too_much_for_the_driver(heavy: None) -> None:
    few, many, lost = Fragile(3), Fragile(20), Fragile(20, lose=True)
    parts = [train(grid) for grid in (few, many, lost)]
    # Merges that a node took with it are made by the driver.
    assert merges(few) == 0 < merges(many)
    for part in parts[1:]:
        np.testing.assert_array_equal(parts[0].partial.delta, part.partial.delta)


class Apart(Fragile):
    """A pool on two hosts, of which the first may be the driver's own."""

    homes = {"one": 1.0, "two": 1.0}  # noqa: RUF012
    own = ""

    @property
    def here(self) -> str:
        return self.own

    def place_of(self, ticket: Any) -> str:
        return str(ticket.call.home.node)


@pytest.mark.parametrize("own", ["", "one"])
@pytest.mark.parametrize("bad", [{}, {"lose": True}, {"alone": [17]}])
def test_hosts_merge_what_they_have_done(
    bad: dict[str, Any], own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort, "POLICY", replace(POLICY, piece_bytes=0))
    grid = Apart(2, **bad)
    grid.own = own
    part, alone = train(grid), train(Fragile(1, **bad))
    np.testing.assert_array_equal(part.partial.delta, alone.partial.delta)
    assert part.lost == alone.lost
    where = [one.home.node for one in grid.submitted if isinstance(one, Merge) and one.home]
    assert {*where} == ({"two"} if own else {"one", "two"})
    ids = [clients_of(one.node) for one in grid.submitted if isinstance(one, Train) and one.home]
    homes = [one.home.node for one in grid.submitted if isinstance(one, Train) and one.home]
    shares = [sum(SIZES[c] for i, h in zip(ids, homes, strict=True) if h == n for c in i)
              for n in ("one", "two")]  # fmt: skip
    assert abs(shares[0] - shares[1]) <= SIZES.max() * 2


def test_small_sums_come_with_the_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """And so they are not merged where they were made."""
    grid = Apart(2)
    monkeypatch.setattr(Apart, "place_of", lambda self, ticket: "")
    train(grid)
    assert merges(grid) == 0 and not any(call.home for call in grid.submitted)


@pytest.mark.parametrize(
    ("light", "rate", "driver"), [(0, 0, False), (2**40, 0, True), (0, 2**40, True)]
)
def test_the_driver_merges_what_is_little_for_the_time_there_is(
    light: int, rate: int, driver: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = replace(POLICY, driver_bytes=light, driver_rate=rate)
    monkeypatch.setattr(cohort, "POLICY", policy)
    grid = Fragile(20)
    train(grid)
    assert (merges(grid) == 0) is driver


def _leaves(node: Any) -> Any:
    if isinstance(node, tuple):
        for child in node:
            yield from _leaves(child)
    else:
        yield node


def test_workers_that_would_train_other_numbers_side_by_side_are_refused() -> None:
    ids = np.arange(3)
    call = Train(round=1, node=ids, model=None, shared={}, states=[None] * 3, lanes=8)
    with pytest.raises(WorkerError) as caught:
        call.run(SimpleNamespace(lanes=4))  # type: ignore[arg-type]
    assert str(caught.value) == (
        "resources.lanes must be given where workers' GPUs are unlike, as last bits depend on it: "
        "one would train 8 clients side by side, another 4"
    )
