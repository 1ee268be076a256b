"""Jobs of several runs as one: their clients one after the other, with all that they train on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.datasets import inputs
from simulation.training.plan import Beside, Examples, Job


def source_of(examples: Examples) -> Any:
    """Return what tells the arrays that examples are rows of: equal for the same memory."""
    arrays = inputs.arrays(examples.source)
    return tuple(
        (a.__array_interface__["data"][0], a.shape, a.strides, a.dtype.str) for a in arrays
    )


def joined(jobs: Sequence[Job]) -> Job:
    """Return one job of the clients of several.

    What jobs differ in is each client's own: sizes, orders, batches, steps, seeds, states. What is
    one for all of a job (the learning rate, what the server shares) is that of the first.

    Args:
        jobs: of equal sources, of fresh slots, with weights of examples or without.
    """
    if len(jobs) == 1:
        return jobs[0]
    places = np.cumsum([0] + [len(job.examples.y) for job in jobs])[:-1]
    starts = [job.starts[:-1] + place for job, place in zip(jobs, places, strict=True)]
    last = jobs[-1].starts[-1] + places[-1]
    return Job(
        clients=[client for job in jobs for client in job.clients],
        sizes=[size for job in jobs for size in job.sizes],
        round=jobs[0].round,
        examples=_examples([job.examples for job in jobs]),
        order=_orders(jobs, places),
        starts=np.concatenate([*starts, [last]]).astype(np.int32),
        batches=np.concatenate([job.batches for job in jobs]),
        steps=np.concatenate([job.steps for job in jobs]),
        seeds=np.concatenate([job.seeds for job in jobs]),
        shared=jobs[0].shared,
        own=[state for job in jobs for state in job.own],
        slots=None,
        learning_rate=jobs[0].learning_rate,
        lazy_delta=False,
        beside=_beside(jobs),
        largest=max(job.largest for job in jobs),
        full_batch=jobs[0].full_batch,
    )


def _examples(several: Sequence[Examples]) -> Examples:
    y = np.concatenate([one.y for one in several])
    weights = None
    if several[0].weights is not None:
        weights = np.concatenate([one.weights for one in several])
    if several[0].at is None:
        x = inputs.each(lambda *parts: np.concatenate(parts), *(one.x for one in several))
        return Examples(x, y, weights)
    at = np.concatenate([one.at for one in several if one.at is not None])
    return Examples(several[0].source, y, weights, at)


def _orders(jobs: Sequence[Job], places: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the rows in the order of training; a job of fewer epochs leaves the last ones out."""
    epochs = max(len(job.order) for job in jobs)
    parts = []
    for job, place in zip(jobs, places, strict=True):
        rows = job.order + np.int32(place)
        if len(rows) < epochs:
            rows = np.pad(rows, [(0, epochs - len(rows)), (0, 0)], mode="edge")
        parts.append(rows)
    return np.concatenate(parts, 1)


def _beside(jobs: Sequence[Job]) -> Beside | None:
    """Return the places that are held: those of a job's clients, where no others are beside."""
    if all(job.beside is None for job in jobs):
        return None
    steps, places, first = [], [], 0
    for job in jobs:
        held = job.beside or Beside(job.steps, np.arange(len(job.clients)))
        steps.append(held.steps)
        places.append(held.places + first)
        first += len(held.steps)
    return Beside(np.concatenate(steps), np.concatenate(places))
