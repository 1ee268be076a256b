"""What a colleague needs of some runs, in one folder or archive, described as an RO-Crate.

Records and settings are copied; checkpoints, models, logs and reports are not. With weights, the
final model of each run is there as ``weights.npy``: all its numbers in one float32 array, in the
order of Keras' weights, whose bytes have the run's ``weights_sha256``. The description is that of
RO-Crate 1.1 (https://w3id.org/ro/crate/1.1): every file with its size and sha256, every run with
what made it and when.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from os.path import commonpath
from pathlib import Path
from typing import Any

import numpy as np

from simulation.config.errors import ConfigError
from simulation.records import checkpoint, files, reading
from simulation.version import __version__

KEPT = (
    "config.json", "rounds.jsonl", "summary.json", "lost.jsonl", "replies.jsonl",
    "clients.parquet", "all_clients.parquet", "labels.parquet", "owners.parquet",
    "timeline.parquet", "events.parquet",
)  # fmt: skip
"""Files of a run folder that are its results."""

BESIDE = ("study.toml", "commands.txt", "tuned.toml", "figures.toml")
"""Files of a study's folder that belong to its runs."""

WEIGHTS = "weights.npy"

METADATA = "ro-crate-metadata.json"

KINDS = {
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".parquet": "application/vnd.apache.parquet",
    ".toml": "application/toml",
    ".npy": "application/octet-stream",
}


def export(
    paths: Sequence[Path], out: Path, weights: bool = False, license: str | None = None
) -> Path:
    """Copy what counts of some runs to a new folder, or an archive where it ends in ``.zip``.

    Args:
        paths: run folders, or folders of them.
        out: the new folder or archive.
        weights: whether the final models are copied too.
        license: under which others may use it, as a URL.

    Raises:
        ConfigError: a path holds no run, ``out`` is there, or a final model is not.
    """
    if out.exists():
        raise ConfigError(f"out: {out} must not exist")
    runs = runs_below(paths)
    with tempfile.TemporaryDirectory(prefix="sunflower-export-") as folder:
        crate = Path(folder) / out.stem
        crate.mkdir()
        base = Path(commonpath([run.parent for run in runs]))
        for run in runs:
            _copy_run(run, crate / run.relative_to(base), weights)
        for study in dict.fromkeys([*paths, *(run.parent for run in runs)]):
            for name in BESIDE:
                place = study.resolve()
                if (place / name).is_file() and place.is_relative_to(base):
                    shutil.copy(place / name, crate / place.relative_to(base) / name)
        about = description(crate, [run.relative_to(base).as_posix() for run in runs], license)
        text = json.dumps(about, indent=2, ensure_ascii=False)
        (crate / METADATA).write_text(text + "\n", encoding="utf-8")
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".zip":
            made = shutil.make_archive(str(Path(folder) / "made"), "zip", folder, crate.name)
            shutil.move(made, out)
        else:
            shutil.copytree(crate, out)
    return out


def runs_below(paths: Iterable[Path]) -> list[Path]:
    """Return the run folders in some folders, each once.

    Raises:
        ConfigError: a path holds no run.
    """
    found: dict[Path, None] = {}
    for path in paths:
        configs = sorted(path.rglob("config.json")) if path.is_dir() else []
        mine = [c.parent.resolve() for c in configs if (c.parent / "rounds.jsonl").exists()]
        if not mine:
            raise ConfigError(f"runs: {path} holds no run")
        found.update(dict.fromkeys(mine))
    return list(found)


def _copy_run(run: Path, to: Path, weights: bool) -> None:
    to.mkdir(parents=True)
    for name in KEPT:
        if (run / name).is_dir():  # of a run that was cut short
            shutil.copytree(run / name, to / name)
        elif (run / name).exists():
            shutil.copy(run / name, to / name)
    if not weights:
        return
    config = reading.read_json(run / "config.json") or {}
    if config.get("experiment", {}).get("mode") == "local":
        return  # Its models are the clients', of which a checkpoint of the run holds none.
    newest = checkpoint.latest(run / "checkpoint")
    digest = (reading.read_json(run / "summary.json") or {}).get("weights_sha256")
    if newest is None or files.weights_sha256(newest.position.model) != digest:
        got = "none" if newest is None else f"that of round {newest.position.round}"
        raise ConfigError(f"weights: {run} must have the checkpoint of its final model, got {got}")
    np.save(to / WEIGHTS, newest.position.model.astype("<f4"))


def description(crate: Path, runs: Sequence[str], license: str | None) -> dict[str, Any]:
    """Return the metadata of a crate: its files, its runs, and what made them."""
    parts = [_file(path, crate) for path in sorted(p for p in crate.rglob("*") if p.is_file())]
    made: list[dict[str, Any]] = []
    papers: dict[str, dict[str, Any]] = {}
    for run in runs:
        config = reading.read_json(crate / run / "config.json") or {}
        summary = reading.read_json(crate / run / "summary.json") or {}
        mine = [part["@id"] for part in parts if part["@id"].startswith(f"{run}/")]
        made.append(_action(run, mine, config, summary))
        papers |= {paper["@id"]: paper for paper in _papers(config)}
    root: dict[str, Any] = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Federated learning: {crate.name}",
        "description": f"Settings and results of {len(runs)} simulated runs of federated learning",
        "datePublished": datetime.now(UTC).date().isoformat(),
        "hasPart": [{"@id": part["@id"]} for part in parts],
        "mentions": [{"@id": action["@id"]} for action in made],
    }
    if papers:
        root["citation"] = [{"@id": key} for key in papers]
    if license is not None:
        root["license"] = {"@id": license}
    head = {
        "@id": METADATA,
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
    }
    tool = {
        "@id": "#sunflower",
        "@type": "SoftwareApplication",
        "name": "Sunflower",
        "softwareVersion": __version__,
    }
    return {
        "@context": "https://w3id.org/ro/crate/1.1/context",
        "@graph": [head, root, tool, *made, *papers.values(), *parts],
    }


def _file(path: Path, crate: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {
        "@id": path.relative_to(crate).as_posix(),
        "@type": "File",
        "name": path.name,
        "contentSize": str(len(data)),
        "encodingFormat": KINDS.get(path.suffix, "application/octet-stream"),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _action(
    run: str, parts: Sequence[str], config: Mapping[str, Any], summary: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what was done: a run, with its beginning and its end."""
    ended = STATUSES.get(str(summary.get("status")), "ActiveActionStatus")
    action: dict[str, Any] = {
        "@id": f"#{run}",
        "@type": "CreateAction",
        "name": f"{config.get('label', run)}, {run}",
        "instrument": {"@id": "#sunflower"},
        "object": {"@id": f"{run}/config.json"},
        "result": [{"@id": part} for part in parts if not part.endswith("/config.json")],
        "actionStatus": {"@id": f"http://schema.org/{ended}"},
    }
    if created := config.get("created"):
        began = datetime.fromisoformat(str(created))
        action["startTime"] = began.isoformat()
        if (seconds := summary.get("wall_seconds")) is not None:
            action["endTime"] = (began + timedelta(seconds=seconds)).isoformat(timespec="seconds")
    return action


STATUSES = {
    "complete": "CompletedActionStatus",
    "diverged": "CompletedActionStatus",
    "failed": "FailedActionStatus",
    "interrupted": "FailedActionStatus",
}
"""What schema.org calls how a run ended."""


def _papers(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a run cites."""
    return [
        {"@id": f"#{one['title']}", "@type": "ScholarlyArticle", "name": one["citation"]}
        for one in config.get("citations") or []
        if isinstance(one, Mapping) and {"title", "citation"} <= set(one)
    ]
