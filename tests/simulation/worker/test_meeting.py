"""A meeting: who is answered with whom depends on what members ask, never on when."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from simulation.worker.meeting import Meeting, Stopped

PATIENCE = 20.0


def attend(meeting: Meeting, lives: Mapping[str, Callable[[Callable[[Any], Any]], Any]]) -> Any:
    """Let members live in threads; return what each returned or raised."""
    found: dict[str, Any] = {}

    def one(name: str) -> None:
        try:
            found[name] = lives[name](lambda question: meeting.ask(name, question))
        except BaseException as error:
            found[name] = error
        finally:
            meeting.leave(name)

    threads = [threading.Thread(target=one, args=(name,), daemon=True) for name in lives]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads), "nobody waits for ever"
    return found


@pytest.mark.parametrize("seed", range(5))
def test_the_nth_answer_is_given_to_all_who_ask_n_times(seed: int) -> None:
    rng, together = random.Random(seed), list[Any]()
    times = {"a": 3, "b": 1, "c": 0, "d": 5}

    def answer(asked: Mapping[str, int]) -> Mapping[str, Any]:
        together.append(dict(asked))
        return {name: (name, number) for name, number in asked.items()}

    def life(count: int) -> Callable[[Any], Any]:
        def live(ask: Callable[[Any], Any]) -> Any:
            got = []
            for number in range(count):
                time.sleep(rng.random() / 500)
                got.append(ask(number))
            return got

        return live

    found = attend(Meeting(times, answer), {name: life(n) for name, n in times.items()})
    assert found == {name: [(name, n) for n in range(count)] for name, count in times.items()}
    assert together == [
        {name: n for name, count in times.items() if count > n} for n in range(max(times.values()))
    ]
    assert all(list(asked) == sorted(asked) for asked in together), "in the order of members"


def test_one_that_fails_between_lets_the_others_go_on() -> None:
    def fails(ask: Callable[[Any], Any]) -> Any:
        ask(0)
        raise KeyError("its own")

    def goes_on(ask: Callable[[Any], Any]) -> Any:
        return [ask(number) for number in range(3)]

    found = attend(Meeting("ab", dict), {"a": fails, "b": goes_on})
    assert isinstance(found["a"], KeyError)
    assert found["b"] == [0, 1, 2]


def test_everybody_hears_of_an_answer_that_fails_and_may_ask_again() -> None:
    def answer(asked: Mapping[str, int]) -> Mapping[str, Any]:
        if 13 in asked.values():
            raise ValueError("no answer to 13")
        return asked

    def life(ask: Callable[[Any], Any]) -> Any:
        with pytest.raises(ValueError, match="no answer to 13"):
            ask(13)
        return ask(14)

    found = attend(Meeting("abc", answer), dict.fromkeys("abc", life))
    assert found == dict.fromkeys("abc", 14)


def test_stop_wakes_all_who_wait_and_ends_what_comes() -> None:
    meeting = Meeting("abc", dict)

    def waits(ask: Callable[[Any], Any]) -> Any:
        return ask(1)

    def stops(ask: Callable[[Any], Any]) -> Any:
        time.sleep(0.05)
        meeting.stop()
        return ask(1)

    found = attend(meeting, {"a": waits, "b": waits, "c": stops})
    assert all(isinstance(one, Stopped) for one in found.values())


def test_a_member_that_never_came_may_leave_and_those_who_ask_alone_are_answered() -> None:
    meeting = Meeting("abc", lambda asked: {name: len(asked) for name in asked})
    meeting.leave("c")
    assert attend(meeting, {"a": lambda ask: ask(0), "b": lambda ask: ask(0)}) == {"a": 2, "b": 2}
