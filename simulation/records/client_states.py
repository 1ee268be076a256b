"""What clients keep between rounds (control variates, personal layers): files of the run folder.

A client's state after a round is one file, ``checkpoint/clients/ROUND/CLIENT.safetensors``, written
once by the worker that trained the client and read by the one that trains it next. So nobody
ever holds the states of all clients, the pages in use are the operating system's cache, and a
checkpoint adds only what has changed: it flushes the new files and lists all that count, each
with its sha256. Files that no kept checkpoint lists are removed.

Where workers run on other machines, states travel through Ray's object store (which spills to
disk), and the driver writes the same files: see :class:`simulation.engines.ray.engine.RayEngine`.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from simulation.config.atomic import flush, replacing
from simulation.config.errors import ConfigError, RunError
from simulation.config.experiment import Experiment
from simulation.config.scheduling import updates_of
from simulation.config.sizes import FLOAT_BYTES, gib
from strategies.personal import local_entries
from strategies.spec import Spec, Vector

SYNCS = 16
"""Files that are flushed at a time: a journal commits what waits for it together."""


class StateError(BaseException):
    """A client's state that could not be read or written.

    No ``Exception``: what watches over a client's training must not take it for the client's.
    """


class Handle(Protocol):
    """What stands for a client's state until it is needed."""

    def load(self) -> Vector:
        """Return the state."""


@dataclass(frozen=True)
class StateRow:
    """A state in memory: a row of an array [clients, ...]."""

    values: NDArray[np.float32]
    row: int

    def load(self) -> Vector:
        """Return the row."""
        return self.values[self.row]


@dataclass(frozen=True, slots=True)
class StateFile:
    """A state in a file.

    Args:
        folder: of all states.
        client: whose it is.
        round: after which it was written.
        digest: the file's sha256.
    """

    folder: str
    client: int
    round: int
    digest: bytes

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.folder) / f"{self.round:06d}" / f"{self.client}.safetensors"

    def load(self) -> Vector:
        """Return the state.

        Raises:
            StateError: if the file is missing or no state.
        """
        try:
            return load_file(self.path)["kept"]
        except (OSError, KeyError, SafetensorError) as error:
            raise StateError(
                f"the state of client {self.client} after round {self.round} cannot be read from "
                f"{self.path} ({error})"
            ) from error

    def check(self) -> None:
        """Raise ValueError unless the file is what was written, OSError if it is missing."""
        if hashlib.sha256(self.path.read_bytes()).digest() != self.digest:
            raise ValueError(f"the sha256 of {self.path} is not the recorded one")


@dataclass(frozen=True)
class StateFolder:
    """The folder of all states.

    Args:
        folder: its absolute path; made with the first state.
    """

    folder: str

    def at(self, client: int, round: int, digest: bytes) -> StateFile:
        """Return what stands for a state that has been put here."""
        return StateFile(self.folder, client, round, digest)

    def put(self, client: int, round: int, state: Vector) -> StateFile:
        """Write a client's state after a round; a process killed meanwhile leaves no half file.

        It is on the disk only after :func:`sync`.

        Raises:
            OSError: if it cannot be written.
        """
        data = save({"kept": np.ascontiguousarray(state)})
        stored = self.at(client, round, hashlib.sha256(data).digest())
        path = stored.path
        path.parent.mkdir(parents=True, exist_ok=True)
        # A worker that is taken for dead may still write what another trains again.
        with replacing(path, writers=True) as hidden:
            hidden.write_bytes(data)
        return stored


def sync(stored: Iterable[StateFile]) -> None:
    """Return when states, and the folders that they are in, are on the disk."""
    files = [one.path for one in stored]
    folders = {file.parent for file in files}
    above = {folder.parent for folder in folders}
    with ThreadPoolExecutor(SYNCS) as pool:
        for paths in (files, folders, above):
            list(pool.map(flush, paths))


def check(stored: Iterable[StateFile]) -> None:
    """Raise ValueError or OSError unless every state is what was written; one at a time."""
    for one in stored:
        one.check()


def sha256(stored: Mapping[int, StateFile]) -> str:
    """Return the sha256 of what all clients keep, joined by number, as one float32 vector's."""
    found = hashlib.sha256()
    for _, one in sorted(stored.items()):
        found.update(np.ascontiguousarray(one.load(), "<f4").tobytes())
    return found.hexdigest()


def sweep(folder: Path, wanted: Collection[tuple[int, int]], last: int) -> None:
    """Remove all states of rounds up to ``last`` but those ``wanted``, given as (round, client).

    What workers have written for later rounds is listed nowhere yet.
    """
    if not folder.is_dir():
        return
    names = {(f"{round:06d}", f"{client}.safetensors") for round, client in wanted}
    for inner in sorted(folder.iterdir()):
        if int(inner.name) > last:
            continue
        left = 0
        for file in inner.iterdir():
            if (inner.name, file.name) in names:
                left += 1
            else:
                file.unlink(missing_ok=True)
        if not left:
            inner.rmdir()


def as_driver_error(text: str) -> Exception:
    """Return the error that a StateError, as_driver_error by another process, is for the driver."""
    found = re.match(r"\[Errno (\d+)\] (.*)", text, re.DOTALL)
    return OSError(int(found[1]), found[2]) if found else RunError(text)


def check_room(path: Path, spec: Spec, own: int, kept: tuple[str, ...], plan: Experiment) -> None:
    """Raise ConfigError when what clients keep cannot fit on the run folder's disk.

    Args:
        path: the run folder.
        spec: the model's layout.
        own: how many vectors [T] a client keeps.
        kept: patterns of the weights of which a client has its own.
        plan: clients, cohort and rounds.
    """
    size = own * spec.trainable_size + (len(local_entries(spec, kept)) if kept else 0)
    need = FLOAT_BYTES * size * min(plan.clients, updates_of(plan) * plan.rounds)
    nearest = next(p for p in [path, *path.absolute().parents] if p.exists())
    free = shutil.disk_usage(nearest).free
    if need > free:
        raise ConfigError(
            f"out must be on a disk with {gib(need)} free for what clients keep, "
            f"got {path} ({gib(free)} free)"
        )
