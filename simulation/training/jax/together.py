"""Jobs of several runs in one program: a lane's client starts from its own run's model.

The numbers of a run (its model, its learning rate, what its server shares) are data of the program,
found by the run of each client. What a client computes does not depend on the jobs beside its own:
those go together whose programs have steps of the same room.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from simulation.training.backend import Outcome, outcome_of
from simulation.training.jax.runner import RunJob
from simulation.training.jax.trainer import JaxTrainer
from simulation.training.joined import source_of
from simulation.training.plan import Job

Ask = tuple[JaxTrainer, Any, Job]
"""A run's trainer, its model [P], and a job."""


log = logging.getLogger("sunflower.jax")


def train_together(asked: Sequence[Ask]) -> list[Outcome]:
    """Return what :meth:`JaxTrainer.train` gives for each, or the error that it raises.

    Args:
        asked: jobs of several runs.
    """
    found: dict[int, Outcome] = {}
    kinds: dict[Any, list[int]] = {}
    for place, ask in enumerate(asked):
        kinds.setdefault(_kind(place, *ask), []).append(place)
    for places in kinds.values():
        for some in _programs(asked, places):
            found.update(zip(some, _outcomes([asked[place] for place in some]), strict=True))
    return [found[place] for place in range(len(asked))]


def _apart(trainer: JaxTrainer, job: Job) -> bool:
    """Tell whether a job's program has room for no other."""
    return job.slots is not None or trainer.lanes == 1


def _kind(place: int, trainer: JaxTrainer, model: Any, job: Job) -> Any:
    """Return what must be equal for jobs of one program."""
    if _apart(trainer, job):
        return place
    shared = tuple((name, np.shape(job.shared[name])) for name in sorted(job.shared))
    source = None if job.examples.at is None else source_of(job.examples)
    return id(trainer.runner), trainer.runner.batch(job), shared, source


def _programs(asked: Sequence[Ask], places: Sequence[int]) -> Iterator[list[int]]:
    """Yield the jobs of each program: as many as it has room for."""
    some: list[int] = []
    clients = 0
    for place in places:
        trainer, _, job = asked[place]
        if some and clients + len(job.clients) > trainer.runner.room:
            yield some
            some, clients = [], 0
        some.append(place)
        clients += len(job.clients)
    yield some


def _outcomes(asked: Sequence[Ask]) -> list[Outcome]:
    """Return what each job gives: an error of one is no other's."""
    try:
        return _trained(asked)
    except Exception as error:
        if len(asked) == 1:
            return [error]
        log.info("jobs of %d runs are trained one by one: %s", len(asked), error)
    return [one for ask in asked for one in _outcomes([ask])]


def _trained(asked: Sequence[Ask]) -> list[Outcome]:
    trainer, model, job = asked[0]
    if _apart(trainer, job):
        return [trainer.train(model, job)]
    jobs = [RunJob(model, job, trainer.rate_of(job)) for trainer, model, job in asked]
    found = trainer.runner.train_together(jobs)
    return [
        outcome_of(partial(trainer.trained, model, job, own, one.rate))
        for (trainer, model, job), one, own in zip(asked, jobs, found, strict=True)
    ]
