"""A user's own Flower app on our engine, as it is: ``sunflower run --app FOLDER``.

Its ServerApp runs in this process and gets our pool for its grid; its ClientApp runs in the pool's
workers. Contexts are as Flower makes them: run configuration, ``partition-id``, ``num-partitions``,
and a state for every client that lasts from message to message.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import secrets
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, RecordDict
from flwr.serverapp import ServerApp
from numpy.typing import NDArray

from simulation.config.app import AppRun
from simulation.config.errors import RunError
from simulation.flower import private
from simulation.flower.app_hooks import AppError, Hooks
from simulation.flower.app_replies import Diverged, Replies
from simulation.flower.app_settings import FlowerApp, read_app
from simulation.flower.recorder import Recorder
from simulation.listeners.listener import Listener
from simulation.records import files, reading, run_folder
from simulation.records.lock import locked
from simulation.records.log import disk, log_file
from simulation.records.run_folder import RunFolder
from simulation.runs import preflight
from simulation.runs.signals import termination

log = logging.getLogger("sunflower.app")

REPLIES = "checkpoint/replies"
"""Where a run folder keeps the clients' replies."""

NUMPY = "numpy.ndarray"
"""Flower's name for arrays that NumPy has saved."""


@dataclass(frozen=True)
class AppResult:
    """A finished app: its run folder, its rounds, and its summary."""

    path: Path
    rounds: list[dict[str, Any]]
    summary: dict[str, Any]


def run_app(
    run: AppRun, out: Path | None = None, listener: Listener | None = None, resume: bool = False
) -> AppResult:
    """Run a Flower app and record what its messages tell in a run folder.

    Args:
        run: the app, its clients and resources.
        out: the run folder, which must not exist; made up under ``runs/`` when None.
        listener: hears progress.
        resume: go on in ``out``: see :mod:`simulation.flower.app_replies`.

    Raises:
        ConfigError: an app that Flower would refuse, or resources that no node has.
        RunError: a run folder that cannot be used.
        RuntimeError: the ServerApp failed.
    """
    listener = listener or Listener()
    app = read_app(run)
    path = out if out is not None else run_folder.free_path(app.name)
    config = _config(run, app)
    if resume:
        config = _interrupted(path, config)
    else:
        run_folder.check_free(path)
    preflight.check_writable(path)
    if run.resources.address is not None:
        preflight.check_address(run.resources.address)
    with ExitStack() as stack:
        stack.enter_context(termination())
        if resume:
            stack.enter_context(locked(path))
        from simulation.flower.app import AppSetup, grid_for

        folder = str(run.app.resolve())
        listener.stage("starting workers")
        grid = grid_for(run)
        stack.callback(grid.close)
        stack.enter_context(termination())  # Ray has put its own handler in our place.
        backend = os.environ.get("KERAS_BACKEND")
        setup = AppSetup(run, folder, app.client, app.run_config, backend)
        grid.begin(setup, run.clients)
        if resume:
            before = _take_back(path)
            kept = RunFolder(path)
        else:
            before = []
            path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(path))
            kept = RunFolder.create(path, {**config, "workers": grid.engine.workers})
        stack.enter_context(log_file(path / "run.log"))
        hearing = Recorder(kept, listener.line, before)
        if run.faults.keep_replies:
            grid.kept_replies = Replies(path / REPLIES)
            stack.callback(grid.kept_replies.close)
        return _serve(run, app, grid, hearing, listener, int(config["seed"]))


def _interrupted(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an earlier part of a run says of it.

    Raises:
        RunError: when the folder holds no such run, or none that can go on.
    """
    found = reading.read_json(path / "config.json")
    if found is None or "seed" not in found:
        raise RunError(f"resume: {path} holds no run of an app")
    if found.get("hash") != config["hash"]:
        old, new = found.get("decisive", {}), config["decisive"]
        changed = [f"{k} was {old.get(k)!r}, is {new[k]!r}" for k in new if old.get(k) != new[k]]
        raise RunError(f"resume: {path} is a run of something else: {'; '.join(changed)}")
    summary = reading.read_json(path / "summary.json") or {}
    if summary.get("status") == "complete":
        raise RunError(f"resume: {path} is complete already")
    if not (path / REPLIES).is_dir():
        raise RunError(f"resume: {path} keeps no replies of its clients to go on from")
    return found


def _take_back(path: Path) -> list[dict[str, Any]]:
    """Take the records of an earlier part away, which come once more; return its rounds."""
    # The last round may have been under way: its record is made again.
    before = reading.read_rounds(path)[:-1]
    for name in ("rounds.jsonl", "replies.jsonl", "lost.jsonl", "summary.json"):
        (path / name).unlink(missing_ok=True)
    shutil.rmtree(path / "clients.parquet", ignore_errors=True)
    return before


def _serve(
    run: AppRun, app: FlowerApp, grid: Any, hearing: Recorder, listener: Listener, seed: int
) -> AppResult:
    path, began, status = hearing.folder.path, time.perf_counter(), "failed"
    grid.listen(hearing)
    context = Context(grid.run.run_id, private.SERVER_NODE, {}, RecordDict(), app.run_config)
    listener.stage(f"running {app.name}")
    hooks = Hooks(hearing, run.clients)
    try:
        with disk(path):
            seed_globally(seed)
            _, load_error = private.load_errors()
            server = private.app_loader()(app.server, load_error, run.app.resolve())
            if not isinstance(server, ServerApp):
                raise load_error(
                    f"serverapp must be a ServerApp, got {type(server).__name__} for {app.server}"
                )
            seed_globally(seed)  # again: imports may have drawn, and are done once in a process
            with hooks.installed():
                server(grid, context)
            grid.check_all_asked()
        status = "complete"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    except (AppError, Diverged):
        raise
    except Exception as error:
        log.exception("the app failed")
        if grid.diverged is not None:
            raise grid.diverged from error
        if isinstance(error, ZeroDivisionError) and (reason := hearing.weightless()):
            raise AppError(reason) from error
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
    finally:
        with suppress(OSError):
            hearing.close()
            hearing.folder.write()
            lines = reading.read_rounds(path)
            final = to_tensors(hooks.final[-1]) if hooks.final else {}
            summary = _summary(status, lines, final, time.perf_counter() - began, hearing.lost)
            if final:
                files.replace(path / "model.safetensors", _safetensors(final))
            hearing.folder.finish(summary)
            if status == "complete" and grid.kept_replies is not None:
                grid.kept_replies.remove()
    return AppResult(path, lines, summary)


def seed_globally(seed: int) -> None:
    """Seed the generators that an app's server draws from: who trains, initial weights.

    Python's and NumPy's, on which Flower and Keras draw, and PyTorch's where it is imported.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


def _config(run: AppRun, app: FlowerApp) -> dict[str, Any]:
    decisive = {"clients": run.clients, "run_config": app.run_config, "app": app.name}
    text = json.dumps(decisive, sort_keys=True)
    return {
        "label": app.name,
        "hash": hashlib.sha256(text.encode()).hexdigest(),
        "decisive": decisive,
        "overrides": list(run.run_config),
        "experiment": {
            **run.model_dump(mode="json"),
            "run_config": app.run_config,
            "strategy": app.name,
        },
        "seed": secrets.randbelow(2**32),
        "citations": [],
    }


def _summary(
    status: str,
    lines: Sequence[Mapping[str, Any]],
    final: Mapping[str, NDArray[Any]],
    seconds: float,
    lost: int,
) -> dict[str, Any]:
    floats = [array.astype(np.float32).ravel() for array in final.values()]
    return {
        "status": status,
        "rounds": lines[-1]["round"] if lines else 0,
        "final": lines[-1] if lines else {},
        "weights_sha256": files.weights_sha256(np.concatenate(floats)) if floats else None,
        "wall_seconds": seconds,
        "images_per_second": None,
        "parameters": sum(array.size for array in final.values()) or None,
        "clients_lost": lost,
    }


def to_tensors(arrays: ArrayRecord) -> dict[str, NDArray[Any]]:
    """Return arrays by name; what is no NumPy array (a forest of XGBoost, say) as its bytes."""
    return {
        name: array.numpy() if array.stype == NUMPY else np.frombuffer(array.data, np.uint8)
        for name, array in arrays.items()
        if array.data
    }


def _safetensors(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(array) for name, array in tensors.items()})
