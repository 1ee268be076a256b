"""Calls of several runs in one process, whose clients train in the same programs.

Each call goes its way in a thread of its own, one thread at a time, as if it were alone: chunks,
clients that fail, what is trained again. Where it would train, it waits for the others.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from simulation.records.client_states import StateError
from simulation.training.backend import Asked, Outcome, Trainer, backend
from simulation.training.measured import TrainedClient
from simulation.training.plan import Job
from simulation.worker.executor import Executor
from simulation.worker.meeting import Meeting


@dataclass
class Done:
    """How a call went: what it returned, or what it raised."""

    value: Any = None
    error: BaseException | None = None

    def result(self) -> Any:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value


class Crew:
    """Threads that are kept, as to start one takes as long as some clients' training."""

    def __init__(self) -> None:
        self._turn, self._free = threading.Lock(), 0
        self._work = queue.SimpleQueue[Callable[[], None]]()

    def carry_out(self, work: Sequence[Callable[[], None]]) -> None:
        """Do everything at the same time, each in a thread of its own; wait for all of it.

        Raises:
            BaseException: the first that was raised.
        """
        over, left, errors = threading.Event(), len(work), list[BaseException]()

        def one(what: Callable[[], None]) -> None:
            nonlocal left
            try:
                what()
            except BaseException as error:
                errors.append(error)
            with self._turn:
                left, self._free = left - 1, self._free + 1
                if not left:
                    over.set()

        with self._turn:
            for _ in range(len(work) - self._free):
                threading.Thread(target=self._live, daemon=True).start()
            self._free = max(0, self._free - len(work))
        for what in work:
            self._work.put(partial(one, what))
        if work:
            over.wait()
        if errors:
            raise errors[0]

    def _live(self) -> None:
        while True:
            self._work.get()()


CREW = Crew()
"""The threads of this process: each call that is under way has one of them."""


class Together:
    """Calls that are carried out together.

    Args:
        executors: of each call; no two of them are the same, all of one backend.
    """

    def __init__(self, executors: Sequence[Executor]) -> None:
        self._executors = executors
        self._backend = backend(executors[0].setup.experiment.resources.library)
        self._meeting = Meeting(range(len(executors)), self._answer)
        self._turn = threading.Lock()  # Models are traced, and measured, by one thread at a time.

    def carry_out(self, calls: Sequence[Callable[[], Any]]) -> list[Done]:
        """Return how each call went, in order.

        Args:
            calls: one for each executor, which they use.
        """
        done = [Done() for _ in calls]
        CREW.carry_out(
            [partial(self._one, place, call, done[place]) for place, call in enumerate(calls)]
        )
        for one in done:
            if not isinstance(one.error, Exception | StateError | None):
                raise one.error
        return done

    def _one(self, place: int, call: Callable[[], Any], done: Done) -> None:
        executor = self._executors[place]
        usual = executor.train_job
        try:
            with self._turn:
                executor.train_job = partial(self._ask, place)
                done.value = call()
        except BaseException as error:
            done.error = error
        finally:
            executor.train_job = usual
            self._meeting.leave(place)

    def _ask(self, place: int, trainer: Trainer, model: Any, job: Job) -> list[TrainedClient]:
        self._turn.release()
        try:
            found: Outcome = self._meeting.ask(place, (trainer, model, job))
        finally:
            self._turn.acquire()
        if isinstance(found, Exception):
            raise found
        return found

    def _answer(self, asked: Mapping[int, Asked]) -> Mapping[int, Outcome]:
        return dict(zip(asked, self._backend.train_together(list(asked.values())), strict=True))
