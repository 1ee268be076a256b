"""What a worker does with its calls' arguments (no Ray is started)."""

from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from simulation.engines.calls import Call
from simulation.engines.policy import POLICY
from simulation.engines.ray import actor
from simulation.engines.ray.actor import Shared, Worker


def shared(number: int) -> Shared:
    """Return what stands for a value, whose reference has this number."""
    ref: Any = SimpleNamespace(number=number, binary=lambda: number.to_bytes(2, "big"))
    return Shared(ref)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the store hold a list for each number; return the numbers that it is asked for."""
    numbers: list[int] = []

    def get(ref: Any) -> list[int]:
        numbers.append(ref.number)
        return [ref.number]

    monkeypatch.setattr(actor.ray, "get", get)
    return numbers


@pytest.fixture
def idle() -> Worker:
    """Return a worker that holds no run."""
    made = object.__new__(Worker)
    made._executors, made._fetched = {}, deque(maxlen=POLICY.values_kept)
    made._node = "here"
    return made


@dataclass(frozen=True, kw_only=True)
class Echo(Call):
    """A call that returns what it holds."""

    one: Any
    other: Any = None

    def run(self, executor: Any, *inputs: Any) -> tuple[Any, ...]:
        return self.one, self.other


def test_a_shared_value_is_fetched_once(idle: Worker, asked: list[int]) -> None:
    idle._executors[7] = None
    first = idle.call(7, Echo(one=shared(1), other="as it is"))
    second = idle.call(7, Echo(one=shared(1), other=shared(2)))
    assert (first[1], second[1]) == (([1], "as it is"), ([1], [2]))
    assert first[1][0] is second[1][0]
    assert asked == [1, 2]


def test_only_the_last_values_are_kept(idle: Worker, asked: list[int]) -> None:
    idle._executors[7] = None
    for number in range(POLICY.values_kept + 1):
        idle.call(7, Echo(one=shared(number)))
    assert len(idle._fetched) == POLICY.values_kept
    idle.call(7, Echo(one=shared(POLICY.values_kept)))
    idle.call(7, Echo(one=shared(0)))
    assert asked == [*range(POLICY.values_kept + 1), 0]


def test_nothing_is_kept_of_a_run_that_has_left(idle: Worker, asked: list[int]) -> None:
    idle._executors[7] = None
    idle.call(7, Echo(one=shared(1)))
    idle.leave(7)
    assert not idle._fetched
    assert not idle._executors


def test_a_value_that_cannot_be_fetched_fails_the_call(
    idle: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(ref: Any) -> None:
        raise RuntimeError("gone")

    monkeypatch.setattr(actor.ray, "get", get)
    idle._executors[7] = None
    status, value, kept = idle.call(7, Echo(one=shared(1)))
    assert (status.error, value, kept) == ("RuntimeError: gone", None, None)
