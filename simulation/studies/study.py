"""A study: one experiment repeated with several strategies, settings and seeds.

:func:`expand` turns a study into a plan, a list of named experiments, which
:func:`simulation.studies.campaign.carry_out` runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from simulation.config.errors import ConfigError
from simulation.config.experiment import parse, read
from simulation.config.explain import explain
from simulation.config.fields import Count, Int, Section, is_number
from simulation.config.overlay import overlay
from simulation.studies import sweep
from simulation.studies.campaign import Outcome, Plan, State, carry_out, state_of
from simulation.studies.sweep import Point
from strategies import catalog

__all__ = [
    "Outcome", "Plan", "State", "Study", "carry_out", "expand", "parse_study", "read_study", "slug",
    "state_of",
]  # fmt: skip

SWEPT = ("name", "mode", "seed", "strategy")
"""Keys of an experiment that a study decides."""

CLIENT_RATE = "training.learning_rate"
"""The clients' learning rate, which tuning chooses for each strategy."""

StrategyTable = str | dict[str, Any]
"""A strategy as a study names it: its name, or a table with its options."""

Rates = list[tuple[StrategyTable, Point]]
"""For each strategy of a study: with which options, and what else it is to be run."""

OPTION = "strategy."
"""How swept options of strategies begin."""

LABEL = "label"
"""The key of a strategy's table that is no option: what figures and tables call it."""

UNUSED = {
    "centralised": (
        "strategy", "cohort", "sampling", "attack", "realism", "compression", "clients",
        "partition",
    ),
    "local": ("strategy", "cohort", "sampling", "attack", "realism", "compression"),
}  # fmt: skip
"""Keys and tables that a baseline does not depend on: it runs once for all their values."""

KEPT = ("partition.validation", "partition.noise", "partition.rotations", "partition.root")
"""What of the partition every baseline depends on: the rows that nobody trains on, and how rows are
changed."""


def some_and_distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a list of the user's; raise ValueError when it is empty or says something twice."""
    if not values:
        raise ValueError("must have at least one entry")
    if any(value in values[:i] for i, value in enumerate(values)):
        raise ValueError("must name nothing twice")
    return values


def _number(value: Any) -> Any:
    if not is_number(value):
        raise ValueError("must be a number")
    return value


Number = Annotated[int | float, BeforeValidator(_number)]
"""A number as it is: options that are counts take no 5.0."""


def _rates(given: Any, info: ValidationInfo) -> Any:
    """Return learning rates to try: a list for all strategies, or a table with a list for each."""
    key = f"tune.{info.field_name}"
    if isinstance(given, Mapping):
        return {
            str(name): _list_of_rates(values, f"{key}.{name}") for name, values in given.items()
        }
    return None if given is None else _list_of_rates(given, key)


def _list_of_rates(values: Any, key: str) -> tuple[float, ...]:
    if not isinstance(values, list | tuple):
        raise ValueError(f"{key} must be a list, or a table of lists by strategy, got {values!r}")
    for place, value in enumerate(values):
        if not is_number(value) or not isfinite(value):
            raise ValueError(f"{key}.{place} must be a finite number, got {value!r}")
        if value <= 0:
            raise ValueError(f"{key}.{place} must be > 0, got {value!r}")
    try:
        return some_and_distinct(tuple(map(float, values)))
    except ValueError as reason:
        raise ValueError(f"{key} {reason}, got {list(values)!r}") from None


LearningRates = Annotated[
    tuple[float, ...] | dict[str, tuple[float, ...]] | None, PlainValidator(_rates)
]
"""Learning rates to try: of all strategies, or of each by name."""


class Tune(Section):
    """The grid of ``sunflower tune`` (see :mod:`simulation.studies.tuning`).

    ``learning_rates``: of clients. ``server_learning_rates``: a list for strategies whose server
    has a step size to tune. Either may be a table instead, with a list for each strategy by name.
    ``options``: of strategies by name, each a table of options and their values, in place of the
    catalogue's (an empty one tunes none).
    ``rounds`` and ``seeds`` of the tuning runs; None: those of the study, of which the first seed.
    ``widen``: by how many values a grid may grow where its best is at its end.
    """

    learning_rates: LearningRates = None
    server_learning_rates: LearningRates = None
    options: dict[str, dict[str, tuple[Number, ...]]] = Field(default_factory=dict)
    rounds: Count | None = None
    seeds: tuple[Int, ...] | None = None
    widen: Annotated[Int, Field(ge=0)] = 0

    @field_validator("seeds")
    @classmethod
    def _some(cls, values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        return values if values is None else some_and_distinct(values)

    @field_validator("options")
    @classmethod
    def _some_values(cls, tables: dict[str, dict[str, tuple[Any, ...]]]) -> Any:
        for name, grids in tables.items():
            for key, values in grids.items():
                try:
                    some_and_distinct(values)
                except ValueError as reason:
                    raise ValueError(f"tune.options.{name}.{key} {reason}") from None
        return tables


class Study(Section):
    """What to compare.

    Args:
        name: names the folder under ``runs/``.
        experiment: the base, as in an experiment file.
        strategies: names, or tables with a ``name`` and options; ``label`` is what figures and
            tables call it.
        sweep: dotted keys and the values they take (see :mod:`simulation.studies.sweep`).
        seeds: one run of every strategy and setting for each.
        baselines: ``centralised`` training on the pooled data, ``local`` training of every
            client for itself; once for each seed and each setting that they depend on.
        centralised: the same as ``"centralised"`` among the baselines.
        tune: the grid of ``sunflower tune``.
        at_once: how many runs share the pool of workers; found from their cohorts when None.
    """

    name: str | None = None
    experiment: dict[str, Any] = Field(default_factory=dict)
    strategies: tuple[StrategyTable, ...] = ("fedavg", "fedprox", "fedadam")
    sweep: dict[str, Any] = Field(default_factory=dict)
    seeds: tuple[Int, ...] = (0,)
    baselines: tuple[Literal["centralised", "local"], ...] = ()
    centralised: bool = False
    tune: Tune = Tune()
    at_once: Count | None = None

    @field_validator("strategies", mode="before")
    @classmethod
    def _names_or_tables(cls, values: Any) -> Any:
        if not isinstance(values, list | tuple) or any(
            not isinstance(value, str | Mapping) for value in values
        ):
            raise ValueError("must be a list of names and tables")
        labels = [value.get(LABEL) if isinstance(value, Mapping) else None for value in values]
        for i, label in enumerate(labels):
            if label is not None and not (isinstance(label, str) and label.strip()):
                raise ValueError(f"strategies.{i}.label must be some text, got {label!r}")
            if label is not None and label in labels[:i]:
                raise ValueError(
                    f"strategies.{i}.label must be of one strategy alone, got {label!r} twice"
                )
        return values

    @field_validator("strategies", "seeds")
    @classmethod
    def _some(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return some_and_distinct(values)

    @field_validator("sweep")
    @classmethod
    def _counts(cls, table: dict[str, Any]) -> dict[str, Any]:
        sweep.axes(table)
        return table

    @field_validator("experiment")
    @classmethod
    def _without_what_is_swept(cls, base: dict[str, Any]) -> dict[str, Any]:
        for key in SWEPT:
            if key in base:
                raise ValueError(f"experiment.{key} must be left out of a study, got {base[key]!r}")
        return base

    @property
    def points(self) -> list[Point]:
        """Every combination of the values that are swept."""
        return sweep.points(self.sweep)

    @property
    def wanted_baselines(self) -> tuple[str, ...]:
        """The baselines, whichever way they were asked for."""
        asked = {*self.baselines, *(("centralised",) if self.centralised else ())}
        return tuple(mode for mode in UNUSED if mode in asked)


def parse_study(data: Mapping[str, Any]) -> Study:
    """Validate a mapping. Raises ConfigError with one line per problem."""
    try:
        return Study.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, Study))) from None


def read_study(path: Path) -> Study:
    """Read a study from a TOML file; without a name it is called like the file."""
    return parse_study({"name": path.stem, **read(path)})


def expand(
    study: Study, given: Mapping[str, Any] | None = None, rates: Rates | None = None
) -> Plan:
    """Return the runs of a study.

    Args:
        study: the study.
        given: dotted keys that replace those of the base experiment.
        rates: what tuning has chosen for each strategy.

    Raises:
        ConfigError: with the problems of all runs, each once.
    """
    given = given or {}
    points = study.points
    for key, value in given.items():
        if key.partition(".")[0] in SWEPT:
            raise ConfigError(f"{key} must be left out of a study, got {value!r}")
        if any(key == k or key.startswith(f"{k}.") or k.startswith(f"{key}.") for k in points[0]):
            raise ConfigError(f"{key} must be left out where the study sweeps it, got {value!r}")
    _check_options(study, points)
    plan: Plan = {}
    problems: dict[str, None] = {}
    chosen = rates or [(strategy, {}) for strategy in study.strategies]
    runs = list(_runs(study, points, chosen))
    shorter = _short_names(points[0])
    for about, told in runs:
        try:
            experiment = parse(overlay(study.experiment, {**given, **about}))
        except ConfigError as error:
            problems.update(dict.fromkeys(str(error).splitlines()))
        else:
            parts = [f"{shorter[key]}-{_text(told[key])}" for key in told]
            name = slug("-".join([experiment.label, *parts, f"seed{experiment.seed}"]))
            if name in plan and told:
                problems[f"sweep must give runs different names, got {name!r} twice"] = None
            plan[name] = experiment
    if problems:
        raise ConfigError("\n".join(problems))
    if len(plan) < len(runs):
        raise ConfigError(f"strategies must have different labels, got {list(study.strategies)!r}")
    return plan


def _runs(study: Study, points: list[Point], chosen: Rates) -> Iterator[tuple[Point, Point]]:
    """Yield what each run sets, and what of it its name tells."""
    seen: set[str] = set()
    # Where a baseline does not depend on a key, that key stands at the same value whatever the
    # order of the study's lists: its run is to be recognised.
    usual = min(points, key=lambda point: repr(sorted(point.items())))
    for seed in study.seeds:
        for point in points:
            for strategy, rates in chosen:
                rest = {k: v for k, v in point.items() if not k.startswith(OPTION)}
                own, label = _labelled(_with_options(strategy, point), strategy)
                about = {**rest, **rates, "strategy": own, "seed": seed, **label}
                # A strategy without an option that is swept runs once, not once for each value.
                if len(rest) == len(point) or _first(about, seen):
                    yield about, rest
            for mode in study.wanted_baselines:
                told = {k: v for k, v in point.items() if not _is_unused(k, mode)}
                about = {**usual, **told, "mode": mode, "seed": seed}
                about = {k: v for k, v in about.items() if not k.startswith(OPTION)}
                if _first(about, seen):
                    yield about, told


def _first(about: Point, seen: set[str]) -> bool:
    """Tell whether this is new, and note it."""
    text = repr(sorted(about.items()))
    new = text not in seen
    seen.add(text)
    return new


def _is_unused(key: str, mode: str) -> bool:
    return key not in KEPT and key.partition(".")[0] in UNUSED[mode]


def _with_options(strategy: StrategyTable, point: Point) -> StrategyTable:
    """Return a strategy with those swept options that it has and does not fix itself."""
    table = {"name": strategy} if isinstance(strategy, str) else strategy
    swept = {k.removeprefix(OPTION): v for k, v in point.items() if k.startswith(OPTION)}
    taken = {k: v for k, v in swept.items() if k not in table and _has(table.get("name"), k)}
    return {**table, **taken} if taken else strategy


def without_label(strategy: StrategyTable) -> StrategyTable:
    """Return a strategy without what it is called: the same strategy whatever that is."""
    if isinstance(strategy, str) or LABEL not in strategy:
        return strategy
    return {key: value for key, value in strategy.items() if key != LABEL}


def _labelled(own: StrategyTable, given: StrategyTable) -> tuple[StrategyTable, dict[str, str]]:
    """Return a strategy without its label, and the run's name that it gives.

    Options that are swept are in the name: there is a run for each.
    """
    if isinstance(own, str) or LABEL not in own:
        return own, {}
    swept = [f"{k}={_text(own[k])}" for k in sorted(own) if k not in given]
    name = f"{own[LABEL]}({', '.join(swept)})" if swept else str(own[LABEL])
    return without_label(own), {"name": name}


def _has(name: Any, option: str) -> bool:
    if name not in catalog.names():
        return isinstance(name, str) and ":" in name  # Only one's own function can tell.
    return option in catalog.entry(name).options


def _check_options(study: Study, points: list[Point]) -> None:
    for key in (k for k in points[0] if k.startswith(OPTION)):
        if all(_with_options(s, {key: points[0][key]}) == s for s in study.strategies):
            raise ConfigError(
                f"sweep.{key} must be an option that a strategy of the study has and leaves open, "
                f"got {list(study.strategies)!r}"
            )


def _short_names(keys: Mapping[str, Any]) -> dict[str, str]:
    """Return each dotted key's last part, or more of it where two end alike."""
    names = {}
    for key in keys:
        parts = key.split(".")
        size = next(
            n
            for n in range(1, len(parts) + 1)
            if n == len(parts)
            or not any(k != key and k.split(".")[-n:] == parts[-n:] for k in keys)
        )
        names[key] = "-".join(parts[-size:]).replace("_", "-")
    return names


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, Mapping):
        return "-".join(f"{k}-{_text(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return "-".join(map(_text, value))
    return str(value)


def slug(text: str) -> str:
    """Return ``text`` as the name of a folder."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")
