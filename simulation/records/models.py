"""Models that stay in a run folder beside the last one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from simulation.records import files
from strategies.spec import Vector

BEST = "best.safetensors"
"""The weights [P] of the best round so far; an experiment may start from them."""


def some_model(round: int) -> str:
    """Return where in the run folder the model of a round is kept."""
    return f"models/round-{round:06d}.keras"


def write_best(folder: Path, round: int, model: Vector) -> None:
    """Write the model [P] of the best round so far, whole or not at all."""
    about = {"sunflower": files.to_json({"round": round})}
    files.replace(folder / BEST, save({"model": np.ascontiguousarray(model)}, metadata=about))


def read_best(folder: Path) -> tuple[int, Vector] | None:
    """Return the best round so far and its model [P]; None if there is no undamaged file."""
    try:
        data = (folder / BEST).read_bytes()
        length = int.from_bytes(data[:8], "little")
        about = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["sunflower"])
        return int(about["round"]), load(data)["model"]
    except (OSError, ValueError, KeyError, SafetensorError):
        return None
