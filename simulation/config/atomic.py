"""Files that are whole or absent: written beside their place, then renamed into it.

It lies in the first package because the cache of datasets and the records of runs both write so,
and neither may import the other.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path, *, writers: bool = False, durable: bool = False) -> Iterator[Path]:
    """Yield a hidden path beside ``path``; what is written there takes its name in the end.

    After an error there is no hidden file, and ``path`` is what it was.

    Args:
        path: the file to write or to replace.
        writers: whether several may write it at the same time: each gets a hidden file of its own.
            Otherwise what a killed writer has left is written over by the next.
        durable: whether the file is on the disk when this returns, even if power fails then.
    """
    mark = f".{secrets.token_hex(4)}" if writers else ""
    hidden = path.with_name(f".{path.name}{mark}.tmp")
    try:
        yield hidden
        if durable:
            flush(hidden)
        os.replace(hidden, path)
    except BaseException:
        # On a full disk this is room for the next attempt.
        with suppress(OSError):
            hidden.unlink()
        raise
    if durable:
        flush(path.parent)


def flush(path: Path) -> None:
    """Return when a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
