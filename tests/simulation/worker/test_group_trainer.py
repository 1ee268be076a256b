"""Clients are trained across the borders of chunks, and each chunk gets its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.worker.group_trainer import GroupTrainer

TOGETHER = 4


class Recorder:
    """An executor whose clients give back their number; some of them fail."""

    def __init__(self, bad: Sequence[int] = (), lanes: int = 1) -> None:
        self.bad, self.calls, self.lanes = bad, [], lanes  # type: ignore[var-annotated]

    def group(self, clients: Sequence[int], chunk: int) -> int:
        return min(TOGETHER, len(clients) if self.lanes == 1 else chunk)

    def read(self, handle: Any) -> Any:
        return handle

    def train_clients(self, clients: list[int], inputs: Any, states: Sequence[Any]) -> list[Any]:
        self.calls.append(clients)
        if set(self.bad) & set(clients):
            raise RuntimeError("a client fails")
        return list(zip(clients, states, strict=True))


def ahead(executor: Any, count: int) -> GroupTrainer:
    return GroupTrainer(executor, None, list(range(count)), [f"state {i}" for i in range(count)])  # type: ignore[arg-type]


@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_every_chunk_gets_its_clients_in_order_and_few_calls_do_it(sizes: list[int]) -> None:
    executor, total = Recorder(), sum(sizes)
    source, first = ahead(executor, total), 0
    for size in sizes:
        taken = [client for some in source.take(size) for client in some]
        assert taken == [(i, f"state {i}") for i in range(first, first + size)]
        first += size
    assert len(executor.calls) == -(-total // TOGETHER)
    assert [c for call in executor.calls for c in call] == list(range(total))


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=20))
def test_clients_side_by_side_are_of_one_chunk(sizes: list[int]) -> None:
    executor, first = Recorder(lanes=TOGETHER), 0
    source = ahead(executor, sum(sizes))
    for size in sizes:
        taken = [client for some in source.take(size) for client, _ in some]
        assert taken == list(range(first, first + size))
        first += size
    ends = np.cumsum(sizes)
    for call in executor.calls:
        assert len(set(np.searchsorted(ends, call, side="right"))) == 1, call


def test_who_fails_is_looked_for_in_one_chunk() -> None:
    executor = Recorder(bad=[5])
    source, failed, taken = ahead(executor, 12), [], []
    for chunk in range(6):  # of two clients each
        try:
            taken += [client for some in source.take(2) for client, _ in some]
        except RuntimeError:
            failed.append(chunk)
    assert failed == [2]
    assert taken == [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]
    assert executor.calls == [[0, 1, 2, 3], [4, 5, 6, 7], [6, 7], [8, 9], [10, 11]]


def test_a_chunk_that_stops_early_leaves_nothing_to_the_next() -> None:
    source = ahead(Recorder(), 9)
    with pytest.raises(StopIteration):
        parts = source.take(0)
        next(parts)
    parts = source.take(6)
    assert [client for client, _ in next(parts)] == [0, 1, 2, 3]
    parts.close()
    assert [client for some in source.take(3) for client, _ in some] == [6, 7, 8]


def test_a_chunk_that_is_trained_otherwise_leaves_the_next_one_its_own() -> None:
    executor = Recorder(lanes=TOGETHER)
    source = ahead(executor, 12)
    assert [client for some in source.take(2) for client, _ in some] == [0, 1]
    source.leave(5)
    assert [client for some in source.take(5) for client, _ in some] == [7, 8, 9, 10, 11]
    assert executor.calls == [[0, 1], [7, 8, 9, 10], [11]]
