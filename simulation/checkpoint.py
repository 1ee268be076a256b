"""Checkpoints: model, server state, what clients keep, and the round's own figures.

A checkpoint is one safetensors file with its sha256 beside it. It is written under another name,
flushed to the disk and renamed; the last two are kept, so that a damaged one costs one round.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from simulation import results
from simulation.rounds import Position
from strategies.core import State, Vector

log = logging.getLogger("sunflower.checkpoint")

KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to go on as if nothing had happened."""

    position: Position
    state: State
    clients: Mapping[int, Vector]
    seconds: float


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Add a checkpoint to ``folder`` and drop those before the last two."""
    folder.mkdir(exist_ok=True)
    position = checkpoint.position
    arrays: dict[str, Any] = {"model": position.model}
    arrays |= {f"state.{k}": np.asarray(v) for k, v in checkpoint.state.items()}
    arrays |= {f"rows.{k}": np.asarray(v) for k, v in (position.rows or {}).items()}
    if checkpoint.clients:
        arrays["clients.id"] = np.array(sorted(checkpoint.clients), np.int64)
        arrays["clients.kept"] = np.stack([v for _, v in sorted(checkpoint.clients.items())])
    about = {"round": position.round, "line": position.line, "seconds": checkpoint.seconds}
    data = save(
        {k: np.ascontiguousarray(v).reshape(np.shape(v)) for k, v in arrays.items()},
        metadata={"sunflower": results.to_json(about)},
    )
    name = folder / f"round-{position.round:06d}.safetensors"
    results.replace(name, data)
    digest = hashlib.sha256(data).hexdigest()
    results.replace(name.with_suffix(".sha256"), f"{digest}  {name.name}\n".encode())
    for old in sorted(folder.glob("round-*.safetensors"))[:-KEPT]:
        old.with_suffix(".sha256").unlink(missing_ok=True)
        old.unlink()


def latest(folder: Path) -> Checkpoint | None:
    """Return the newest undamaged checkpoint, with a warning for each damaged one."""
    for path in sorted(folder.glob("round-*.safetensors"), reverse=True):
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
    ids, kept = arrays.get("clients.id", np.zeros(0, np.int64)), arrays.get("clients.kept")
    position = Position(about["round"], arrays["model"], about["line"], rows or None)
    state = {k: v if v.ndim else v.item() for k, v in _prefixed(arrays, "state.").items()}
    clients = {int(c): kept[i] for i, c in enumerate(ids)} if kept is not None else {}
    return Checkpoint(position, state, clients, float(about["seconds"]))


def _prefixed(arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
