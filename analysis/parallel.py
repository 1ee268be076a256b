"""Draw many figures at a time: a part of them here, the others in processes beside this one.

The processes are started afresh, neither forked (this one may have threads: Ray's, a notebook's)
nor by multiprocessing (which would run the user's script again): each reads its work from a pipe.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

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

    Args:
        work: a function of a module that a fresh process can import.
        items: its first arguments.
        args: its other arguments; they are pickled, as are the results.
        fewest: how many items are worth a process; :data:`FEWEST` without.
        told: hears how many items are done, about: others are as fast as this process.
        meanwhile: what this process does first, while the others start.

    Raises:
        OSError: when a file could not be read or written, here or there.
        RuntimeError: when a process failed; the text holds its traceback.
    """
    parties = max(1, min(cores(), len(items) // (fewest or FEWEST)))
    found: list[T | None] = [None] * len(items)
    with ThreadPoolExecutor(max(1, parties - 1)) as threads:
        others = [threads.submit(_beside, work, items[i::parties], args) for i in range(1, parties)]
        meanwhile()
        for place in range(0, len(items), parties):
            found[place] = work(items[place], *args)
            told(min(place + parties, len(items)))
        for i, other in enumerate(others, 1):
            found[i::parties] = other.result()
    return found  # type: ignore[return-value]


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _beside(work: Callable[..., T], items: Sequence[str], args: Sequence[Any]) -> list[T]:
    """Do some items in a fresh process."""
    path = [p or os.getcwd() for p in sys.path]
    command = [sys.executable, "-c", CHILD.format(path=path)]
    # Only what these two processes tell each other is pickled, and no file holds it.
    job = pickle.dumps((work, list(items), tuple(args)))
    done = subprocess.run(command, input=job, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"a process beside this one failed:\n{done.stderr.decode()}")
    answer = pickle.loads(done.stdout)
    if isinstance(answer, OSError):
        raise answer
    return answer  # type: ignore[no-any-return]


def serve() -> None:
    """Do what the other end of the pipe asks for."""
    work, items, args = pickle.load(sys.stdin.buffer)
    out, sys.stdout = sys.stdout.buffer, sys.stderr  # What prints must not spoil the answer.
    try:
        answer: Any = [work(item, *args) for item in items]
    except OSError as error:  # of the disk, not of the program
        answer = error
    pickle.dump(answer, out)
    out.flush()
