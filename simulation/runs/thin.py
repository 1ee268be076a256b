"""Room on the disk: checkpoints that complete runs no longer need."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simulation.records import checkpoint, reading
from simulation.records.lock import locked
from simulation.runs.export import runs_below


@dataclass(frozen=True)
class Thinned:
    """What thinning did.

    Args:
        runs: folders of complete runs, all that could be thinned.
        left: folders of other runs, which go on from their checkpoints.
        freed: bytes that files no longer take.
    """

    runs: tuple[Path, ...]
    left: tuple[Path, ...]
    freed: int


def thin(paths: Sequence[Path], everything: bool = False) -> Thinned:
    """Remove checkpoints of complete runs: all but the last, from which a run can go on.

    Args:
        paths: run folders, or folders of them.
        everything: whether the last ones go too.

    Raises:
        ConfigError: a path holds no run.
        RunError: another process writes to a run.
    """
    found = runs_below(paths)
    complete = [run for run in found if _is_complete(run)]
    before = sum(map(_size, complete))
    for run in complete:
        with locked(run):
            if everything:
                shutil.rmtree(run / "checkpoint", ignore_errors=True)
            else:
                checkpoint.keep_last(run / "checkpoint")
    left = tuple(run for run in found if run not in complete)
    return Thinned(tuple(complete), left, before - sum(map(_size, complete)))


def _is_complete(run: Path) -> bool:
    return (reading.read_json(run / "summary.json") or {}).get("status") == "complete"


def _size(run: Path) -> int:
    return sum(p.stat().st_size for p in (run / "checkpoint").rglob("*") if p.is_file())
