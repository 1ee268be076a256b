"""Carrying out a plan: each run once, whatever its folder is called; those cut short go on.

A run is known by the digest of its experiment. What failed is told at the end; the rest goes on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from simulation.config.experiment import Experiment
from simulation.datasets import inputs
from simulation.engines.inline import carry_out as carry_out_together
from simulation.population.deal import prepare
from simulation.records import reading, run_folder
from simulation.runs import preflight
from simulation.runs.resume import check_rounds, check_same, trains_in_a_group
from simulation.runs.run import Host, Listener, make_strategy, simulate
from simulation.runs.signals import termination
from simulation.studies.groups import GROUPS, Group, InlineHost, groups
from simulation.studies.groups import Plan as Plan
from simulation.studies.side_by_side import SharedPool, runs_at_once, side_by_side

State = Literal["new", "interrupted", "complete"]

Watch = Callable[[str, Experiment, State], AbstractContextManager[Listener]]
"""Called for every run of a plan; what it opens hears the run."""


@dataclass(frozen=True)
class DataSize:
    """What data a run has.

    Args:
        train: rows that its clients train on.
        validation: rows that they measure on.
        test: rows of the server's test set.
        size: bytes of all of them.
        shape: shape of one example; empty where it has several parts.
        classes: number of classes; None for a regression.
    """

    train: int
    validation: int
    test: int
    size: int = 0
    shape: tuple[int, ...] = ()
    classes: int | None = None


@dataclass(frozen=True)
class Prospect:
    """What is known of a plan before it starts.

    Args:
        plan: the runs, under the names of their folders.
        states: how far each is.
        rows: what data each has; of complete runs, nothing.
    """

    plan: Plan
    states: dict[str, State]
    rows: dict[str, DataSize]

    @property
    def waiting(self) -> Plan:
        """The runs that are not complete."""
        return {n: e for n, e in self.plan.items() if self.states[n] != "complete"}


@dataclass
class Outcome:
    """How the runs of a plan went.

    Args:
        complete: names of the runs that are complete now.
        failed: why others are not, by name.
    """

    complete: list[str] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)


def state_of(path: Path, experiment: Experiment) -> State:
    """Return how far a run is.

    Raises:
        RunError: when ``path`` holds something else.
    """
    if not (path / "config.json").exists():
        run_folder.check_free(path)
        return "new"
    check_same(path, experiment)
    check_rounds(path, experiment)
    return "complete" if reading.is_complete(path, experiment.digest()) else "interrupted"


def adopt(plan: Plan, out: Path) -> Plan:
    """Return a plan with the names of the folders in ``out`` that hold its runs already.

    A complete run counts before an interrupted one, and the plan's own name before others. Runs of
    equal digest (which differ in where they run, say) are told apart by their names alone.
    """
    digests = {name: experiment.digest() for name, experiment in plan.items()}
    many = list(digests.values())
    held: dict[str, list[Path]] = {}
    for config in sorted(out.glob("*/config.json")):
        found = reading.read_json(config) or {}
        held.setdefault(str(found.get("hash")), []).append(config.parent)
    homes: dict[str, str] = {}
    for name, digest in digests.items():

        def rank(folder: Path, digest: str = digest, name: str = name) -> tuple[bool, bool]:
            return not reading.is_complete(folder, digest), folder.name != name

        if many.count(digest) == 1 and digest in held:
            homes[name] = min(held[digest], key=rank).name
    taken = set(homes.values())
    for name in plan:
        if name not in homes:
            # Its name may be that of a folder in which another run of the plan is at home.
            numbered = (f"{name}-{n}" for n in itertools.count(2))
            homes[name] = next(n for n in itertools.chain([name], numbered) if n not in taken)
            taken.add(homes[name])
    return {homes[name]: experiment for name, experiment in plan.items()}


def survey(plan: Plan, out: Path) -> Prospect:
    """Look at a plan and at its folder, and check all that can be checked without starting a run.

    Raises:
        ValueError: bad input: a strategy, data, a partition, a folder that is something else.
    """
    plan = adopt(plan, out)
    states = {name: state_of(out / name, experiment) for name, experiment in plan.items()}
    rows: dict[str, DataSize] = {}
    seen: list[tuple[Any, DataSize]] = []
    for name, experiment in plan.items():
        if states[name] == "complete":
            continue
        preflight.check(experiment, out / name)
        make_strategy(experiment)
        # The same data dealt with another seed meets the same rules.
        deal = {"dataset", "data_dir", "data", "clients", "partition", "mode"}
        key = experiment.model_dump(include=deal)
        known = next((found for other, found in seen if other == key), None)
        if known is None:
            known = _count_rows(experiment)
            seen.append((key, known))
        rows[name] = known
    return Prospect(plan, states, rows)


def _count_rows(experiment: Experiment) -> DataSize:
    data, parts = prepare(experiment)
    x_train, x_test = inputs.arrays(data.x_train), inputs.arrays(data.x_test)
    shape = inputs.shapes(data.x_train)
    return DataSize(
        int(parts.train_sizes.sum()),
        int(parts.validation_sizes.sum()),
        len(data.y_test),
        sum(array.nbytes for array in (*x_train, data.y_train, *x_test, data.y_test)),
        shape if len(x_train) == 1 and isinstance(shape, tuple) else (),
        data.classes,
    )


def carry_out(
    plan: Plan, out: Path, watch: Watch | None = None, at_once: int | None = None
) -> Outcome:
    """Run what is not complete yet; runs on Ray share one pool, some of them at a time.

    Args:
        plan: what to run, by name; each gets the folder ``out/name``, or that in which it is
            already.
        out: the study's folder.
        watch: opens a listener for a run.
        at_once: how many runs share the pool; None: as many as keep its workers busy.

    Raises:
        ValueError: bad input, before the first round of anything.
    """
    return carry_on(survey(plan, out), out, watch, at_once)


def carry_on(
    prospect: Prospect, out: Path, watch: Watch | None = None, at_once: int | None = None
) -> Outcome:
    """As :func:`carry_out`, for a plan that has been looked at."""
    outcome = Outcome()
    looking: Watch = watch or (lambda *_: nullcontext(Listener()))
    for name, experiment in prospect.plan.items():
        if prospect.states[name] == "complete":
            with looking(name, experiment, "complete"):
                outcome.complete.append(name)

    def attempt(name: str, host: Host | None = None) -> None:
        experiment, path = prospect.plan[name], out / name
        resume = (path / "config.json").exists()
        try:
            with looking(name, experiment, prospect.states[name]) as listener:
                simulate(experiment, out=path, resume=resume, listener=listener, host=host)
        except Exception as error:
            # What is wrong before any run has begun is wrong with all of them.
            if isinstance(error, ValueError) and not _begun(prospect.plan, out):
                raise
            outcome.failed[name] = error
        else:
            outcome.complete.append(name)

    apart = {
        name
        for name, state in prospect.states.items()
        if state == "interrupted" and not trains_in_a_group(out / name)
    }
    found = partial(groups, prospect.plan, at_once=at_once, apart=apart)
    for group in _groups(prospect.waiting):
        if group[next(iter(group))].resources.engine == "ray":
            _share(group, found, attempt, at_once)
        else:
            for some, together in found(group):
                if together:
                    _meet(Group(some, carry_out_together, InlineHost()), some, attempt)
                else:
                    attempt(next(iter(some)))
    outcome.complete.sort(key=list(prospect.plan).index)
    return outcome


Attempt = Callable[[str, Host | None], None]
"""Carries out the run of a name, with engine and data from a host."""


def _meet(group: Group, members: Plan, attempt: Attempt) -> None:
    """Carry out the runs of a group, each in a thread of its own."""

    def one(name: str) -> None:
        try:
            attempt(name, group.member(name))
        finally:
            group.leave(name)

    side_by_side(members, one, len(members), group.stop)


def _share(
    waiting: Plan,
    found: Callable[..., Iterator[tuple[Plan, bool]]],
    attempt: Attempt,
    at_once: int | None,
) -> None:
    """Carry out runs of equal resources on one pool of workers; ``found``: which go together."""
    resources = waiting[next(iter(waiting))].resources
    # Ray puts a signal handler of its own in the place of ours: Ctrl-C and SIGTERM must still
    # end what happens until the threads are there.
    with termination(), closing(SharedPool(resources, waiting.values())) as host:
        alone: Plan = {}
        together: list[tuple[Group, Plan]] = []
        number = GROUPS * host.workers
        for some, meet in found(waiting, side_by_side=number):
            if meet:
                together.append((Group(some, host.answer(), host), some))
            else:
                alone |= some

        def stop() -> None:
            host.pool.stop()
            for group, _ in together:
                group.stop()

        if together:
            if at_once is not None:
                number = min(number, max(1, at_once // max(len(some) for _, some in together)))
            side_by_side(together, lambda one: _meet(*one, attempt), number, stop)
        if alone:
            number = min(len(alone), at_once or runs_at_once(alone.values(), host.workers))
            side_by_side(alone, lambda name: attempt(name, host), number, stop)


def _begun(plan: Plan, out: Path) -> bool:
    return any((out / name / "rounds.jsonl").exists() for name in plan)


def _groups(plan: Plan) -> list[Plan]:
    """Return the runs that can share a pool, group by group."""
    groups: dict[str, Plan] = {}
    for name, experiment in plan.items():
        groups.setdefault(experiment.resources.model_dump_json(), {})[name] = experiment
    return list(groups.values())
