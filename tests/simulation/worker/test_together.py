"""Threads that are kept: all that is given to them goes on at the same time."""

from __future__ import annotations

import threading

import pytest

from simulation.worker.together import Crew

PATIENCE = 20.0


@pytest.mark.parametrize("sizes", [(1, 3, 2), (4, 4, 5), (0, 2)])
def test_everything_goes_on_at_the_same_time(sizes: tuple[int, ...]) -> None:
    crew, seen = Crew(), set[int]()
    for size in sizes:
        barrier, done = threading.Barrier(size or 1), list[int]()

        def meet(barrier: threading.Barrier = barrier, done: list[int] = done) -> None:
            barrier.wait(PATIENCE)
            seen.add(threading.get_ident())
            done.append(1)

        crew.carry_out([meet] * size)
        assert len(done) == size
    assert len(seen) == max(sizes), "threads are kept, and used again"


def test_two_may_use_it_at_once() -> None:
    crew, barrier, done = Crew(), threading.Barrier(6), list[int]()

    def meet() -> None:
        barrier.wait(PATIENCE)
        done.append(1)

    others = [threading.Thread(target=crew.carry_out, args=([meet] * 3,)) for _ in range(2)]
    for other in others:
        other.start()
    for other in others:
        other.join(PATIENCE)
    assert len(done) == 6


def test_a_thread_is_kept_after_an_error() -> None:
    crew, barrier, done = Crew(), threading.Barrier(2), list[int]()

    def fail() -> None:
        raise ValueError("of one's own")

    def meet() -> None:
        barrier.wait(PATIENCE)
        done.append(1)

    with pytest.raises(ValueError, match="of one's own"):
        crew.carry_out([fail, lambda: done.append(1)])
    crew.carry_out([meet] * 2)
    assert len(done) == 3
