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
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, MetricRecord, RecordDict
from flwr.serverapp import ServerApp
from flwr.serverapp.server_app import LoadServerAppError
from flwr.serverapp.strategy import Strategy
from flwr.supercore.object_ref import load_app
from pydantic import ValidationError

from simulation import preflight, results
from simulation.bookkeeping import disk, log_file
from simulation.experiment import ConfigError, Resources, assign, explain
from simulation.hearing import Hearing
from simulation.lock import locked, termination
from simulation.results import RunFolder
from simulation.run import Listener
from simulation.sections import Count, Positive, Section

log = logging.getLogger("sunflower.app")


class AppFaults(Section):
    """When a worker counts as hung, and how many a call may take down (as in ``Faults``)."""

    chunk_timeout: Positive | None = None
    attempts: Count = 3


class AppRun(Section):
    """A run of a user's app: where it is, how many clients, and where it runs.

    ``reuse``: let Keras models of equal configuration share their compiled functions
    (:mod:`simulation.reuse`).
    """

    app: Path
    clients: Count = 10
    reuse: bool = True
    run_config: tuple[str, ...] = ()
    faults: AppFaults = AppFaults()
    resources: Resources = Resources()


@dataclass(frozen=True)
class AppResult:
    """A finished app: its run folder, its rounds, and its summary."""

    path: Path
    rounds: list[dict[str, Any]]
    summary: dict[str, Any]


def parse_app(given: Mapping[str, Any]) -> AppRun:
    """Validate what the command line gives, by dotted key.

    Raises:
        ConfigError: one line per problem.
    """
    data: dict[str, Any] = {}
    for key, value in given.items():
        if key.partition(".")[0] not in AppRun.model_fields:
            raise ConfigError(f"{key} must be left out with --app, which decides it, got {value!r}")
        assign(data, key, value)
    try:
        run = AppRun.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, AppRun))) from None
    if run.resources.engine != "ray":
        raise ConfigError(
            f"resources.engine must be 'ray' with --app, got {run.resources.engine!r}"
        )
    return run


@dataclass(frozen=True)
class FlowerApp:
    """What an app's ``pyproject.toml`` says: its name, components and run configuration."""

    name: str
    server: str
    client: str
    run_config: dict[str, Any]


def read_app(run: AppRun) -> FlowerApp:
    """Read and check an app's ``pyproject.toml``, as ``flwr run`` would.

    Raises:
        ConfigError: naming what is wrong with it.
    """
    import click
    from flwr.cli.config_utils import load_and_validate
    from flwr.common.config import get_fused_config_from_dir, parse_config_args

    folder = run.app.resolve()
    if not (folder / "pyproject.toml").is_file():
        raise ConfigError(f"app must be a folder with a pyproject.toml, got {str(run.app)!r}")
    try:
        config, _ = load_and_validate(folder / "pyproject.toml")
    except (ValueError, ImportError, SyntaxError) as error:
        raise ConfigError(f"app: {' '.join(str(error).split())}") from None
    try:
        overrides = parse_config_args(list(run.run_config))
        fused = get_fused_config_from_dir(folder, overrides)
    except (ValueError, OSError, click.ClickException) as error:
        text = error.format_message() if isinstance(error, click.ClickException) else str(error)
        raise ConfigError(f"run_config: {text}, got {' '.join(run.run_config)!r}") from None
    parts = config["tool"]["flwr"]["app"]["components"]
    if "serverapp" not in parts or "clientapp" not in parts:
        raise ConfigError(f"app must have a serverapp and a clientapp, got {sorted(parts)}")
    return FlowerApp(config["project"]["name"], parts["serverapp"], parts["clientapp"], dict(fused))


def run_app(run: AppRun, out: Path | None = None, listener: Listener | None = None) -> AppResult:
    """Run a Flower app and record what its messages tell in a run folder.

    Args:
        run: the app, its clients and resources.
        out: the run folder, which must not exist; made up under ``runs/`` when None.
        listener: hears progress.

    Raises:
        ConfigError: an app that Flower would refuse, or resources that no node has.
        RuntimeError: the ServerApp failed.
    """
    listener = listener or Listener()
    app = read_app(run)
    path = out if out is not None else free_path(app.name)
    results.check_free(path)
    preflight.check_writable(path)
    if run.resources.address is not None:
        preflight.check_address(run.resources.address)
    with ExitStack() as stack:
        stack.enter_context(termination())
        from simulation.app_grid import AppGrid, AppSetup

        folder = str(run.app.resolve())
        listener.stage("starting workers")
        grid = AppGrid(run)
        stack.callback(grid.close)
        stack.enter_context(termination())  # Ray has put its own handler in our place.
        backend = os.environ.get("KERAS_BACKEND")
        setup = AppSetup(run, folder, app.client, app.run_config, backend)
        grid.begin(setup, run.clients)
        path.mkdir(parents=True, exist_ok=True)
        stack.enter_context(locked(path))
        kept = RunFolder.create(path, _config(run, app, grid.workers))
        stack.enter_context(log_file(path / "run.log"))
        return _serve(run, app, grid, Hearing(kept, listener.line), listener)


def _serve(
    run: AppRun, app: FlowerApp, grid: Any, hearing: Hearing, listener: Listener
) -> AppResult:
    path, began, status = hearing.folder.path, time.perf_counter(), "failed"
    grid.hearing = hearing
    final: list[ArrayRecord] = []
    context = Context(grid.run.run_id, 1, {}, RecordDict(), app.run_config)
    listener.stage(f"running {app.name}")
    try:
        with disk(path), heard(hearing, final):
            server = load_app(app.server, LoadServerAppError, run.app.resolve())
            if not isinstance(server, ServerApp):
                raise LoadServerAppError(
                    f"serverapp must be a ServerApp, got {type(server).__name__} for {app.server}"
                )
            server(grid, context)
        status = "complete"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    except Exception as error:
        log.exception("the app failed")
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
    finally:
        with suppress(OSError):
            hearing.close()
            lines = results.read_rounds(path)
            summary = _summary(status, lines, final, time.perf_counter() - began, hearing.lost)
            if final:
                results.replace(path / "model.safetensors", _tensors(final[-1]))
            hearing.folder.finish(summary)
    return AppResult(path, lines, summary)


@contextmanager
def heard(hearing: Hearing, final: list[ArrayRecord]) -> Iterator[None]:
    """Hear what strategies measure on the server, and the arrays that they end with.

    Messages do not tell this, so :meth:`flwr.serverapp.strategy.Strategy.start` does meanwhile.
    """
    start = Strategy.start

    def listened(self: Strategy, *args: Any, **options: Any) -> Any:
        evaluate = options.get("evaluate_fn")
        if evaluate is not None:

            def told(round: int, arrays: ArrayRecord) -> MetricRecord | None:
                metrics: MetricRecord | None = evaluate(round, arrays)
                if metrics is not None:
                    hearing.server(round, metrics)
                return metrics

            options["evaluate_fn"] = told
        result = start(self, *args, **options)
        final.append(result.arrays)
        return result

    Strategy.start = listened
    try:
        yield
    finally:
        Strategy.start = start


def _config(run: AppRun, app: FlowerApp, workers: int) -> dict[str, Any]:
    decisive = {"clients": run.clients, "run_config": app.run_config, "app": app.name}
    text = json.dumps(decisive, sort_keys=True)
    return {
        "label": app.name,
        "hash": hashlib.sha256(text.encode()).hexdigest(),
        "experiment": {
            **run.model_dump(mode="json"),
            "run_config": app.run_config,
            "strategy": app.name,
        },
        "workers": workers,
        "citations": [],
    }


def _summary(
    status: str,
    lines: Sequence[Mapping[str, Any]],
    final: Sequence[ArrayRecord],
    seconds: float,
    lost: int,
) -> dict[str, Any]:
    arrays = [array.numpy() for array in final[-1].values()] if final else []
    floats = [a.astype(np.float32).ravel() for a in arrays]
    return {
        "status": status,
        "rounds": lines[-1]["round"] if lines else 0,
        "final": lines[-1] if lines else {},
        "weights_sha256": results.weights_sha256(np.concatenate(floats)) if floats else None,
        "wall_seconds": seconds,
        "images_per_second": None,
        "parameters": sum(a.size for a in arrays) or None,
        "clients_lost": lost,
    }


def _tensors(arrays: ArrayRecord) -> bytes:
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(array.numpy()) for name, array in arrays.items()})


def free_path(name: str) -> Path:
    """Return a folder under ``runs/`` that does not exist yet, named after the app."""
    number, base = 1, Path("runs") / name
    path = base
    while path.exists():
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path
