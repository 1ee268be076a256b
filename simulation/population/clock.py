"""A simulated world: devices, when they are there, and what a client is sent and sends back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulation.config.experiment import Experiment
from simulation.config.local_work import LocalWork, local_work
from simulation.population.availability import Availability, availability_of
from simulation.population.behaviour import steps_of
from simulation.population.devices import Durations, Fleet, Work, fleet_of, work_of

MOST_CHANGES = 100_000
"""Changes of availability that are waited for until somebody is there."""


class NobodyThereError(RuntimeError):
    """Nobody can be asked, however long the server waits."""


@dataclass(frozen=True)
class World:
    """What a run's clients compute on, and what travels.

    Args:
        fleet: their devices.
        availability: when they can be asked.
        work: their whole local work.
        batch: examples of a step; None: all that a client has.
        sizes: examples of each client.
        down: bytes that a client is sent; of each [clients] where they are unlike.
        up: bytes that it sends back.
        phases: the parts of the local work, where it has several.
        gradients: how many a step takes.
    """

    fleet: Fleet
    availability: Availability
    work: Work
    batch: int | None
    sizes: NDArray[np.int64]
    down: int | NDArray[np.int64]
    up: int
    phases: tuple[LocalWork, ...] = ()
    gradients: int = 1

    def durations(
        self, clients: Sequence[int] | NDArray[np.int64], parts: dict[int, float] | None = None
    ) -> Durations:
        """Return how long clients take, of whom some do a part of their work."""
        steps, examples = self.done(clients, parts)
        steps, examples = steps * self.gradients, examples * self.gradients
        down = self.down_to(clients)
        return self.fleet.durations(clients, steps, examples, down, self.up)

    def down_to(self, clients: Sequence[int] | NDArray[np.int64]) -> int | NDArray[np.int64]:
        """Return the bytes that clients are sent: of each [K] where they are unlike."""
        if isinstance(self.down, int):
            return self.down
        return self.down[np.asarray(clients, np.int64)]

    def done(
        self, clients: Sequence[int] | NDArray[np.int64], parts: dict[int, float] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the steps that clients take, and the examples that they train on: arrays [K]."""
        at = np.asarray(clients, np.int64)
        steps, examples = self.work.steps[at].copy(), self.work.examples[at].copy()
        for place, client in enumerate(at.tolist() if parts else ()):
            part = parts.get(client) if parts else None
            if part is not None and steps[place]:
                size = int(self.sizes[client])
                works = [(int(work.steps(size)), work.batch) for work in self.phases]
                works = works or [(int(steps[place]), self.batch)]
                steps[place] = examples[place] = 0
                for whole, batch in works:
                    taken, each = steps_of(part, whole), batch or size
                    epochs, rest = divmod(taken, -(-size // each))
                    steps[place] += taken
                    examples[place] += epochs * size + min(size, rest * each)
        return steps, examples

    def opening(self, seconds: float) -> tuple[float, NDArray[np.bool_] | None]:
        """Return the first moment from ``seconds`` on at which somebody is there, and who.

        Raises:
            NobodyThereError: when nobody comes.
        """
        for _ in range(MOST_CHANGES):
            there = self.availability.at(seconds)
            if there is None or there.any():
                return seconds, there
            seconds = self.availability.next_change(seconds)
        raise NobodyThereError(
            f"devices.availability lets nobody in up to {seconds:g} virtual seconds"
        )


def world_of(
    experiment: Experiment, sizes: NDArray[np.integer], full_batch: bool, down: int, up: int,
    phases: Sequence[LocalWork] = (), gradients: int = 1,
) -> World:  # fmt: skip
    """Return the world of an experiment that has devices.

    Args:
        experiment: the experiment.
        sizes: examples of each client.
        full_batch: whether a client takes one step on all that it has.
        down: bytes that a client is sent.
        up: bytes that it sends back.
        phases: the parts of the local work, where it has several.
        gradients: how many a step takes.

    Raises:
        ConfigError: for a file of devices that cannot be used.
    """
    devices, training = experiment.devices, experiment.training
    assert devices is not None
    work = LocalWork() if full_batch else local_work(training)
    whole = sizes.astype(np.int64)
    parts = [work_of(whole, p.epochs, p.batch, p.count) for p in phases or [work]]
    return World(
        fleet_of(devices, len(sizes), experiment.seed),
        availability_of(devices, len(sizes), experiment.seed),
        Work(np.sum([p.steps for p in parts], 0), np.sum([p.examples for p in parts], 0)),
        work.batch,
        whole,
        down,
        up,
        tuple(phases),
        gradients,
    )
