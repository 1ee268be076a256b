"""One writer for a run folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import ENOENT
from pathlib import Path

from filelock import FileLock, Timeout

from simulation.config.errors import RunError

log = logging.getLogger("sunflower.lock")

NAME = "run.lock"

PATIENCE = 0.2
"""Seconds that are tried: a run that ends may be taking its lock file away at this moment."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``run.lock`` in a run folder, which must exist.

    The lock is the kernel's and goes with the process: a crash leaves nothing to clean up.

    Raises:
        RunError: when another process writes there.
    """
    path = folder / NAME
    lock = FileLock(path, timeout=PATIENCE, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        if not path.exists():
            raise RunError(f"out: {folder} cannot be written ({os.strerror(ENOENT)})") from None
        owner = ""
        with suppress(OSError):
            owner = path.read_text("ascii", "replace").strip()
        who = f" (process {owner})" if owner else ""
        raise RunError(f"out: {folder} is being written by another run{who}") from None
    except OSError as error:
        if error.filename is not None:  # of opening the file, not of locking it
            raise RunError(f"out: {folder} cannot be written ({error.strerror})") from None
        log.warning("%s: this file system has no locks (%s)", path, error.strerror)
    # Only for people who look: a full disk must not keep a run from going on.
    with suppress(OSError):
        path.write_text(f"{os.getpid()}\n")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()
