"""Schedules against an event simulation in plain NumPy, on a quadratic problem in float64.

Client i holds n_i examples and takes ceil(n_i / batch) gradient steps on
``1/2 sum_k c_ik (x_k - b_ik)^2``. The reference is written anew from the formulas of the docs: it
has the devices' numbers and the random streams in common with the package, and nothing else.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from typing_extensions import override

from simulation.config.experiment import Experiment, parse
from simulation.engines.calls import Call, TrainGroups
from simulation.engines.client_ledger import ClientLedger
from simulation.engines.engine import Engine
from simulation.population.devices import fleet_of
from simulation.population.edges import SAMPLED
from simulation.population.flights import NEXT
from simulation.records.rows import Row, columns
from simulation.rounds.buffered import FLIGHTS, MODEL, BufferedDriver
from simulation.rounds.clocked import ClockedDriver
from simulation.rounds.hierarchical import HierarchicalDriver
from simulation.worker import tree
from simulation.worker.chunk import Part
from simulation.worker.faults import ClientError, Lost
from simulation.worker.setup import Setup
from strategies import Cohort, Federated, catalog
from strategies.cohort import TRAIN
from strategies.random_streams import stream
from strategies.reducing import fold_all, merge_all
from strategies.spec import Spec
from strategies.updates import Update

CLIENTS, PLACES, STEPS, SIZE, BATCH, RATE = 24, 8, 120, 5, 4, 0.1
SPEC = Spec(("w",), ((SIZE,),), 1)
START = np.linspace(-2.0, 2.0, SIZE)
BYTES = 4 * SIZE
DEVICES = {"kind": "lognormal", "spread": 1.2, "step_seconds": 0.5, "up": 40.0, "down": 90.0}

PLANS: dict[str, dict[str, Any]] = {
    "fedbuff": {"kind": "buffered", "buffer": 3},
    "fedbuff-all-wait": {"kind": "buffered", "buffer": 8, "staleness": "constant"},
    "fedbuff-hinge": {"kind": "buffered", "buffer": 2, "staleness": "hinge", "hinge_from": 1.0},
    "fedbuff-oldest": {"kind": "buffered", "buffer": 2, "exponent": 1.0, "max_staleness": 3},
    "fedasync": {"kind": "asynchronous", "concurrency": PLACES, "mixing": 0.4},
    "fedasync-constant": {"kind": "asynchronous", "staleness": "constant", "concurrency": PLACES},
    "semi-synchronous": {"kind": "semi-synchronous", "interval": 2.5},
}

rng = np.random.default_rng(3)
CURVATURE, MINIMUM = rng.uniform(0.2, 2.0, (CLIENTS, SIZE)), rng.normal(size=(CLIENTS, SIZE))
SIZES = rng.integers(1, 20, CLIENTS)


def trained(client: int, model: np.ndarray) -> np.ndarray:
    """Return the client's delta, float64."""
    x = model.copy()
    for _ in range(math.ceil(SIZES[client] / BATCH)):
        x -= RATE * CURVATURE[client] * (x - MINIMUM[client])
    return x - model


@dataclass(frozen=True)
class Sized:
    """A partition of which only the sizes matter."""

    train_sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.train_sizes)


class QuadraticEngine(Engine):
    """Trains clients in NumPy, folded by the run's reducer as workers do it."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.setup, self.ledger = setup, ClientLedger(None, lambda ticket: None)
        self.partition: Any = Sized(SIZES)
        self.failing: tuple[int, ...] = ()

    @override
    def start(self, *_: Any) -> None:
        raise NotImplementedError

    @override
    def share(self, value: Any) -> Any:
        return value

    @override
    def submit(self, call: Call, done: Any = None, attempts: int | None = None) -> Any:
        return call

    @override
    def result(self, ticket: Any, timeout: float | None = None) -> Any:
        if isinstance(ticket, TrainGroups):
            return [self._part(group.node, group.model) for group in ticket.groups]
        return self._part(ticket.node, ticket.model)

    def _part(self, node: Any, model: np.ndarray) -> Part:
        reducer = self.setup.reducer
        assert reducer is not None
        if isinstance(node, tuple):
            parts = [self._part(child, model).partial for child in node]
            total = merge_all(reducer, parts)
        else:
            updates = [
                Update(client, int(SIZES[client]), trained(client, model))
                for client in node.tolist()
                if client not in self.failing
            ]
            total = fold_all(reducer, None, updates) if updates else None
        ids = np.concatenate(list(tree.leaves(node))).tolist()
        rows = [Row((i, int(SIZES[i]), 1, 1.0, 1.0, 1.0), None) for i in self._well(ids)]
        lost = tuple(Lost(1, i, "fails") for i in ids if i in self.failing)
        return Part(total, columns(rows), lost)

    def _well(self, clients: list[int]) -> list[int]:
        return [client for client in clients if client not in self.failing]

    @override
    def values_of(self, tickets: Any) -> list[Any]:
        return [self.result(ticket) for ticket in tickets]

    @override
    def close(self) -> None:
        pass


def experiment_with(plan: dict[str, Any], **faults: Any) -> Experiment:
    said = {
        "dataset": "fashion-mnist-mini",
        "clients": CLIENTS,
        "cohort": PLACES,
        "rounds": STEPS,
        "seed": 11,
        "training": {"batch_size": BATCH},
        "devices": DEVICES,
        "schedule": plan,
        "faults": faults,
    }
    return parse(said)


def driver_with(kind: type[Any], plan: dict[str, Any], **faults: Any) -> Any:
    experiment = experiment_with(plan, **faults)
    algorithm = catalog.build("fedavg")
    strategy = Federated(algorithm, Cohort(PLACES, seed=experiment.seed), evaluate=None, spec=SPEC)
    setup = Setup(experiment, algorithm.client, algorithm.reducer)
    return kind(strategy, QuadraticEngine(setup), SPEC, experiment)


def ours(driver: Any) -> Iterator[tuple[list[tuple[float, int, int]], np.ndarray]]:
    """Yield of each step who arrived when with which staleness, and the model after it."""
    model = START
    for number in range(1, STEPS + 1):
        result = driver.train(number, model)
        model, found = result.model, result.events
        used = [found[name][found["used"]].tolist() for name in ("arrived", "client", "staleness")]
        yield sorted(zip(*used, strict=True)), model


def durations(plan: dict[str, Any]) -> np.ndarray:
    fleet = fleet_of(experiment_with(plan).devices, CLIENTS, 11)  # type: ignore[arg-type]
    return BYTES / fleet.down + np.ceil(SIZES / BATCH) * fleet.step_seconds + BYTES / fleet.up


def law(plan: dict[str, Any]) -> Callable[[int], float]:
    if plan.get("staleness") == "constant":
        return lambda s: 1.0
    if plan.get("staleness") == "hinge":
        return lambda s: 1.0 if s <= 1 else 1 / (10 * (s - 1) + 1)
    return lambda s: (1 + s) ** -plan.get("exponent", 0.5)


def reference(plan: dict[str, Any]) -> Iterator[tuple[list[tuple[float, int, int]], np.ndarray]]:
    """Simulate events: a list of who comes when, the earliest (and first sent out) first."""
    seconds, weight, kind = durations(plan), law(plan), plan["kind"]
    full = {"buffered": plan.get("buffer"), "asynchronous": 1}.get(kind, math.inf)
    every, oldest = plan.get("interval", math.inf), plan.get("max_staleness", math.inf)
    queue: list[tuple[float, int, int, int]] = []
    buffer: list[tuple[float, int, int]] = []
    models, number, now, ticked = [START], 0, 0.0, 0

    def send(client: int) -> None:
        nonlocal number
        heapq.heappush(queue, (now + seconds[client], number, client, len(models) - 1))
        number += 1

    def step() -> tuple[list[tuple[float, int, int]], np.ndarray]:
        version = len(models) - 1
        total, examples = np.zeros(SIZE), 0
        for _, client, of in buffer:
            delta, s = trained(client, models[of]), weight(version - of)
            if kind == "asynchronous":
                delta = plan.get("mixing", 0.6) * (models[of] + delta - models[-1])
            total += SIZES[client] * s * delta
            examples += SIZES[client]
        models.append(models[-1] + total / examples)
        told = sorted((when, client, version - of) for when, client, of in buffer)
        buffer.clear()
        return told, models[-1]

    while len(models) <= STEPS:
        away = {one[2] for one in queue} | {one[1] for one in buffer}
        if not away:
            for client in Cohort(PLACES, seed=11).sample(len(models), CLIENTS):
                send(client)
        while len(queue) < PLACES and len(away := {*away, *(one[2] for one in queue)}) < CLIENTS:
            draws = stream(11, NEXT, number).integers(0, CLIENTS, 64).tolist()
            send(next(one for one in draws if one not in away))
        tick = max(ticked + 1, math.ceil(buffer[0][0] / every)) if buffer and every < 1e9 else 0
        now = min(queue[0][0], tick * every) if tick else queue[0][0]
        while queue and queue[0][0] == now:
            when, _, client, of = heapq.heappop(queue)
            if len(models) - 1 - of > oldest:
                continue
            buffer.append((when, client, of))
            if len(buffer) == full:
                yield step()
        if tick and now == tick * every:
            ticked = tick
            yield step()


def compared(found: Any, expected: Any) -> int:
    """Hold two simulations against each other, step by step; return the largest staleness."""
    stale = 0
    for number in range(STEPS):
        (events, model), (wanted, x) = next(found), next(expected)
        assert [one[1:] for one in events] == [one[1:] for one in wanted], number
        np.testing.assert_allclose([e[0] for e in events], [w[0] for w in wanted], rtol=1e-12)
        assert model.dtype == np.float64
        np.testing.assert_allclose(model, x, rtol=0, atol=1e-12)
        stale = max(stale, *(one[2] for one in events))
    assert np.abs(model - START).max() > 0.1
    return stale


@pytest.mark.parametrize("name", PLANS)
def test_one_by_one_is_the_reference(name: str) -> None:
    plan = PLANS[name]
    stale = compared(ours(driver_with(BufferedDriver, plan)), reference(plan))
    assert stale == plan.get("max_staleness", stale) and stale >= 1


def in_rounds(plan: dict[str, Any]) -> Iterator[tuple[list[tuple[float, int, int]], np.ndarray]]:
    """Simulate rounds that end with the slowest, or at a percentile of all durations."""
    seconds, now, model = durations(plan), 0.0, START
    for number in range(1, STEPS + 1):
        cohort = Cohort(PLACES, seed=11).sample(number, CLIENTS)
        limit = np.percentile(seconds[cohort], float(plan.get("deadline", "100%")[:-1]))
        there = [client for client in cohort if seconds[client] <= limit]
        deltas = np.stack([trained(client, model) for client in there])
        model = model + SIZES[there] @ deltas / SIZES[there].sum()
        yield sorted((now + seconds[client], client, 0) for client in there), model
        now += limit


@pytest.mark.parametrize("plan", [{"kind": "synchronous"}, {"kind": "deadline", "deadline": "60%"}])
def test_rounds_are_the_reference(plan: dict[str, Any]) -> None:
    assert compared(ours(driver_with(ClockedDriver, plan)), in_rounds(plan)) == 0


EDGES = {
    "kind": "hierarchical", "edges": 3, "edge_rounds": 2, "group_by": "order",
    "edge_up": 30.0, "edge_down": 60.0, "edge_latency": 0.7,
}  # fmt: skip


def with_edges(plan: dict[str, Any]) -> Iterator[tuple[list[tuple[float, int, int]], np.ndarray]]:
    """Simulate three edges of eight clients; 3, 3 and 2 of them train in a round of their edge."""
    seconds, now, model = durations(plan), 0.0, START
    edges = np.split(np.arange(CLIENTS), 3)
    weights = [SIZES[members].sum() for members in edges]
    for number in range(1, STEPS + 1):
        told, models, ends = [], [], []
        for edge, members in enumerate(edges):
            clock, x = now + 0.7 + BYTES / 60.0, model
            for turn in (1, 2):
                purpose = (TRAIN, (SAMPLED << 32) + 1, (SAMPLED << 32) + 2)[edge]
                sampled = Cohort(3 - edge // 2, seed=11)
                ids = sampled.sample(2 * (number - 1) + turn, members.tolist(), purpose)
                deltas = np.stack([trained(client, x) for client in ids])
                told += [(clock + seconds[client], client, 0) for client in ids]
                x, clock = x + SIZES[ids] @ deltas / SIZES[ids].sum(), clock + max(seconds[ids])
            models.append(x)
            ends.append(clock + 0.7 + BYTES / 30.0)
        if "cloud" in plan:
            model = model + 0.5 * np.median(np.stack(models) - model, axis=0)
        else:
            model = np.average(models, axis=0, weights=weights)
        yield sorted(told), model
        now = max(ends)


@pytest.mark.parametrize("cloud", [{}, {"cloud": {"name": "median", "learning_rate": 0.5}}])
def test_edges_are_the_reference(cloud: dict[str, Any]) -> None:
    plan = EDGES | cloud
    assert compared(ours(driver_with(HierarchicalDriver, plan)), with_edges(plan)) == 0


@pytest.mark.parametrize("name", ["fedbuff", "fedasync"])
def test_clients_that_fail_do_not_count(name: str) -> None:
    """A step may consist of one that fails: then the model stays as it is."""
    failing = (2, 3, 5, 7)
    driver = driver_with(BufferedDriver, PLANS[name], on_client_error="skip")
    driver.engine.failing = failing
    calm, model, unmoved = reference(PLANS[name]), START, 0
    for number in range(1, STEPS + 1):
        result, (told, _) = driver.train(number, model), next(calm)
        events = result.events
        assert sorted(events["client"].tolist()) == sorted(client for _, client, _ in told)
        gone = np.isin(events["client"], failing)
        assert events["used"].tolist() == (~gone).tolist()
        assert {*events["reason"][gone]} <= {"failed"} and {*events["reason"][~gone]} <= {""}
        assert sorted(one.client for one in result.lost) == sorted(events["client"][gone])
        assert np.array_equal(result.model, model) == bool(gone.all())
        model, unmoved = result.model, unmoved + bool(gone.all())
    assert np.isfinite(model).all() and (unmoved > 0 or name != "fedasync")
    strict = driver_with(BufferedDriver, PLANS[name])
    strict.engine.failing = failing
    with pytest.raises(ClientError, match=r"client [2357]: fails"):
        list(ours(strict))


@pytest.mark.parametrize("name", ["fedbuff", "fedasync", "fedbuff-oldest"])
def test_models_are_kept_once_and_dropped_when_nobody_has_them(name: str) -> None:
    driver, model = driver_with(BufferedDriver, PLANS[name]), START
    for number in range(1, STEPS + 1):
        model = driver.train(number, model).model
        state = driver.state
        away = {int(version) for *_, version, _ in state[FLIGHTS].tolist()}
        kept = {int(key.removeprefix(MODEL)) for key in state if key.startswith(MODEL)}
        assert kept == away == set(driver._versions) and len(kept) <= PLACES
    # Nobody was trained for a step that does not come.
    assert not driver._ahead._groups and not driver._ahead._large
