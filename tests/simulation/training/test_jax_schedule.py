"""Clients dealt to lanes: everybody trains all of its steps in order, longest first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.training.jax import backend
from simulation.training.jax.schedule import (
    MOST_WIDTHS,
    NOBODY,
    deal,
    padded_batch,
    power_of,
    table,
    widths_of,
)
from simulation.training.plan import Asked, Examples, Plan
from strategies.client_rule import ClientRule

STEPS = st.lists(st.integers(0, 12), min_size=1, max_size=30)


@given(steps=STEPS, lanes=st.integers(1, 20))
def test_everybody_trains_in_one_lane_without_a_pause(steps: list[int], lanes: int) -> None:
    widths = widths_of(lanes)
    dealt = deal(steps, widths)
    for client, count in enumerate(steps):
        when, lane = np.nonzero(dealt.who == client)
        assert len(when) == count
        assert len(set(lane)) <= 1
        assert (np.diff(when) == 1).all()
        assert dealt.step[dealt.who == client].tolist() == list(range(count))


@given(steps=STEPS, lanes=st.integers(1, 20))
def test_phases_hold_all_that_trains(steps: list[int], lanes: int) -> None:
    widths = widths_of(lanes)
    dealt = deal(steps, widths)
    at = 0
    for phase in dealt.phases:
        assert phase.first == at < phase.last
        assert phase.width in widths
        assert (dealt.who[phase.first : phase.last, phase.width :] == NOBODY).all()
        at = phase.last
    assert at == len(dealt.who)
    narrow = [p.width for p in dealt.phases]
    assert narrow == sorted(narrow, reverse=True)


def test_dry_lanes_are_left_behind() -> None:
    assert widths_of(100) == (100, 25, 7)
    assert len(widths_of(4096)) == MOST_WIDTHS
    assert widths_of(1) == (1,)
    # One client is a hundred steps long, and fifteen have one: 16 lanes are two thirds dry at once.
    dealt = deal([100, *[1] * 15], widths_of(16))
    assert [(p.width, p.first, p.last) for p in dealt.phases] == [(16, 0, 1), (1, 1, 100)]
    assert dealt.filled == 1.0
    # A small group begins in the narrowest width that holds it.
    assert [p.width for p in deal([3, 3, 3], widths_of(16)).phases] == [4]


def test_lanes_are_filled_longest_first() -> None:
    dealt = deal([2, 7, 3, 4], (2, 1))
    assert dealt.who.shape == (9, 2)
    assert sorted(dealt.who[0].tolist()) == [1, 3]
    assert [(p.width, p.first, p.last) for p in dealt.phases] == [(2, 0, 7), (1, 7, 9)]


def test_rooms_for_batches_are_few() -> None:
    assert padded_batch(32, 500) == padded_batch(32, 9) == 32
    assert padded_batch(32, 8) == padded_batch(32, 1) == 8
    assert power_of(4, 17) == 64
    assert power_of(4, 1) == 1


def plan_of(**rule: Any) -> Plan:
    return Plan(3, 8, ClientRule(**rule), 5, 1)


@pytest.mark.parametrize("held", [False, True])
def test_tables_follow_the_plan(held: bool) -> None:
    """Rows are those of the job's order, batch by batch, whoever else is there."""
    sizes = [20, 3, 9]
    whole = [30, 20, 1, 3, 9] if held else sizes
    places = [1, 3, 4] if held else [0, 1, 2]
    n = sum(sizes)
    job = plan_of().job(
        [7, 8, 9], sizes, 2, Examples(np.arange(n), np.arange(n)), Asked(epochs=2),
        beside=(whole, None, places) if held else None,
    )  # fmt: skip
    steps = job.steps if job.beside is None else job.beside.steps
    dealt = deal(steps, widths_of(2))
    seen: dict[int, list[Any]] = {0: [], 1: [], 2: []}
    for phase in dealt.phases:
        for first in range(phase.first, phase.last, 4):
            found = table(job, dealt, phase, first, min(first + 4, phase.last), 8)
            for t, k in np.argwhere(found.count > 0):
                client = int(found.who[t, k])
                assert found.begin[t, k] == (not seen[client])
                seen[client].append(found.rows[t, k, : found.count[t, k]].tolist())
                last = len(seen[client]) == job.steps[client]
                assert found.end[t, k] == (client if last else NOBODY)
            assert (found.end[found.count == 0] == NOBODY).all()
    for client, size in enumerate(sizes):
        start = int(job.starts[client])
        rows = [job.order[e, start : start + size].tolist() for e in (0, 1)]
        expected = [epoch[i : i + 8] for epoch in rows for i in range(0, size, 8)]
        assert seen[client] == expected


def test_batches_of_all_there_is() -> None:
    n = 12
    job = plan_of(full_batch=True).job(
        [1, 2], [5, 7], 1, Examples(np.arange(n), np.arange(n)), Asked(epochs=3)
    )
    assert job.steps.tolist() == [1, 1]
    assert job.largest == 7


def test_a_process_that_has_a_gpu_computes_the_same_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(backend.FLAGS, raising=False)
    assert backend.DETERMINISTIC in backend.environment(4, 0.5)[backend.FLAGS]
    assert backend.FLAGS not in backend.environment(4, 0)
    alone = backend.environment(1, 1)[backend.FLAGS].split()
    assert alone == [backend.DETERMINISTIC, backend.ONE_THREAD]
    mine = "--xla_gpu_deterministic_ops=false"
    monkeypatch.setenv(backend.FLAGS, mine)
    assert backend.environment(4, 1)[backend.FLAGS] == mine, "who sets a flag has it"
    assert backend.environment(4, 0.5)["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.500"
    assert backend.environment(4, 0)["JAX_PLATFORMS"] == "cpu"
