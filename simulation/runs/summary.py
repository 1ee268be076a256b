"""What a run writes about itself: summary, citations, notes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.serverapp.strategy import Strategy

from simulation.config.experiment import Experiment
from simulation.config.local_work import LocalWork, local_work
from simulation.datasets import inputs
from simulation.datasets.dataset import Dataset
from simulation.population.partition import AnyPartition
from simulation.records import files
from simulation.records.checkpoint import Position
from simulation.rounds.driver import DivergedError
from simulation.rounds.watching import Watch
from simulation.worker.faults import is_divergence
from strategies import Federated, catalog
from strategies.spec import Spec
from strategies.weights import BY_SIZE, weights_of

if TYPE_CHECKING:
    from simulation.training.measured import Described


def citations(experiment: Experiment) -> list[dict[str, str]]:
    """Return what a run of this experiment cites."""
    if ":" in experiment.strategy.name or experiment.mode != "federated":
        return []
    entry = catalog.entry(experiment.strategy.name)
    if entry.citation is None:
        return []
    return [{"title": entry.title, "citation": str(entry.citation), "bibtex": entry.bibtex}]


def about_strategy(
    experiment: Experiment, strategy: Strategy, given: bool = False
) -> dict[str, Any] | None:
    """Return what a strategy is called and all of its options, those left out by their defaults.

    ``changed`` names the options that are not what they are by default. A strategy object that was
    given has no options here: they are its own. None for training that is not federated.
    """
    plan = experiment.strategy
    if experiment.mode != "federated":
        return None
    whole = isinstance(strategy, Federated)
    title = strategy.algorithm.name if whole else type(strategy).__name__
    if given:
        return {"title": title}
    if ":" in plan.name:
        return {"title": title, "options": plan.options, "changed": sorted(plan.options)}
    known = catalog.entry(plan.name).options
    changed = [key for key in sorted(plan.options) if plan.options[key] != known[key]]
    return {"title": title, "options": known | plan.options, "changed": changed}


def notes_of(experiment: Experiment, strategy: Strategy) -> list[str]:
    """Return what a run does that its settings do not say by themselves, a sentence each."""
    if not isinstance(strategy, Federated) or experiment.mode != "federated":
        return []
    notes, plan = [], experiment.evaluation
    if strategy.algorithm.client.candidates and plan.server:
        notes.append("each client has one of several models: the server measures none")
    if strategy.algorithm.client.local and plan.server and not plan.personal:
        notes.append(
            "layers stay on the clients: no model is whole on the server, which measures none "
            "(evaluation.personal = true measures the clients' models on its test set)"
        )
    how, weights = strategy.cohort.sampling, weights_of(strategy.algorithm.reducer)
    if how in BY_SIZE and weights == "uniform":
        notes.append(
            f"sampling {how!r} draws clients by size: their updates weigh alike "
            "(Li et al. 2020, arXiv 1907.02189, scheme I)"
        )
    if how in BY_SIZE and weights == "examples":
        notes.append(
            f"sampling {how!r} draws clients by size and weights = 'examples' counts it again"
        )
    return notes


def remarks(experiment: Experiment, model: Described) -> list[str]:
    """Return what was chosen for a model, a line each: nothing that a user has not said is hidden.

    Args:
        experiment: the experiment.
        model: what a worker says of its model.
    """
    lines = []
    if model.chosen and ":" in experiment.model:  # The loss of built-in models is no choice.
        lines.append(f"the model is not compiled with a loss: it learns by {model.loss}")
    scales = [scale for scale in inputs.arrays(model.scale) if scale != 1.0]
    if scales:
        by = ", ".join(f"1/{1 / s:.6g}" if s < 1 else f"{s:.6g}" for s in scales)
        lines.append(
            f"inputs are multiplied by {by} on their way into the model, and so in the saved one"
        )
    return lines


def sizes_of(data: Dataset, parts: AnyPartition) -> dict[str, Any]:
    """Return where the data is from and how many rows there are of each kind."""
    return {
        "source": data.source,
        "train": len(data.y_train),
        "test": len(data.y_test),
        "validation": int(parts.validation_sizes.sum(dtype=np.int64)),
    }


def ended_early(watch: Watch) -> dict[str, Any]:
    """Return what ``summary.json`` says of a run that ended before its last round: why."""
    return {} if watch.reason is None else {"stopped": watch.reason}


def status_of(error: BaseException) -> str:
    """Return the status of a run that an error ended: ``diverged`` or ``failed``."""
    diverged = isinstance(error, DivergedError) or is_divergence(error)
    return "diverged" if diverged else "failed"


def _seen_about(line: dict[str, Any], work: LocalWork) -> float:
    examples, clients = line["examples"] or 0, line["clients"] or 0
    if "local_epochs" in line:
        return float(examples * line["local_epochs"])
    return work.about(examples, clients)


def summary_of(
    status: str,
    experiment: Experiment,
    lines: list[dict[str, Any]],
    position: Position,
    seconds: float,
    spec: Spec,
) -> dict[str, Any]:
    """Return the contents of ``summary.json``.

    Args:
        status: ``complete``, ``interrupted``, ``diverged`` (the numbers were no longer finite) or
            ``failed``.
        experiment: the experiment.
        lines: the records of ``rounds.jsonl``.
        position: where the run stands.
        seconds: wall time, those of all parts of a resumed run.
        spec: the model's layout.
    """
    work, done = local_work(experiment.training), status == "complete"
    # A Flower strategy may tell clients how many epochs to train.
    images = sum(line.get("examples_seen") or _seen_about(line, work) for line in lines)
    busy = sum(line["seconds"] or 0.0 for line in lines)
    return {
        "status": status,
        "rounds": lines[-1]["round"] if lines else 0,
        "final": lines[-1] if lines else {},
        "weights_sha256": files.weights_sha256(position.model) if done else None,
        "wall_seconds": seconds,
        "images_per_second": images / busy if busy else None,
        "parameters": spec.size,
        "clients_lost": sum(line.get("clients_lost", 0) for line in lines),
    }
