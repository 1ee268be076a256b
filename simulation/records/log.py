"""What a run writes about itself: summary, log, citations, and why it could not be written."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from typing_extensions import override

from simulation.records import run_folder
from simulation.records.lock import locked

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
"""Errors of a disk, not of a program."""

_LEVELS = threading.Lock()

_LOGGING: list[int] = []
"""Threads whose runs have a log of their own."""

_BEFORE: list[int] = []
"""The loggers' levels before the first of them."""


class DiskError(RuntimeError):
    """The run folder cannot be written any more."""


class _LogFile(logging.FileHandler):
    """A log that a full disk cuts short, without a traceback for every line."""

    @override
    def handleError(self, record: logging.LogRecord) -> None:
        """Leave the line out."""


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turn a full or broken disk into a DiskError that says how to go on."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise DiskError(
            f"{path} cannot be written ({error.strerror or error}); when that is mended, "
            "--resume goes on from the last checkpoint"
        ) from error


@contextmanager
def new_folder(path: Path) -> Iterator[None]:
    """Make and lock a run folder; take it away again if nothing was written."""
    run_folder.check_free(path)
    path.mkdir(parents=True, exist_ok=True)
    try:
        with locked(path):
            run_folder.check_free(path)
            yield
    finally:
        with suppress(OSError):
            path.rmdir()


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Send the log of Sunflower and of Flower, and warnings, to a file while the run lasts.

    Where several runs go on in threads of one process, each log has what its own thread says, and
    what threads say that are no run's.
    """
    handler, thread = _LogFile(path, encoding="utf-8"), threading.get_ident()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(lambda record: record.thread == thread or record.thread not in _LOGGING)
    loggers = [logging.getLogger(name) for name in ("sunflower", "flwr", "py.warnings")]
    with _LEVELS:
        if not _LOGGING:
            _BEFORE[:] = [logger.level for logger in loggers]
        _LOGGING.append(thread)
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        with _LEVELS:
            _LOGGING.remove(thread)
            for logger, level in zip(loggers, list(_BEFORE), strict=True):
                logger.removeHandler(handler)
                if not _LOGGING:
                    logger.setLevel(level)
        handler.close()
