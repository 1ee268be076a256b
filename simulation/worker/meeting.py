"""A meeting of threads: their questions are answered all at once, when everybody has asked.

Who is answered with whom is decided by what members ask and when they leave, never by who was
first: the n-th answer is given to all who ask n times.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from simulation.worker.faults import Stopped

Answer = Callable[[Mapping[Any, Any]], Mapping[Any, Any]]
"""From what each member asks to what each is answered."""


class Meeting:
    """Members, each in a thread of its own, who wait for one another.

    Args:
        members: all of them; each must leave in the end, whatever becomes of it.
        answer: answers all who are there, in the order of ``members``; it is called by one of
            their threads while the others wait. What it raises, everybody gets.
    """

    def __init__(self, members: Iterable[Hashable], answer: Answer) -> None:
        self._there = dict.fromkeys(members)
        self._answer = answer
        self._turn = threading.Condition()
        self._asked: dict[Hashable, Any] = {}
        self._answers: dict[Hashable, Any] = {}
        self._errors: dict[Hashable, BaseException] = {}
        self._answering = self._stopping = False

    def ask(self, member: Hashable, question: Any) -> Any:
        """Wait until all who are still there have asked; return the answer.

        Raises:
            Stopped: the meeting was told to stop.
            BaseException: what answering raised.
        """
        with self._turn:
            self._asked[member] = question  # Nobody is woken: the last who asks answers.
            while not (member in self._answers or member in self._errors):
                if self._stopping:
                    self._asked.pop(member, None)
                    raise Stopped
                if self._complete:
                    self._answer_all()
                else:
                    self._turn.wait()
            if member in self._errors:
                raise self._errors.pop(member)
            return self._answers.pop(member)

    def leave(self, member: Hashable) -> None:
        """Let the others go on without a member; one who has left stays away."""
        with self._turn:
            self._there.pop(member, None)
            self._turn.notify_all()

    def stop(self) -> None:
        """End the waiting of all, now and from now on."""
        with self._turn:
            self._stopping = True
            self._turn.notify_all()

    @property
    def _complete(self) -> bool:
        return not self._answering and self._asked.keys() >= self._there.keys()

    def _answer_all(self) -> None:
        """Answer all who have asked, without the lock meanwhile."""
        asked = {one: self._asked[one] for one in self._there}
        self._asked, self._answering = {}, True
        answers, error = dict[Hashable, Any](), None
        self._turn.release()
        try:
            answers = dict(self._answer(asked))
        except BaseException as raised:
            error = raised
        finally:
            self._turn.acquire()
            self._answering = False
            for one in asked:
                if error is None:
                    self._answers[one] = answers[one]
                else:
                    self._errors[one] = error
            self._turn.notify_all()


@dataclass(frozen=True)
class Member:
    """A place in a meeting."""

    meeting: Meeting
    name: Hashable

    def ask(self, question: Any) -> Any:
        """Ask as this member (see :meth:`Meeting.ask`)."""
        return self.meeting.ask(self.name, question)
