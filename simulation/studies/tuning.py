"""Tuning before a comparison: learning rates and options, by a grid on validation data.

Strategies compared with one learning rate for all are compared in how well it suits them, and so
they are with options that nobody chose. Here each is trained with all combinations of a small grid
of its own (client and server learning rates, and the options that the catalogue says are to be
tuned), and measured on the validation examples of its clients; the server's test set is not even
looked at. What a strategy would be run with untuned is always among what is tried. What is chosen
goes into a file next to the study, which ``compare`` then uses; strategies may be tuned one after
another.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isclose
from pathlib import Path
from statistics import fmean
from typing import Any

from simulation.config.errors import ConfigError
from simulation.config.fields import is_number
from simulation.records import reading
from simulation.records.reading import read_rounds
from simulation.studies.campaign import Plan
from simulation.studies.study import (
    CLIENT_RATE,
    OPTION,
    LearningRates,
    StrategyTable,
    Study,
    expand,
    without_label,
)
from strategies import catalog

SERVER_RATE = "learning_rate"
"""The strategies' option that is their server's learning rate."""

FACTORS = (10**-0.5, 1.0, 10**0.5)
"""The grid where none is given: half a decade to each side of the learning rate as it is."""

SCORED_PART = 5
"""A run's score is the mean of the last 1/SCORED_PART of its measured rounds."""


@dataclass(frozen=True)
class Trial:
    """One point of the grid.

    Args:
        strategy: the strategy's place in the study.
        client: the clients' learning rate.
        server: the server's; None where it is left as it is.
        runs: the names of its runs: one for each setting and seed.
        options: further options of the strategy, with their values.
    """

    strategy: int
    client: float
    server: float | None
    runs: tuple[str, ...]
    options: tuple[tuple[str, float], ...] = ()


def trials(
    study: Study,
    given: Mapping[str, Any] | None = None,
    others: Sequence[StrategyTable] = (),
) -> tuple[list[Trial], Plan]:
    """Return the grid of every strategy, and all its runs.

    Args:
        study: the study; its table ``tune`` may give the grid.
        given: dotted keys that replace those of the base experiment.
        others: strategies that are not tuned now, of which ``tune`` may speak too.

    Raises:
        ConfigError: what cannot be tuned, naming the key.
    """
    given = dict(given or {})
    for key in (CLIENT_RATE, f"{OPTION}{SERVER_RATE}"):
        if any(key in axis for axis in study.points[0]):
            raise ConfigError(f"sweep.{key} must be left out where it is tuned")
    found: list[Trial] = []
    plan: Plan = {}
    _check_grids(study, [*study.strategies, *others])
    for number, strategy in enumerate(study.strategies):
        client_rates = _client_grid(study, table_of(strategy), given)
        for options, server in _strategy_grid(study, strategy):
            for client in client_rates:
                trial = Trial(number, client, server, (), options)
                trial, part = planned(study, trial, given)
                plan |= part
                found.append(trial)
    for experiment in plan.values():
        if not experiment.partition.validation:
            raise ConfigError(
                "partition.validation must be > 0 for tuning, which measures on the clients' "
                "validation examples, got 0.0"
            )
        if not experiment.evaluation.clients:
            raise ConfigError("evaluation.clients must be true for tuning, got False")
    return found, plan


def planned(study: Study, trial: Trial, given: Mapping[str, Any]) -> tuple[Trial, Plan]:
    """Return a trial with its runs' names, and its runs.

    Raises:
        ConfigError: a value that the strategy does not take, naming the key.
    """
    wanted, strategy = study.tune, study.strategies[trial.strategy]
    one = study.model_copy(
        update={
            # each trial by its options: a label would be that of all of them
            "strategies": (with_options(without_label(strategy), trial.options, trial.server),),
            "seeds": wanted.seeds or study.seeds[:1],
            "baselines": (),
            "centralised": False,
        }
    )
    rounds = {} if wanted.rounds is None else {"rounds": wanted.rounds}
    fixed = {"evaluation.server": False, CLIENT_RATE: trial.client}
    part = expand(one, {**rounds, **given, **fixed})
    named = {f"{name}-rate-{trial.client:g}": run for name, run in part.items()}
    return replace(trial, runs=tuple(named)), named


def _client_grid(
    study: Study, table: Mapping[str, Any], given: Mapping[str, Any]
) -> Sequence[float]:
    """Return the clients' learning rates to try, that of the study among them."""
    rate = given.get(CLIENT_RATE, study.experiment.get("training", {}).get("learning_rate"))
    wanted = _of(study.tune.learning_rates, table)
    if wanted is not None:
        return _with_own(wanted, rate)
    if rate is None:
        raise ConfigError(
            "tune.learning_rates must be given where training.learning_rate is not, got none"
        )
    return [_short(rate * factor) for factor in FACTORS]


def _of(rates: LearningRates, table: Mapping[str, Any]) -> Sequence[float] | None:
    """Return the rates that are given for a strategy: those of its name, or those of all."""
    return rates.get(str(table.get("name"))) if isinstance(rates, Mapping) else rates


def _with_own(grid: Sequence[float], own: Any) -> Sequence[float]:
    """Return a grid that holds the strategy's own value: what is chosen is then no worse."""
    if not is_number(own) or any(isclose(own, value, rel_tol=1e-9) for value in grid):
        return grid
    return sorted([*grid, own])


Options = tuple[tuple[str, float], ...]
"""Options of a strategy and their values."""


def _strategy_grid(study: Study, strategy: StrategyTable) -> Iterator[tuple[Options, float | None]]:
    """Yield the options and server's learning rates to try, all combinations."""
    table = table_of(strategy)
    grids = option_grids(study, table)
    for values in itertools.product(*grids.values()):
        options = tuple(zip(grids, values, strict=True))
        for server in _server_grid({**table, **dict(options)}, study.tune.server_learning_rates):
            yield options, server


def option_grids(study: Study, table: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    """Return the options of a strategy that are tuned, each with its values.

    They are those that the study's table ``tune.options`` gives, else those of the catalogue, and
    always the option's own value. An option that the study itself sets or sweeps is left alone.
    """
    name = str(table.get("name"))
    known = catalog.entry(name) if name in catalog.names() else None
    grids: Mapping[str, Sequence[float]] = study.tune.options.get(
        name, known.grids if known else {}
    )
    swept = {key.removeprefix(OPTION) for key in study.points[0] if key.startswith(OPTION)}
    defaults = known.options if known else {}
    return {
        key: _with_own(grid, defaults.get(key))
        for key, grid in grids.items()
        if key not in table and key not in swept
    }


def _check_grids(study: Study, strategies: Sequence[StrategyTable]) -> None:
    """Raise ConfigError for a grid that none of the study's strategies has a use for."""
    tables = [table_of(strategy) for strategy in strategies]
    names = list(dict.fromkeys(str(table.get("name")) for table in tables))
    wanted = study.tune
    grids = {
        "options": wanted.options,
        "learning_rates": wanted.learning_rates,
        "server_learning_rates": wanted.server_learning_rates,
    }
    for key, given in grids.items():
        for name in given if isinstance(given, Mapping) else ():
            if name not in names:
                raise ConfigError(
                    f"tune.{key}.{name} must be a strategy of the study, got {names!r}"
                )
    if isinstance(wanted.server_learning_rates, Mapping):
        for name in wanted.server_learning_rates:
            if name in catalog.names() and SERVER_RATE not in catalog.entry(name).options:
                raise ConfigError(
                    f"tune.server_learning_rates.{name} must be left out, as the server of {name} "
                    "has no learning rate"
                )
    for name, options in wanted.options.items():
        mine = [table for table in tables if table.get("name") == name]
        for key in options:
            if not any(key in option_grids(study, table) for table in mine):
                raise ConfigError(
                    f"tune.options.{name}.{key} must be left out where the study sets or sweeps it"
                )


def _server_grid(table: Mapping[str, Any], rates: LearningRates) -> Sequence[float | None]:
    """Return the server's learning rates to try: those of servers that have a step size to tune.

    A server that moves the model by the mean update (learning rate 1) is left at that, unless a
    grid is given for this strategy by name: others' rates would only slow it down. One with a
    gain, such as momentum's 1 / (1 - beta), moves it by more: then rates are tried from that whose
    step is 1 up to 1.
    """
    name = str(table.get("name"))
    known = catalog.entry(name) if name in catalog.names() else None
    options = {**(known.options if known else {}), **table}
    rate, wanted = options.get(SERVER_RATE), _of(rates, table)
    by_name = wanted is not None and isinstance(rates, Mapping)
    if not isinstance(rate, int | float):
        return wanted if wanted is not None and by_name else [None]
    gain = known.gain(options) if known and known.gain else 1.0
    if wanted is not None and (by_name or rate != 1.0 or gain != 1.0):
        return _with_own(wanted, float(rate))
    if rate != 1.0:
        return [_short(rate * factor) for factor in FACTORS]
    return [None] if gain == 1.0 else [_short(rate * gain**-part) for part in (1.0, 0.5, 0.0)]


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def table_of(strategy: StrategyTable) -> dict[str, Any]:
    """Return a strategy as a table, where it is only named too."""
    return {"name": strategy} if isinstance(strategy, str) else strategy


def with_options(strategy: StrategyTable, options: Options, rate: float | None) -> StrategyTable:
    """Return a strategy with other options and another server learning rate."""
    rates = {} if rate is None else {SERVER_RATE: rate}
    return {**table_of(strategy), **dict(options), **rates} if options or rates else strategy


def score(folder: Path) -> float | None:
    """Return a finished run's score: the accuracy on its clients' validation examples.

    The mean over the last fifth of its measured rounds, as each round measures its own cohort;
    for a regression the loss, negative. None for a run that is not complete.
    """
    if (reading.read_json(folder / "summary.json") or {}).get("status") != "complete":
        return None
    records = read_rounds(folder)
    for key, sign in (("client_accuracy", 1), ("client_loss", -1)):
        values = [record[key] for record in records if record.get(key) is not None]
        if values:
            return sign * fmean(values[-max(1, len(values) // SCORED_PART) :])
    return None


@dataclass(frozen=True)
class Choice:
    """What was chosen for a strategy.

    Args:
        strategy: as the study names it.
        best: the trial.
        scores: of all its trials; None where a run failed.
    """

    strategy: StrategyTable
    best: Trial
    scores: dict[Trial, float | None]

    @property
    def at_edge(self) -> dict[str, str]:
        """Names of what lies at the end of its grid, each with the grid's key in ``tune``."""
        best, tried = self.best, list(self.scores)
        # With other options a server may have other rates.
        alike = [trial.server for trial in tried if trial.options == best.options]
        axes: list[tuple[str, str, float | None, Sequence[float | None]]] = [
            ("learning_rate", "learning_rates", best.client, [trial.client for trial in tried]),
            ("server_learning_rate", "server_learning_rates", best.server, alike),
        ]
        strategy = table_of(self.strategy).get("name")
        for key, value in best.options:
            values = [dict(trial.options)[key] for trial in tried]
            axes.append((key, f"options.{strategy}.{key}", value, values))
        edges = {}
        for name, grid, mine, values_tried in axes:
            known = sorted({value for value in values_tried if value is not None})
            if len(known) > 1 and mine in (known[0], known[-1]):
                edges[name] = grid
        return edges


def choose(study: Study, found: Sequence[Trial], out: Path) -> list[Choice]:
    """Return the best trial of every strategy: the mean score over settings and seeds decides.

    Raises:
        RuntimeError: when no trial of a strategy could be finished.
    """
    choices = []
    for number, strategy in enumerate(study.strategies):
        scores: dict[Trial, float | None] = {}
        for trial in (t for t in found if t.strategy == number):
            parts = [score(out / name) for name in trial.runs]
            known = [part for part in parts if part is not None]
            scores[trial] = fmean(known) if len(known) == len(parts) else None
        finished = {trial: value for trial, value in scores.items() if value is not None}
        if not finished:
            raise RuntimeError(f"no learning rate of the grid lets {strategy!r} finish")
        choices.append(Choice(strategy, max(finished, key=finished.__getitem__), scores))
    return choices


def lines(choices: Sequence[Choice]) -> Iterator[str]:
    """Yield a warning for every choice at the edge of its grid."""
    for choice in choices:
        for name, grid in choice.at_edge.items():
            yield (
                f"{name} of {choice.strategy!r} is the last of its grid; "
                f"a wider one may hold a better: tune.{grid}, or tune.widen"
            )
