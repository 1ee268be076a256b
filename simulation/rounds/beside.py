"""Work that goes on beside a round: what the next one needs, what the last one has to tell."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

_THREAD = ThreadPoolExecutor(1, thread_name_prefix="sunflower-beside")
"""One for all runs of the process: each waits for the pieces before its own, so keep them short."""


def start(work: Callable[P, T], *args: P.args, **options: P.kwargs) -> Callable[[], T]:
    """Start some work; return what waits for it, and returns or raises what it does."""
    return _THREAD.submit(work, *args, **options).result
