"""Checkpoints written beside the rounds that follow them, one after the other.

A checkpoint is taken at once and is on the disk some time later. A run that is killed in between
goes on from the one before, with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from simulation.records import checkpoint
from simulation.records.checkpoint import Checkpoint
from simulation.records.client_states import StateFile


class CheckpointWriter:
    """Write checkpoints in a thread of its own.

    Args:
        folder: of the checkpoints.
        first: called in that thread before each of them: puts on the disk what the checkpoint
            takes for granted.
    """

    def __init__(self, folder: Path, first: Callable[[], None]) -> None:
        self._folder, self._first = folder, first
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sunflower-checkpoint")
        self._pending: Future[None] | None = None

    def write(self, taken: Checkpoint) -> None:
        """Take a checkpoint, and return before it is written; wait for the one before.

        Raises:
            OSError: if the one before could not be written.
        """
        self.wait()
        data, clients = checkpoint.encoded(taken), dict(taken.clients)
        self._pending = self._thread.submit(self._store, taken.position.round, data, clients)

    def wait(self) -> None:
        """Return when all checkpoints are on the disk.

        Raises:
            OSError: if one could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Wait, and end the thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def _store(self, round: int, data: bytes, clients: Mapping[int, StateFile]) -> None:
        self._first()
        checkpoint.store(self._folder, round, data, clients)
