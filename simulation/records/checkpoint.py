"""Checkpoints: model, server state, what clients keep, and the round's own figures.

A checkpoint is one safetensors file with its sha256 beside it. It is written under another name,
flushed to the disk and renamed; the last two are kept, so that a damaged one costs one round. What
clients keep is in files of its own (see :mod:`simulation.records.client_states`), which a
checkpoint lists.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from simulation.records import client_states, files
from simulation.records.client_states import StateFile
from simulation.records.rows import Rows
from strategies.protocols import State
from strategies.spec import Vector

log = logging.getLogger("sunflower.checkpoint")

KEPT_CHECKPOINTS = 2

CLIENTS = "clients"
"""Folder of what clients keep, in that of the checkpoints."""


class Snapshot(Mapping[str, Any]):
    """A state that stays as it is now, put together when it is read: few are ever written.

    Args:
        make: puts it together, of what nobody changes.
    """

    def __init__(self, make: Callable[[], State]) -> None:
        self._make = make

    @cached_property
    def _found(self) -> State:
        return self._make()

    def __getitem__(self, name: str) -> Any:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to go on as if nothing had happened."""

    position: Position
    state: State
    clients: Mapping[int, StateFile]
    seconds: float


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Add a checkpoint to ``folder``; drop those before the last two, and what only they list."""
    store(folder, checkpoint.position.round, encoded(checkpoint), checkpoint.clients)


def encoded(checkpoint: Checkpoint) -> bytes:
    """Return a checkpoint as the bytes of its file: what changes after that is not in it."""
    position = checkpoint.position
    position.complete()
    arrays: dict[str, Any] = {"model": position.model}
    arrays |= {f"state.{k}": np.asarray(v) for k, v in checkpoint.state.items()}
    arrays |= {f"rows.{k}": np.asarray(v) for k, v in (position.rows or {}).items()}
    if checkpoint.clients:
        kept = [stored for _, stored in sorted(checkpoint.clients.items())]
        arrays["clients.id"] = np.array([s.client for s in kept], np.int64)
        arrays["clients.round"] = np.array([s.round for s in kept], np.int64)
        arrays["clients.sha256"] = np.array([np.frombuffer(s.digest, np.uint8) for s in kept])
    about = {"round": position.round, "line": position.line, "seconds": checkpoint.seconds}
    return save(
        {k: np.ascontiguousarray(v).reshape(np.shape(v)) for k, v in arrays.items()},
        metadata={"sunflower": files.to_json(about)},
    )


def store(folder: Path, round: int, data: bytes, clients: Mapping[int, StateFile]) -> None:
    """Write the checkpoint of a round; drop those before the last two, and what only they list.

    Clients may train for later rounds meanwhile.

    Args:
        folder: of the checkpoints.
        round: the checkpoint's.
        data: it, as bytes.
        clients: the states that it lists.
    """
    folder.mkdir(exist_ok=True)
    earlier = [number for path in _all(folder) if (number := _round(path)) < round]
    # What the one before lists is on the disk already.
    client_states.sync(s for s in clients.values() if s.round > max(earlier, default=-1))
    name = folder / f"round-{round:06d}.safetensors"
    files.replace(name, data)
    digest = hashlib.sha256(data).hexdigest()
    files.replace(name.with_suffix(".sha256"), f"{digest}  {name.name}\n".encode())
    for old in _all(folder)[:-KEPT_CHECKPOINTS]:
        old.with_suffix(".sha256").unlink(missing_ok=True)
        old.unlink()
    listed = {(s.round, s.client) for s in clients.values()}
    client_states.sweep(folder / CLIENTS, listed.union(*map(_listed, _all(folder))), round)


def keep_last(folder: Path) -> None:
    """Remove all checkpoints before the newest undamaged one, and what only they list."""
    newest = latest(folder)
    if newest is None:
        return
    for old in _all(folder):
        if _round(old) < newest.position.round:
            old.with_suffix(".sha256").unlink(missing_ok=True)
            old.unlink()
    listed = {(s.round, s.client) for s in newest.clients.values()}
    client_states.sweep(folder / CLIENTS, listed, newest.position.round)


def latest(folder: Path) -> Checkpoint | None:
    """Return the newest undamaged checkpoint, with a warning for each damaged one."""
    for path in reversed(_all(folder)):
        try:
            return _read(path)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            log.warning("checkpoint %s is damaged (%s); trying the one before", path, error)
    return None


def _read(path: Path) -> Checkpoint:
    data = path.read_bytes()
    expected = path.with_suffix(".sha256").read_text(encoding="ascii").split()[0]
    if hashlib.sha256(data).hexdigest() != expected:
        raise ValueError("its sha256 is not the recorded one")
    arrays = load(data)
    length = int.from_bytes(data[:8], "little")
    about = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["sunflower"])
    rows = _prefixed(arrays, "rows.")
    clients = _stored(path.parent.resolve() / CLIENTS, arrays) if "clients.id" in arrays else {}
    client_states.check(clients.values())
    position = Position(about["round"], arrays["model"], about["line"], rows or None)
    state = {k: v if v.ndim else v.item() for k, v in _prefixed(arrays, "state.").items()}
    return Checkpoint(position, state, clients, float(about["seconds"]))


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("round-*.safetensors"), key=_round)


def _round(path: Path) -> int:
    return int(path.stem.partition("-")[2])


def _stored(folder: Path, arrays: Mapping[str, Any]) -> dict[int, StateFile]:
    """Return what a checkpoint lists of its clients."""
    columns = (arrays[f"clients.{name}"] for name in ("id", "round", "sha256"))
    return {
        int(client): StateFile(str(folder), int(client), int(round), digest.tobytes())
        for client, round, digest in zip(*columns, strict=True)
    }


def _listed(path: Path) -> set[tuple[int, int]]:
    """Return (round, client) of all states that a checkpoint lists; none if it is damaged."""
    try:
        with safe_open(path, "numpy") as file:
            if "clients.id" not in file.keys():  # noqa: SIM118 - no mapping
                return set()
            rounds, clients = (file.get_tensor(f"clients.{n}").tolist() for n in ("round", "id"))
    except (OSError, SafetensorError):
        return set()
    return set(zip(rounds, clients, strict=True))


def _prefixed(arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


@dataclass(frozen=True)
class Position:
    """Where a run stands: after ``round`` rounds, with this model.

    ``line`` and ``rows`` are what the round's training gave: the evaluation that completes them
    may still be under way when the position is saved. ``complete`` is called before the line is
    read: it waits for what is computed beside the next round.
    """

    round: int
    model: Vector
    line: Mapping[str, Any] = field(default_factory=dict)
    rows: Rows | None = None
    complete: Callable[[], None] = lambda: None
