"""What can be found wrong with a run before Ray, TensorFlow or a folder is touched."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from flwr.serverapp.strategy import Strategy

from simulation.config import initial, static
from simulation.config.attack import COLLUDING
from simulation.config.compression import encoding_of
from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment
from simulation.config.sections import Resources
from simulation.population.availability import availability_of
from simulation.population.devices import fleet_of
from simulation.population.edges import edges_of
from strategies import Algorithm, Federated, catalog
from strategies.client_rule import ClientRule
from strategies.discrepancy import DiscrepancyMean
from strategies.optional_protocols import Discounts, innermost, wants_server_update
from strategies.reducers import MeasuredMean
from strategies.steps import needs_sgd

LIBRARIES = {
    "tensorflow": ("TensorFlow", "tensorflow"),
    "jax": ("JAX", "'sunflower-fl[jax]' (processors) or 'sunflower-fl[gpu]' (CUDA)"),
}
"""What backends are made of, and how it is installed."""


def check(experiment: Experiment, path: Path, resume: bool = False) -> None:
    """Check the run folder, the model's name, the backend and the cluster's address.

    Args:
        experiment: the experiment.
        path: the run folder.
        resume: whether it goes on in that, whose backend it keeps.

    Raises:
        ConfigError: naming the field, the rule and the value received.
    """
    check_writable(path)
    if ":" in experiment.model:
        static.find("model", experiment.model)
    if experiment.init is not None:
        try:
            initial.read(experiment.init.path, experiment.init.sha256)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    resources = experiment.resources
    if not resume:
        check_backend(resources)
    if resources.engine == "ray" and resources.address is not None:
        check_address(resources.address)


def check_backend(resources: Resources) -> None:
    """Raise ConfigError when a backend is not installed, or Keras is on another one here.

    It is looked for, not imported: with the engine ``ray``, this process does without.
    """
    name = resources.library
    if find_spec(name) is None:
        library, extra = LIBRARIES[name]
        raise ConfigError(
            f"resources.backend {name!r} needs {library}, which is not installed: "
            f"pip install {extra}"
        )
    keras = sys.modules.get("keras")
    if keras is None or resources.engine == "ray":
        return
    found = keras.backend.backend()
    if found != name:
        raise ConfigError(
            f"resources.backend must be Keras' own ({found}) with the engine {resources.engine!r} "
            f"in a process that has imported Keras, got {name!r}: set KERAS_BACKEND={name} before "
            "Keras is imported, or use the engine 'ray'"
        )


def check_address(address: str) -> None:
    """Raise ConfigError when no cluster answers at an address: Ray itself would try for minutes."""
    from simulation.engines.ray.joining import why_not

    if (reason := why_not(address)) is not None:
        raise ConfigError(
            f"resources.address must be that of a running Ray cluster, got {address!r} ({reason})"
        )


def check_writable(path: Path) -> None:
    """Raise ConfigError when a run folder could not be made at ``path``."""
    nearest = next(p for p in [path, *path.absolute().parents] if p.exists())
    if not nearest.is_dir():
        raise ConfigError(f"out must be a folder, got {path} ({nearest} is a file)")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(f"out must be a folder, got {path} ({nearest} is not writable)")


def check_realism(experiment: Experiment, ours: bool) -> None:
    """Raise ConfigError when what ``realism`` simulates cannot be had with an engine or strategy.

    Args:
        experiment: the experiment.
        ours: whether the strategy is one of our algorithms, not a Flower object.
    """
    plan = experiment.realism
    if plan.active and experiment.resources.engine == "flower":
        raise ConfigError("realism must be left out with resources.engine 'flower'")
    if plan.over_selection and not ours:
        raise ConfigError(
            "realism.over_selection must be 0 with a Flower strategy, which draws its own cohort, "
            f"got {plan.over_selection:g}"
        )


def check_metrics(experiment: Experiment, ours: bool) -> None:
    """Raise ConfigError for metrics by name where clients answer by messages, which lack counts.

    Args:
        experiment: the experiment.
        ours: whether the strategy is one of our algorithms, not a Flower object.
    """
    names = ", ".join(experiment.evaluation.metrics)
    if names and experiment.resources.engine == "flower":
        raise ConfigError(
            "evaluation.metrics must be left out with the engine 'flower', whose messages hold no "
            f"counts that could be added, got {names}"
        )
    if names and not ours:
        raise ConfigError(
            "evaluation.metrics must be left out with a Flower strategy, whose messages hold no "
            f"counts that could be added, got {names}"
        )


def check_root(experiment: Experiment, strategy: Strategy) -> None:
    """Raise ConfigError where the server should train on examples of its own, and cannot.

    Args:
        experiment: the experiment.
        strategy: what it runs.
    """
    if not isinstance(strategy, Federated):
        return
    name = strategy.algorithm.name
    if not wants_server_update(strategy.algorithm.reducer):
        return
    if experiment.partition.root is None:
        raise ConfigError(
            f"partition.root must be given with {name}, whose server trains on examples of its "
            "own, got none"
        )
    if experiment.resources.engine == "flower":
        raise ConfigError(
            f"resources.engine must be 'ray' or 'inline' with {name}, whose server trains as "
            "clients do, got 'flower'"
        )
    if experiment.schedule.kind == "hierarchical" and experiment.mode == "federated":
        raise ConfigError(
            f"schedule must be one without edges with {name}, whose server trains on examples of "
            "its own, got 'hierarchical'"
        )


def check_resume(experiment: Experiment, strategy: Strategy) -> None:
    """Raise ConfigError when what clients keep is not in the checkpoint.

    Args:
        experiment: the experiment.
        strategy: what it runs.
    """
    rule = strategy.algorithm.client if isinstance(strategy, Federated) else ClientRule()
    encoding = encoding_of(experiment)
    kept = rule.keeps or (encoding is not None and encoding.feedback)
    if experiment.resources.engine == "flower" and kept:
        raise ConfigError(
            "resources.engine must be 'ray' or 'inline' to resume a run whose clients keep state, "
            "got 'flower', which does not give it out"
        )


def check_devices(experiment: Experiment, strategy: Strategy) -> None:
    """Raise ConfigError when the clients' devices, or what they do then, cannot be simulated.

    Args:
        experiment: the experiment.
        strategy: what it runs.
    """
    devices, plan = experiment.devices, experiment.schedule
    if devices is None or experiment.mode != "federated":
        return
    if not isinstance(strategy, Federated):
        raise ConfigError(
            "devices must be left out with a Flower strategy, which asks its clients itself, "
            f"got {devices.kind!r}"
        )
    if strategy.algorithm.noise is not None:
        for name, value, usual in (
            ("devices.availability", devices.availability, "always"),
            ("schedule", plan.kind, "synchronous"),
        ):
            if value != usual:
                raise ConfigError(
                    f"{name} must be {usual!r} with noise for differential privacy, whose account "
                    f"takes every client as equally likely to take part, got {value!r}"
                )
    if plan.late == "partial" and strategy.algorithm.client.phases:
        raise ConfigError(
            f"schedule.late must be 'drop' with {strategy.algorithm.name}, whose clients train in "
            "phases, which late ones would have to leave out, got 'partial'"
        )
    if plan.late == "partial" and strategy.algorithm.client.gradient:
        raise ConfigError(
            f"schedule.late must be 'drop' with {strategy.algorithm.name}, whose clients measure a "
            "gradient on all that they have before they train, got 'partial'"
        )
    if plan.one_by_one:
        _check_stale(plan.kind, strategy)
        encoding = encoding_of(experiment)
        if encoding is not None and encoding.feedback:
            raise ConfigError(
                f"compression.error_feedback must be false with the schedule {plan.kind!r}, whose "
                "clients keep nothing between their updates, got true"
            )
    fleet = fleet_of(devices, experiment.clients, experiment.seed)
    if plan.kind == "hierarchical":
        edges_of(experiment, fleet)
        if plan.cloud is not None:
            _check_cloud(catalog.build(plan.cloud.name, **plan.cloud.options))
    availability_of(devices, experiment.clients, experiment.seed)


def _check_cloud(cloud: Algorithm) -> None:
    """Raise ConfigError for a strategy whose clients cannot be edges."""
    reason = None
    if cloud.noise is not None:
        reason = "its account of privacy is one of clients"
    elif cloud.client != ClientRule():
        reason = "its clients train in a way of their own, which edges do not"
    elif wants_server_update(cloud.reducer):
        reason = "its server trains as clients do, which edges do not"
    elif needs_sgd(cloud.client, cloud.reducer):
        reason = "it goes by clients' steps of SGD, which edges do not take"
    if reason is not None:
        raise ConfigError(
            f"schedule.cloud must be another strategy, as {reason}, got {cloud.name!r}"
        )


def check_compression(experiment: Experiment) -> None:
    """Raise ConfigError for encoded updates of clients that could not have sent them so."""
    encoding, kind = encoding_of(experiment), experiment.attack.kind
    if encoding is None:
        return
    if kind in COLLUDING:
        raise ConfigError(
            f"attack.kind must be that of clients which act alone with the compression "
            f"{experiment.compression.kind!r}, as what colluding ones send is not encoded, got "
            f"{kind!r}"
        )


def _check_stale(kind: str, strategy: Federated) -> None:
    """Raise ConfigError for parts of a strategy that make no sense with models of unlike age."""
    algorithm = strategy.algorithm
    reason = None
    if algorithm.client.keeps:
        reason = "clients keep something from round to round, which would go by another model"
    elif not isinstance(innermost(algorithm.reducer), Discounts):
        reason = "the reducer compares updates with each other, which must start from one model"
    elif isinstance(innermost(algorithm.reducer), MeasuredMean):
        reason = "the server rule goes by how far clients moved, which must start from one model"
    elif kind == "asynchronous" and isinstance(innermost(algorithm.reducer), DiscrepancyMean):
        reason = "it weighs clients against each other, of whom each step takes one"
    if reason is not None:
        raise ConfigError(
            f"strategy must be another with the schedule {kind!r}, as {reason}, "
            f"got {algorithm.name!r}"
        )
