"""A study: one experiment repeated with several strategies and seeds, a run folder each.

:func:`expand` turns a study into a plan, a list of named experiments; :func:`carry_out` runs any
plan, skips what is complete and goes on with what was interrupted. A run is known by the digest
of its experiment.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from simulation import preflight, results
from simulation.experiment import ConfigError, Experiment, explain, parse, read
from simulation.options import overlay
from simulation.run import Listener, check_same, make_strategy, prepare, simulate
from simulation.sections import Int, Section

Plan = dict[str, Experiment]
"""What to run, by the name of its folder."""

SWEPT = ("name", "mode", "seed", "strategy")
"""Keys of an experiment that a study decides."""

State = Literal["new", "interrupted", "complete"]

Watch = Callable[[str, Experiment, State], AbstractContextManager[Listener]]
"""Called for every run of a plan; what it opens hears the run."""


class Study(Section):
    """What to compare.

    Args:
        name: names the folder under ``runs/``.
        experiment: the base, as in an experiment file.
        strategies: names, or tables with a ``name`` and options.
        seeds: one run of every strategy for each.
        centralised: whether to train the centralised baseline too, once for each seed.
    """

    name: str | None = None
    experiment: dict[str, Any] = Field(default_factory=dict)
    strategies: tuple[str | dict[str, Any], ...] = ("fedavg", "fedprox", "fedadam")
    seeds: tuple[Int, ...] = (0,)
    centralised: bool = False

    @field_validator("strategies", mode="before")
    @classmethod
    def _names_or_tables(cls, values: Any) -> Any:
        if not isinstance(values, list | tuple) or any(
            not isinstance(value, str | Mapping) for value in values
        ):
            raise ValueError("must be a list of names and tables")
        return values

    @field_validator("strategies", "seeds")
    @classmethod
    def _some_and_distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not values:
            raise ValueError("must have at least one entry")
        if any(value in values[:i] for i, value in enumerate(values)):
            raise ValueError("must name nothing twice")
        return values

    @field_validator("experiment")
    @classmethod
    def _without_what_is_swept(cls, base: dict[str, Any]) -> dict[str, Any]:
        for key in SWEPT:
            if key in base:
                raise ValueError(f"experiment.{key} must be left out of a study, got {base[key]!r}")
        return base


def parse_study(data: Mapping[str, Any]) -> Study:
    """Validate a mapping. Raises ConfigError with one line per problem."""
    try:
        return Study.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, Study))) from None


def read_study(path: Path) -> Study:
    """Read a study from a TOML file; without a name it is called like the file."""
    return parse_study({"name": path.stem, **read(path)})


def expand(study: Study, given: Mapping[str, Any] | None = None) -> Plan:
    """Return the runs of a study.

    Args:
        study: the study.
        given: dotted keys that replace those of the base experiment.

    Raises:
        ConfigError: with the problems of all runs, each once.
    """
    given = given or {}
    for key, value in given.items():
        if key.partition(".")[0] in SWEPT:
            raise ConfigError(f"{key} must be left out of a study, got {value!r}")
    base = overlay(study.experiment, given)
    tables: list[dict[str, Any]] = []
    for seed in study.seeds:
        for strategy in study.strategies:
            tables.append({**base, "strategy": strategy, "seed": seed})
        if study.centralised:
            tables.append({**base, "mode": "centralised", "seed": seed})
    plan, problems = {}, {}
    for table in tables:
        try:
            experiment = parse(table)
        except ConfigError as error:
            problems.update(dict.fromkeys(str(error).splitlines()))
        else:
            plan[f"{slug(experiment.label)}-seed{experiment.seed}"] = experiment
    if problems:
        raise ConfigError("\n".join(problems))
    if len(plan) < len(tables):
        raise ConfigError(f"strategies must have different labels, got {list(study.strategies)!r}")
    return plan


def slug(text: str) -> str:
    """Return ``text`` as the name of a folder."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")


def state_of(path: Path, experiment: Experiment) -> State:
    """Return how far a run is.

    Raises:
        RunError: when ``path`` holds something else.
    """
    if not (path / "config.json").exists():
        results.check_free(path)
        return "new"
    check_same(path, experiment)
    return "complete" if results.is_complete(path, experiment.digest()) else "interrupted"


def check_plan(plan: Plan, out: Path) -> dict[str, State]:
    """Return how far every run is, having checked all that can be checked without starting one.

    Raises:
        ValueError: bad input: a strategy, data, a partition, a folder that is something else.
    """
    states = {name: state_of(out / name, experiment) for name, experiment in plan.items()}
    seen = []
    for name, experiment in plan.items():
        if states[name] == "complete":
            continue
        preflight.check(experiment, out / name)
        make_strategy(experiment)
        # The same data dealt with another seed meets the same rules.
        deal = {"dataset", "data_dir", "clients", "partition"}
        key = experiment.model_dump(include=deal)
        if key not in seen:
            seen.append(key)
            prepare(experiment)
    return states


@dataclass
class Outcome:
    """How the runs of a plan went.

    Args:
        complete: names of the runs that are complete now.
        failed: why others are not, by name.
    """

    complete: list[str] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)


def carry_out(plan: Plan, out: Path, watch: Watch | None = None) -> Outcome:
    """Run what is not complete yet, one run after the other, in one session of Ray.

    Args:
        plan: what to run, by name; each gets the folder ``out/name``.
        out: the study's folder.
        watch: opens a listener for a run.

    Raises:
        ValueError: bad input, before the first round of anything.
    """
    states = check_plan(plan, out)
    outcome = Outcome()
    waiting = [experiment for name, experiment in plan.items() if states[name] != "complete"]
    with _session(waiting):
        for name, experiment in plan.items():
            state = states[name]
            with watch(name, experiment, state) if watch else nullcontext(Listener()) as listener:
                try:
                    if state != "complete":
                        _run_one(experiment, out / name, listener)
                except RuntimeError as error:
                    outcome.failed[name] = error
                else:
                    outcome.complete.append(name)
    return outcome


def _run_one(experiment: Experiment, path: Path, listener: Listener) -> None:
    resume = (path / "config.json").exists()
    simulate(experiment, out=path, resume=resume, listener=listener)


def _session(experiments: list[Experiment]) -> AbstractContextManager[object]:
    """Keep one Ray open for all runs, which find it initialised and leave it so."""
    users = [e.resources for e in experiments if e.resources.engine == "ray"]
    if not users:
        return nullcontext()
    from simulation.cluster import Cluster

    return closing(Cluster(users[0]))
