"""What Ray may wait for without limit, with limits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import GetTimeoutError

from simulation.engines.policy import POLICY

Found = TypeVar("Found")


class Answer(Generic[Found]):
    """The answer of a function that may take long: a thread of its own waits for it.

    Args:
        function: it is called once at a time.
    """

    def __init__(self, function: Callable[[], Found]) -> None:
        self._function = function
        self._asked: Future[Found] | None = None

    def within(self, seconds: float) -> Found | None:
        """Return an answer; None where none came in time, or an error.

        One that came too late is what the next call returns.
        """
        if self._asked is None:
            self._asked = Future()
            threading.Thread(target=self._ask, args=(self._asked,), daemon=True).start()
        asked = self._asked
        try:
            found = asked.result(seconds)
        except TimeoutError:
            if not asked.done():
                return None
            found = None
        except Exception:
            found = None
        self._asked = None
        return found

    def _ask(self, asked: Future[Found]) -> None:
        try:
            asked.set_result(self._function())
        except BaseException as error:
            asked.set_exception(error)


def fetched(ref: Any, tries: int = POLICY.pull_tries) -> Any:
    """Return the value of one of Ray's references, which may lie on another node.

    Ray asks the other node again after 10 s, and then after twice as many each time: a link that
    comes back is noticed late. A new try asks at once; it has more time, in case the link is slow.

    Args:
        ref: Ray's reference.
        tries: how many.

    Raises:
        GetTimeoutError: when no try has brought it.
    """
    for attempt in range(tries - 1):
        try:
            return ray.get(ref, timeout=POLICY.pull_first * 2**attempt)
        except GetTimeoutError:
            continue
    return ray.get(ref, timeout=POLICY.pull_first * 2 ** (tries - 1))
