"""Draw many figures at a time: a part of them here, the others in processes beside this one.

The processes are started afresh, neither forked (this one may have threads: Ray's, a notebook's)
nor by multiprocessing (which would run the user's script again): each reads its work from a pipe.
"""

from __future__ import annotations

import gc
import os
import pickle
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from subprocess import PIPE, Popen
from tempfile import TemporaryFile
from typing import IO, Any, TypeVar

T = TypeVar("T")

FEWEST = 6
"""Items that are worth a process, which takes about two seconds to start."""

CHILD = "import sys; sys.path[:] = {path!r}; from analysis.parallel import serve; serve()"


def each(
    work: Callable[..., T],
    items: Sequence[str],
    *args: Any,
    fewest: int | None = None,
    told: Callable[[int], None] = lambda done: None,
    meanwhile: Callable[[], object] = lambda: None,
    ready: Sequence[Helper] = (),
) -> list[T]:
    """Return ``[work(item, *args) for item in items]``, made on several cores where it pays.

    Every process takes the next item when it is done with one: none is left with many at the end.

    Args:
        work: a function of a module that a fresh process can import.
        items: its first arguments.
        args: its other arguments; they are pickled, as are the results.
        fewest: how many items are worth a process; :data:`FEWEST` without.
        told: hears how many items are done.
        meanwhile: what this process does first, while the others start.
        ready: processes that were started before, see :func:`started`.

    Raises:
        OSError: when a file could not be read or written, here or there.
        RuntimeError: when a process failed; the text holds its traceback.
    """
    parties = max(1, min(cores(), len(items) // (fewest or FEWEST)))
    waiting = deque(enumerate(items))
    found: dict[int, T] = {}
    with ExitStack() as stack:
        beside = list(ready[: parties - 1])
        beside += [stack.enter_context(helper()) for _ in range(parties - 1 - len(beside))]
        threads = stack.enter_context(ThreadPoolExecutor(max(1, len(beside))))
        others = [threads.submit(_beside, one, work, args, waiting, found) for one in beside]
        stack.enter_context(little_tidying())
        try:
            meanwhile()
            for place, item in _taken(waiting):
                found[place] = work(item, *args)
                told(len(found))
        finally:
            waiting.clear()  # after a failure nobody begins another
        for other in others:
            other.result()
    if parties > 1:
        told(len(found))
    return [found[place] for place in range(len(items))]


@contextmanager
def started(pays: bool) -> Iterator[list[Helper]]:
    """Start a process for each other core, for :func:`each` later; none unless it ``pays``."""
    with ExitStack() as stack:
        yield [stack.enter_context(helper()) for _ in range(cores() - 1 if pays else 0)]


@contextmanager
def helper() -> Iterator[Helper]:
    """Start a fresh process: it imports what it needs while this one goes on.

    It ends when nobody can tell it anything any more.
    """
    path = [p or os.getcwd() for p in sys.path]
    command = [sys.executable, "-c", CHILD.format(path=path)]
    with TemporaryFile() as said, Popen(command, stdin=PIPE, stdout=PIPE, stderr=said) as process:
        yield Helper(process, said)


@dataclass(frozen=True)
class Helper:
    """A process beside this one.

    Args:
        process: at the other end of pipes.
        said: the file of what it said.
    """

    process: Popen[bytes]
    said: IO[bytes]

    def send(self, value: Any) -> None:
        """Send what only these two processes read: it is pickled, and no file holds it."""
        assert self.process.stdin is not None
        pickle.dump(value, self.process.stdin)
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Wait for what it found; raise the error of its disk."""
        assert self.process.stdout is not None
        answer = pickle.load(self.process.stdout)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def failure(self) -> RuntimeError:
        """Return what it said at its end."""
        self.process.wait()
        self.said.seek(0)
        return RuntimeError(f"a process beside this one failed:\n{self.said.read().decode()}")


@contextmanager
def little_tidying() -> Iterator[None]:
    """Let Python look for garbage less often: figures are thousands of objects that live on.

    Looking through all of them every 700 objects takes a tenth of the time and more.
    """
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _taken(waiting: deque[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Take items until none is left."""
    with suppress(IndexError):
        while True:
            yield waiting.popleft()


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _beside(
    other: Helper,
    work: Callable[..., T],
    args: Sequence[Any],
    waiting: deque[tuple[int, str]],
    found: dict[int, T],
) -> None:
    """Let another process do items while there are any."""
    try:
        other.send((work, tuple(args)))
        for place, item in _taken(waiting):
            other.send(item)
            found[place] = other.answer()
    except (EOFError, BrokenPipeError):
        raise other.failure() from None
    finally:
        waiting.clear()  # where one failed nobody begins another


def serve() -> None:
    """Do what the other end of the pipe asks for, until it closes it."""
    out, sys.stdout = sys.stdout.buffer, sys.stderr  # What prints must not spoil the answer.
    with suppress(EOFError), little_tidying():
        work, args = pickle.load(sys.stdin.buffer)
        while True:
            item = pickle.load(sys.stdin.buffer)
            try:
                answer: Any = work(item, *args)
            except OSError as error:  # of the disk, not of the program
                answer = error
            pickle.dump(answer, out)
            out.flush()
