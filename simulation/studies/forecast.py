"""What a study will take: rounds, time and memory, estimated before it starts.

The time of a run is its passes (an example trained on once is one; see :func:`passes`) times what
a pass of a model costs a core: measured in runs of the study that are finished, else
:data:`REFERENCE`, the order of magnitude of today's processors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from simulation.config import scheduling
from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment, parse
from simulation.config.local_work import local_work
from simulation.config.sizes import gib
from simulation.config.strategy import make_strategy
from simulation.engines.policy import POLICY
from simulation.records import reading
from simulation.runs import memory
from simulation.studies.campaign import DataSize, Prospect
from simulation.worker.setup import Setup
from strategies import Federated

REFERENCE = {"cnn": 3_500.0, "lenet": 5_000.0, "mlp": 9_000.0, "logistic": 20_000.0}
"""Passes of the built-in models on 28x28 images that a core makes in a second."""

MEASURING = 1 / 3
"""What measuring an example costs, in passes."""

START = 12.0
"""Seconds until workers are ready."""

PROCESS = 700 * 2**20
"""Bytes that a worker really takes besides models and data; memory.BASE is the least."""


@dataclass(frozen=True)
class Forecast:
    """What the runs that are not complete will take.

    Args:
        seconds: of the whole study; None if nothing is known of a model's speed.
        memory: bytes of all workers and the driver; None if a model's size is unknown.
        workers: on how many workers; None if only the cluster knows.
        measured: from how many finished runs the time is known; 0: from a table of speeds.
    """

    seconds: float | None
    memory: float | None
    workers: int | None
    measured: int


def forecast(prospect: Prospect, out: Path) -> Forecast:
    """Estimate what a plan will take.

    Args:
        prospect: the plan.
        out: the study's folder; finished runs in it say how fast things go.
    """
    waiting = prospect.waiting
    if not waiting:
        return Forecast(0.0, None, None, 0)
    known = finished(out)
    seconds, measured = 0.0, 0
    workers = [workers_of(experiment) for experiment in waiting.values()]
    unknown = False
    for name, experiment in waiting.items():
        work = passes(experiment, prospect.rows[name])
        costs = [cost for like, cost in known if like == kind_of(experiment)]
        measured += bool(costs)
        cost = sum(costs) / len(costs) if costs else _reference(experiment)
        unknown |= cost is None
        # A run that leaves workers idle has others beside it: the pool is taken as full.
        seconds += work * (cost or 0.0) / (workers_of(experiment) or 1)
    seconds += START if any(e.resources.engine == "ray" for e in waiting.values()) else 0.0
    sizes = {(e.model, e.dataset): int(c["parameters"]) for e, c, _ in _complete(out)}
    needs = [_memory(e, prospect.rows[n], sizes) for n, e in waiting.items()]
    return Forecast(
        None if unknown or None in workers else seconds,
        None if None in needs else max(need for need in needs if need is not None),
        None if None in workers else max(w for w in workers if w is not None),
        len(known) if measured == len(waiting) else 0,
    )


def passes(experiment: Experiment, rows: DataSize) -> float:
    """Return the work of a run, in examples trained on once; measuring counts a third.

    Args:
        experiment: cohort, rounds and epochs.
        rows: its data.
    """
    plan, work = experiment.evaluation, local_work(experiment.training)
    alone = experiment.mode == "centralised"
    clients = 1 if alone else experiment.clients
    share = (
        scheduling.updates_of(experiment) / experiment.clients
        if experiment.mode == "federated"
        else 1.0
    )
    seen = work.about(rows.train, clients)
    trained = share * (seen + clients * POLICY.client_cost) * _done(experiment)
    models = clients if experiment.mode == "local" else 1
    measured = plan.server * rows.test * models + plan.clients * share * rows.validation
    return experiment.rounds * (trained + MEASURING * measured / plan.every)


def _done(experiment: Experiment) -> float:
    """Return which part of the clients' work is done, where stragglers do less or are dropped."""
    plan = experiment.realism
    if experiment.mode != "federated":
        return 1.0
    # A straggler's part is uniform on (0, 1), see realism.parts_of.
    return 1.0 - plan.stragglers * (1.0 if plan.drops(experiment.strategy.name) else 0.5)


def kind_of(experiment: Experiment) -> tuple[Any, ...]:
    """Return what decides the cost of a pass."""
    training = experiment.training
    return experiment.model, experiment.dataset, training.batch_size, training.optimizer


def workers_of(experiment: Experiment) -> int | None:
    """Return how many workers a run will have; None when only the cluster can tell."""
    wanted = experiment.resources
    if wanted.engine != "ray":
        return 1
    if wanted.workers is not None:
        return wanted.workers
    if wanted.address is not None or wanted.gpus or not wanted.client_cpus:
        return None
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return max(1, int(here / wanted.client_cpus + 1e-6))


def finished(out: Path) -> list[tuple[tuple[Any, ...], float]]:
    """Return, for every finished run in ``out``, its kind and the seconds of a core for a pass."""
    found = []
    for experiment, config, summary in _complete(out):
        if summary.get("busy_seconds"):
            work = passes(experiment, _rows_of(experiment, config))
            found.append((kind_of(experiment), summary["busy_seconds"] / work))
    return found


def _complete(out: Path) -> Iterator[tuple[Experiment, dict[str, Any], dict[str, Any]]]:
    for file in sorted(out.glob("*/summary.json")):
        summary, config = reading.read_json(file), reading.read_json(file.parent / "config.json")
        if summary and config and summary.get("status") == "complete":
            try:
                yield parse(config["experiment"]), config, summary
            except (ConfigError, KeyError):
                continue  # A run of another version: it tells nothing of this one.


def _rows_of(experiment: Experiment, config: Mapping[str, Any]) -> DataSize:
    total, share = int(config["data"]["train"]), experiment.partition.validation
    held = round(total * share)
    return DataSize(total - held, held, int(config["data"]["test"]))


def _reference(experiment: Experiment) -> float | None:
    speed = REFERENCE.get(experiment.model)
    return None if speed is None else 1 / speed


def parameters(model: str, rows: DataSize) -> int | None:
    """Return the number of weights of a built-in model on some data; None for another model."""
    if rows.classes is None or not rows.shape or model not in REFERENCE:
        return None
    inputs, classes = prod(rows.shape), rows.classes
    if model == "logistic":
        return dense(inputs, classes)
    if model == "mlp":
        return dense(inputs, 200) + dense(200, 200) + dense(200, classes)
    if len(rows.shape) != 3:
        return None
    height, width, channels = rows.shape
    if model == "lenet":
        flat = 16 * ((height // 2 - 4) // 2) * ((width // 2 - 4) // 2)
        convolutions = dense(25 * channels, 6) + dense(25 * 6, 16)
        return convolutions + dense(flat, 120) + dense(120, 84) + dense(84, classes)
    flat = 64 * (((height - 2) // 2 - 2) // 2) * (((width - 2) // 2 - 2) // 2)
    convolutions = dense(9 * channels, 32) + dense(9 * 32, 64)
    return convolutions + dense(flat, 128) + dense(128, classes)


def dense(inputs: int, outputs: int) -> int:
    """Return the weights and biases of a dense layer, or of a convolution's window."""
    return (inputs + 1) * outputs


def _memory(experiment: Experiment, rows: DataSize, known: Mapping[Any, int]) -> float | None:
    """Return the bytes of a run's workers, its data (here and in Ray) and what clients keep."""
    size = known.get((experiment.model, experiment.dataset)) or parameters(experiment.model, rows)
    workers = workers_of(experiment)
    if size is None or workers is None:
        return None
    each = memory.worker_bytes(size) - memory.BASE + PROCESS
    strategy = make_strategy(experiment)
    besides = 0
    if isinstance(strategy, Federated):
        algorithm = strategy.algorithm
        setup = Setup(experiment, algorithm.client, algorithm.reducer)
        besides = memory.shared_bytes(size, experiment, setup)
    return PROCESS + workers * each + 2 * rows.size + besides


def in_words(prospect: Prospect, found: Forecast) -> list[str]:
    """Return a plan in a few lines of text.

    Args:
        prospect: the plan.
        found: its forecast.
    """
    states = list(prospect.states.values())
    counts = [(states.count(state), state) for state in ("complete", "interrupted", "new")]
    some = ", ".join(f"{number} {state}" for number, state in counts if number)
    runs = f"{len(states)} run" + ("s" if len(states) != 1 else "")
    rounds = sum(e.rounds for e in prospect.waiting.values())
    if not rounds:
        return [f"{runs}: {some}"]
    lines = [f"{runs}: {some}; {rounds:,} round{'s' if rounds != 1 else ''} to go"]
    where = "" if found.workers is None else f" on {found.workers} worker"
    where += "s" if (found.workers or 1) > 1 else ""
    source = f"the speed of {found.measured} finished runs" if found.measured else "typical speeds"
    if found.measured == 1:
        source = "the speed of 1 finished run"
    time = "time unknown until a run of its model is finished"
    if found.seconds is not None:
        time = f"about {_duration(found.seconds)}{where} (an estimate, from {source})"
    room = "" if found.memory is None else f"; about {gib(found.memory)} of memory"
    return [*lines, f"{time}{room}"]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(5, round(seconds / 5) * 5)} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
