"""The configuration of a run of a user's own Flower app: where it is, how many clients."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from simulation.config.errors import ConfigError
from simulation.config.experiment import assign
from simulation.config.explain import explain
from simulation.config.fields import Count, Positive, Section
from simulation.config.sections import Resources


class AppFaults(Section):
    """When a worker counts as hung, and how many a call may take down (as in ``Faults``).

    ``keep_replies``: keep the clients' replies on disk while the run lasts, for ``--resume``.
    """

    chunk_timeout: Positive | None = None
    attempts: Count = 3
    keep_replies: bool = True


class AppRun(Section):
    """A run of a user's app: where it is, how many clients, and where it runs.

    ``reuse``: let Keras models of equal configuration share their compiled functions
    (:mod:`simulation.training.tensorflow.keras_twins`).
    """

    app: Path
    clients: Count = 10
    reuse: bool = True
    run_config: tuple[str, ...] = ()
    faults: AppFaults = AppFaults()
    resources: Resources = Resources()


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
    if run.resources.engine == "flower":
        raise ConfigError("resources.engine must be 'ray' or 'inline' with --app, got 'flower'")
    for name in ("backend", "lanes"):
        if f"resources.{name}" in given:
            raise ConfigError(
                f"resources.{name} must be left out with --app, whose clients train as they do in "
                f"Flower (Keras on KERAS_BACKEND), got {given[f'resources.{name}']!r}"
            )
    return run
