"""Runs that train in the same lanes: which they are, and what they share in this process.

Runs that differ only in what a program takes as data (seed, learning rate, mu, server rule, cohort,
partition, local epochs) are clients of one program. Where one run's cohort leaves lanes idle, or a
round is mostly overhead, others fill it up.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from simulation.config.experiment import Experiment
from simulation.config.sections import Data
from simulation.config.strategy import make_strategy
from simulation.datasets import registry
from simulation.datasets.dataset import Dataset
from simulation.engines.engine import Engine
from simulation.engines.policy import POLICY
from simulation.listeners.listener import Listener
from simulation.runs.machinery import inline_engine
from simulation.training.trainers import changes_of
from simulation.worker.meeting import Answer, Meeting, Member
from strategies import Federated

MOST_MEMBERS = 16
"""Runs of a group, at most: their drivers are threads of one process."""

GROUPS = 2
"""Groups for each worker: while one trains, the drivers of another step their servers."""

FEW = 2
"""Members of a group at least, where there are runs for them."""

LANES = 8
"""Lanes of a worker that has not said yet how many it has, at least."""

SAME = ("dataset", "data_dir", "data", "model", "init", "mode", "resources")
"""What runs of a group have in common, beside their client rule."""

NUMBERS = {"learning_rate", "local_epochs", "local_steps", "decay"}
"""Settings of training that a program takes as data."""


Plan = dict[str, Experiment]
"""What to run, by the name of its folder."""


def groups(
    plan: Plan,
    waiting: Plan,
    at_once: int | None = None,
    side_by_side: int = 1,
    apart: Collection[str] = (),
) -> Iterator[tuple[Plan, bool]]:
    """Yield the runs to carry out, those together that gain by training in the same lanes.

    Whether a run is one of a group depends on the whole plan, so that it does not change when
    others are complete.

    Args:
        plan: all runs by name.
        waiting: those that are not complete.
        at_once: runs at a time, at most; None: as many as there is a use for.
        side_by_side: groups at a time.
        apart: runs that have begun by themselves, and go on so.

    Yields:
        Some runs, and whether they train as a group.
    """
    kinds: dict[Any, list[str]] = {}
    for name, experiment in plan.items():
        kind = None if at_once == 1 or name in apart else kind_of_group(experiment)
        kinds.setdefault((name,) if kind is None else kind, []).append(name)
    room = MOST_MEMBERS
    if at_once is not None:
        room = min(room, max(FEW, at_once // side_by_side))
    for every in kinds.values():
        names = [name for name in every if name in waiting]
        count = max(-(-len(names) // room), min(side_by_side, len(names) // FEW))
        for k in range(count):  # Groups of about one size: none is left over.
            yield {name: plan[name] for name in names[k::count]}, len(every) > 1


def kind_of_group(experiment: Experiment) -> Any:
    """Return what is equal for runs that train in the same lanes; None for one that does not."""
    resources = experiment.resources
    lanes = resources.lanes or LANES
    if resources.library != "jax" or resources.engine == "flower" or lanes == 1:
        return None
    if experiment.mode != "federated" or not experiment.schedule.in_cohorts:
        return None
    if experiment.cohort_size > POLICY.chunk_queue * lanes:  # It fills its programs by itself.
        return None
    strategy = make_strategy(experiment)
    if not isinstance(strategy, Federated) or strategy.algorithm.client.personal:
        return None
    rule = strategy.algorithm.client
    same = experiment.model_dump_json(include=set(SAME))
    numbers = NUMBERS
    if experiment.training.learning_rate is None:
        numbers = NUMBERS - {"learning_rate"}
    training = experiment.training.model_dump_json(exclude=numbers)
    # A function of one's own may build another model from another seed.
    seed = experiment.seed if ":" in experiment.model else None
    named = experiment.evaluation.metrics
    changes = changes_of(rule)
    return same, training, named, seed, changes, rule.full_batch


class DataOnce:
    """Datasets that several runs read, each loaded once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._data: dict[str, Dataset] = {}

    def load(self, name: str, data_dir: Path | None, how: Data | None) -> Dataset:
        """Load a dataset as :func:`simulation.datasets.registry.load` does."""
        key = repr((name, data_dir, how))
        with self._lock:
            if key not in self._data:
                self._data[key] = registry.load(name, data_dir, how)
            return self._data[key]


class Group:
    """Runs that train together.

    Args:
        names: of all of them; each must be left by :meth:`leave`.
        answer: carries out what they ask for at the same time.
        host: gives them engines and data.
    """

    def __init__(self, names: Iterable[str], answer: Answer, host: GroupHost) -> None:
        self._meeting, self._host = Meeting(names, answer), host
        self.leave, self.stop = self._meeting.leave, self._meeting.stop

    def member(self, name: str) -> MemberHost:
        """Return what gives a run its engine and its data."""
        return MemberHost(Member(self._meeting, name), self._host)


class GroupHost(Protocol):
    """Where the runs of groups get their engines and their data."""

    def engine(
        self, experiment: Experiment, listener: Listener, member: Member | None = None
    ) -> Engine:
        """Return the engine of a run that is a member of a group."""

    def load(self, name: str, data_dir: Path | None, how: Data | None) -> Dataset:
        """Return a dataset, loaded once for all runs."""


@dataclass(frozen=True)
class MemberHost:
    """Gives engine and data to one run of a group (a :class:`simulation.runs.run.Host`)."""

    member: Member
    host: GroupHost

    def engine(self, experiment: Experiment, listener: Listener) -> Engine:
        """Return the run's engine."""
        return self.host.engine(experiment, listener, self.member)

    def load(self, name: str, data_dir: Path | None, how: Data | None) -> Dataset:
        """Load a dataset once for all runs."""
        return self.host.load(name, data_dir, how)


class InlineHost(DataOnce):
    """Gives engines in this process (a :class:`GroupHost`)."""

    def engine(
        self, experiment: Experiment, listener: Listener, member: Member | None = None
    ) -> Engine:
        """Return a run's engine."""
        return inline_engine(listener, member)
