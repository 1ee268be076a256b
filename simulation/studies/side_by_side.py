"""Several runs at once on one pool of workers, each driven by a thread of its own.

Where one run leaves workers idle (a small cohort, the server's step), they do another's work. What
a run computes depends on its experiment alone, so that its bits are those of a run by itself.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from simulation.config.experiment import Experiment
from simulation.config.sections import Data, Resources
from simulation.datasets.dataset import Dataset
from simulation.engines.engine import Engine
from simulation.engines.ray import shipping
from simulation.flower.executor import ANSWERING
from simulation.listeners.listener import Listener
from simulation.runs.signals import termination
from simulation.studies.groups import DataOnce
from simulation.worker.meeting import Answer, Member

T = TypeVar("T")

MOST_RUNS = 16
"""Runs at a time, at most: their drivers are threads of one process."""

SPARE = 2
"""Runs more than fill the pool, for the moments at which one of them is at the server."""

CALLS = 2
"""Calls that keep a worker busy: one under way, one that waits."""

INTERRUPT_PATIENCE = 30.0
"""Seconds that runs get to note that they were interrupted."""


class SharedPool:
    """Engine and data of runs that go on side by side (a :class:`simulation.runs.run.Host`).

    Args:
        resources: of every one of them.
        experiments: the runs, whose modules go to the nodes of a cluster.

    Raises:
        ResourceError: when no node has what one worker needs.
    """

    def __init__(self, resources: Resources, experiments: Iterable[Experiment] = ()) -> None:
        from simulation.engines.ray.pool import Pool

        named = {module for experiment in experiments for module in shipping.modules_of(experiment)}
        self.pool = Pool(resources, ANSWERING, shipping.packages(sorted(named)))
        self._data = DataOnce()

    @property
    def workers(self) -> int:
        """Number of workers."""
        return len(self.pool.slots)

    def engine(
        self, experiment: Experiment, listener: Listener, member: Member | None = None
    ) -> Engine:
        """Return a run's engine on the pool."""
        from simulation.engines.ray.engine import RayEngine

        return RayEngine(experiment.resources, listener.clients, pool=self.pool, member=member)

    def answer(self) -> Answer:
        """Return what carries out the calls of a group's runs together."""
        from simulation.engines.ray.together import JointCalls

        return JointCalls(self.pool).carry_out

    def load(self, name: str, data_dir: Path | None, how: Data | None) -> Dataset:
        """Load a dataset once for all runs."""
        return self._data.load(name, data_dir, how)

    def close(self) -> None:
        """Stop the workers."""
        self.pool.close()


def width(experiment: Experiment) -> int:
    """Return how many workers a run can keep busy at most: one for each client of a round."""
    one = experiment.mode == "centralised"
    return 1 if one else experiment.cohort_size


def runs_at_once(experiments: Iterable[Experiment], workers: int) -> int:
    """Return how many runs to drive at a time: so many that the workers always have a next call.

    Args:
        experiments: the runs.
        workers: of the pool.
    """
    goal = CALLS * workers
    widths = [min(goal, width(experiment)) for experiment in experiments]
    filling = -(-goal * len(widths) // sum(widths))
    return min(len(widths), MOST_RUNS, filling + SPARE)


def side_by_side(
    names: Iterable[T], attempt: Callable[[T], None], at_once: int, stop: Callable[[], None]
) -> None:
    """Call ``attempt(name)`` for every name, in some threads at a time.

    Args:
        names: of what is to be done, in order.
        attempt: does it; its errors end everything.
        at_once: how many threads.
        stop: makes attempts end early by KeyboardInterrupt; called on Ctrl-C and on an error.
    """
    waiting, errors = deque(names), list[BaseException]()

    def work() -> None:
        try:
            while not errors:
                try:
                    name = waiting.popleft()
                except IndexError:  # Another thread has taken the last one.
                    return
                attempt(name)
        except BaseException as error:
            errors.append(error)
            waiting.clear()
            stop()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(at_once)]
    with termination():
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            waiting.clear()
            stop()
            for thread in threads:
                thread.join(INTERRUPT_PATIENCE)
            raise
    if errors:
        raise errors[0]
