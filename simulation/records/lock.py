"""One writer for a run folder, and signals that end a run in order."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simulation.config.errors import RunError

log = logging.getLogger("sunflower.lock")

NAME = "run.lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``run.lock`` in a run folder, which must exist.

    The lock is the kernel's and goes with the process: a crash leaves nothing to clean up.

    Raises:
        RunError: when another process writes there.
    """
    path = folder / NAME
    descriptor = _open(path)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    except OSError:
        pass  # Only for people who look: a full disk must not keep a run from going on.
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _open(path: Path) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RunError(f"out: {path.parent} cannot be written ({error.strerror})") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(descriptor, 20).decode("ascii", "replace").strip()
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                log.warning("%s: this file system has no locks (%s)", path, error.strerror)
                return descriptor
            os.close(descriptor)
            raise RunError(
                f"out: {path.parent} is being written by another run"
                + (f" (process {owner})" if owner else "")
            ) from None
        # The holder before us may have removed the file that we opened.
        try:
            if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)
