"""What a worker does with its calls' arguments (no Ray is started)."""

from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import GetTimeoutError

from simulation.engines.calls import Call, Status
from simulation.engines.policy import POLICY
from simulation.engines.ray import actor
from simulation.engines.ray.actor import Shared, Worker
from simulation.engines.ray.pieces import Apart


def shared(number: int) -> Shared:
    """Return what stands for a value, whose reference has this number."""
    ref: Any = SimpleNamespace(number=number, binary=lambda: number.to_bytes(2, "big"))
    return Shared(ref)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the store hold a list for each number; return the numbers that it is asked for."""
    numbers: list[int] = []

    def get(ref: Any, timeout: float) -> list[int]:
        numbers.append(ref.number)
        return [ref.number]

    monkeypatch.setattr(actor.ray, "get", get)
    return numbers


@pytest.fixture
def idle() -> Worker:
    """Return a worker that holds no run."""
    made = object.__new__(Worker)
    made._executors, made._fetched = {}, deque(maxlen=POLICY.values_kept)
    made._node, made._patience, made._coming = "here", POLICY.fetch_least, {}
    made._library, made._broken = "tensorflow", Status(0.0, 0.0)
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
    def get(ref: Any, timeout: float) -> None:
        raise RuntimeError("gone")

    monkeypatch.setattr(actor.ray, "get", get)
    idle._executors[7] = None
    status, value, kept = idle.call(7, Echo(one=shared(1)))
    assert (status.error, value, kept) == ("RuntimeError: gone", None, None)


def test_a_value_that_is_late_is_told_and_may_come_in_pieces(
    idle: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def get(ref: Any, timeout: float) -> None:
        waited.append(timeout)
        raise GetTimeoutError

    monkeypatch.setattr(actor.ray, "get", get)
    idle._executors[7] = None
    for _ in range(2):
        status, value, _kept = idle.call(7, Echo(one=shared(1)))
        assert (status.kind, value) == ("ValueLate", None)
    assert waited == [POLICY.fetch_least, 2 * POLICY.fetch_least]
    key, apart = shared(1).ref.binary(), Apart([1] * POLICY.piece_bytes)
    assert len(apart) > 1
    for place in range(len(apart)):
        assert not idle._fetched
        idle.keep(key, len(apart), *apart.some(place, 1))
    status, value, _kept = idle.call(7, Echo(one=shared(1)))
    assert status.error is None and value[0] == [1] * POLICY.piece_bytes
    assert len(waited) == 2


def test_a_host_with_other_versions_opens_no_run(idle: Worker) -> None:
    nothing: Any = None
    status = idle.open(7, nothing, nothing, nothing, {"tensorflow": "1.2.3"})
    assert status.kind == "Unfit" and not idle._executors
    assert "tensorflow" in str(status.error) and "instead of 1.2.3" in str(status.error)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ModuleNotFoundError("No module named 'tensorflow'"), "Unfit: tensorflow cannot be"),
        (OSError("no GPU"), "OSError: no GPU"),
    ],
)
def test_what_cannot_be_prepared_is_told_when_a_run_is_opened(
    idle: Worker, error: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(*given: Any) -> None:
        raise error

    nothing: Any = None
    idle._given = (1, 0.0, [], "", "tensorflow")
    monkeypatch.setattr(idle, "_prepare", prepare)
    idle.prepare()
    status = idle.open(7, nothing, nothing, nothing, {})
    assert str(status.error).startswith(told) and str(error) in str(status.error)
    assert not idle._executors
