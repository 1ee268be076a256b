"""Checkpoints written beside the rounds that follow them, one after the other.

A checkpoint is taken at once and is on the disk some time later. A run that is killed in between
goes on from the one before, with the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.config.sections import Faults
from simulation.records import checkpoint
from simulation.records.checkpoint import Checkpoint, Snapshot
from simulation.records.client_states import StateFile
from strategies.protocols import State

SECONDS = 10.0
"""Between two checkpoints, where the experiment does not say how often there is one."""


@dataclass
class Due:
    """When there is to be a checkpoint.

    Args:
        rounds: between two of them; None: time decides.
        seconds: between two of them; None: rounds decide.
        most: rounds between two of them, whatever the time.
    """

    rounds: int | None
    seconds: float | None
    most: int | None = None

    def __post_init__(self) -> None:
        self._last = time.monotonic()

    @classmethod
    def of(cls, faults: Faults, most: int | None = None) -> Due:
        """Return what an experiment says of its checkpoints."""
        rounds, seconds = faults.checkpoint_every, faults.checkpoint_seconds
        return cls(rounds, SECONDS if rounds is None and seconds is None else seconds, most)

    def now(self, round: int, before: int) -> bool:
        """Tell whether it is time for one.

        Args:
            round: the last round that was trained.
            before: the round of the last checkpoint.
        """
        by_rounds = self.rounds is not None and round % self.rounds == 0
        many = self.most is not None and round - before >= self.most
        late = self.seconds is not None and time.monotonic() - self._last >= self.seconds
        return by_rounds or many or late

    def done(self) -> None:
        """Hear that one was taken."""
        self._last = time.monotonic()


class CheckpointWriter:
    """Write checkpoints in a thread of its own.

    Args:
        folder: of the checkpoints.
        first: called in that thread before each of them: puts on the disk what the checkpoint
            takes for granted.
        due: when there is to be one; None: whenever there is something new.
        begun: the round that the run goes on from.
    """

    def __init__(
        self, folder: Path, first: Callable[[], None], due: Due | None = None, begun: int = 0
    ) -> None:
        self._folder, self._first, self._due = folder, first, due or Due(1, None)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sunflower-checkpoint")
        self._pending: Future[None] | None = None
        self._newest: Checkpoint | None = None  # It is written at the end, if not before.
        self._before = begun

    def offer(self, taken: Checkpoint, last: bool = False) -> None:
        """Take what a checkpoint needs, and write it if one is due, or else at the end.

        Args:
            taken: after a round. Its model must not be written over later; its state may be, but
                for arrays that say that they are not.
            last: whether it was the last round.

        Raises:
            OSError: if the one before could not be written.
        """
        round = taken.position.round
        if last or self._due.now(round, self._before):
            self.write(taken)
        else:
            self._newest = replace(taken, state=fixed(taken.state), clients=dict(taken.clients))

    def write(self, taken: Checkpoint) -> None:
        """Take a checkpoint, and return before it is written; wait for the one before.

        Raises:
            OSError: if the one before could not be written.
        """
        self.wait()
        data, clients = checkpoint.encoded(taken), dict(taken.clients)
        self._pending = self._thread.submit(self._store, taken.position.round, data, clients)
        self._newest, self._before = None, taken.position.round
        self._due.done()

    def wait(self) -> None:
        """Return when all checkpoints that were due are on the disk.

        Raises:
            OSError: if one could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Write what was offered last, wait, and end the thread."""
        try:
            self.wait()
            if self._newest is not None:
                self.write(self._newest)
                self.wait()
        finally:
            self._thread.shutdown()

    def _store(self, round: int, data: bytes, clients: Mapping[int, StateFile]) -> None:
        self._first()
        checkpoint.store(self._folder, round, data, clients)


def fixed(state: State) -> State:
    """Return a state that stays as it is now."""
    if isinstance(state, Snapshot):
        return state
    return {name: _kept(value) for name, value in state.items()}


def _kept(value: Any) -> NDArray[Any]:
    """Return a value that stays as it is now: a copy, unless it cannot be written over."""
    constant = isinstance(value, np.ndarray) and not value.flags.writeable
    return value if constant else np.array(value)
