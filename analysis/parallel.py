"""Draw many figures at a time: a part of them here, the others in processes beside this one.

The processes are started afresh, neither forked (this one may have threads: Ray's, a notebook's)
nor by multiprocessing (which would run the user's script again): each reads its work from a pipe.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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

    Raises:
        OSError: when a file could not be read or written, here or there.
        RuntimeError: when a process failed; the text holds its traceback.
    """
    parties = max(1, min(cores(), len(items) // (fewest or FEWEST)))
    waiting = deque(enumerate(items))
    found: dict[int, T] = {}
    with ThreadPoolExecutor(max(1, parties - 1)) as threads:
        others = [threads.submit(_beside, work, args, waiting, found) for _ in range(1, parties)]
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
    work: Callable[..., T],
    args: Sequence[Any],
    waiting: deque[tuple[int, str]],
    found: dict[int, T],
) -> None:
    """Let a fresh process do items while there are any."""
    path = [p or os.getcwd() for p in sys.path]
    command = [sys.executable, "-c", CHILD.format(path=path)]
    # Only what these two processes tell each other is pickled, and no file holds it.
    with TemporaryFile() as said, Popen(command, stdin=PIPE, stdout=PIPE, stderr=said) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            _send((work, tuple(args)), process.stdin)
            for place, item in _taken(waiting):
                _send(item, process.stdin)
                answer = pickle.load(process.stdout)
                if isinstance(answer, OSError):
                    raise answer
                found[place] = answer
        except (EOFError, BrokenPipeError):
            process.wait()
            said.seek(0)
            raise RuntimeError(
                f"a process beside this one failed:\n{said.read().decode()}"
            ) from None
        finally:
            waiting.clear()  # where one failed nobody begins another


def _send(value: Any, pipe: IO[bytes]) -> None:
    pickle.dump(value, pipe)
    pipe.flush()


def serve() -> None:
    """Do what the other end of the pipe asks for, until it closes it."""
    out, sys.stdout = sys.stdout.buffer, sys.stderr  # What prints must not spoil the answer.
    work, args = pickle.load(sys.stdin.buffer)
    with suppress(EOFError):
        while True:
            item = pickle.load(sys.stdin.buffer)
            try:
                answer: Any = work(item, *args)
            except OSError as error:  # of the disk, not of the program
                answer = error
            _send(answer, out)
