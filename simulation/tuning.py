"""Tuning before a comparison: each strategy's learning rates, by a grid on validation data.

Strategies compared with one learning rate for all are compared in how well it suits them. Here
each is trained with every pair of client and server learning rates of a small grid, and measured
on the validation examples of its clients; the server's test set is not even looked at. What is
chosen goes into a file next to the study, which ``compare`` then uses.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import tomli_w

from simulation import results
from simulation.campaign import Plan
from simulation.experiment import ConfigError, read
from simulation.results import read_rounds
from simulation.study import CLIENT_RATE, OPTION, Rates, StrategyTable, Study, expand
from strategies import catalog

SERVER_RATE = "learning_rate"
"""The strategies' option that is their server's learning rate."""

FACTORS = (10**-0.5, 1.0, 10**0.5)
"""The grid where none is given: half a decade to each side of the learning rate as it is."""

LATE = 5
"""A run's score is the mean of the last 1/LATE of its measured rounds."""


@dataclass(frozen=True)
class Trial:
    """One point of the grid.

    Args:
        strategy: the strategy's place in the study.
        client: the clients' learning rate.
        server: the server's; None where it is left as it is.
        runs: the names of its runs: one for each setting and seed.
    """

    strategy: int
    client: float
    server: float | None
    runs: tuple[str, ...]


def trials(study: Study, given: Mapping[str, Any] | None = None) -> tuple[list[Trial], Plan]:
    """Return the grid of every strategy, and all its runs.

    Args:
        study: the study; its table ``tune`` may give the grid.
        given: dotted keys that replace those of the base experiment.

    Raises:
        ConfigError: what cannot be tuned, naming the key.
    """
    given, wanted = dict(given or {}), study.tune
    for key in (CLIENT_RATE, f"{OPTION}{SERVER_RATE}"):
        if any(key in axis for axis in study.points[0]):
            raise ConfigError(f"sweep.{key} must be left out where it is tuned")
    if wanted.rounds is not None:
        given.setdefault("rounds", wanted.rounds)
    given["evaluation.server"] = False
    seeds = wanted.seeds or study.seeds[:1]
    found: list[Trial] = []
    plan: Plan = {}
    for number, strategy in enumerate(study.strategies):
        for server in _server_grid(strategy, wanted.server_learning_rates):
            one = study.model_copy(
                update={
                    "strategies": (_with_server(strategy, server),),
                    "seeds": seeds,
                    "baselines": (),
                    "centralised": False,
                }
            )
            for client in _client_grid(study, given):
                part = expand(one, {**given, CLIENT_RATE: client})
                named = {f"{name}-rate-{client:g}": run for name, run in part.items()}
                plan |= named
                found.append(Trial(number, client, server, tuple(named)))
    for experiment in plan.values():
        if not experiment.partition.validation:
            raise ConfigError(
                "partition.validation must be > 0 for tuning, which measures on the clients' "
                "validation examples, got 0.0"
            )
        if not experiment.evaluation.clients:
            raise ConfigError("evaluation.clients must be true for tuning, got False")
    return found, plan


def _client_grid(study: Study, given: Mapping[str, Any]) -> Sequence[float]:
    if study.tune.learning_rates is not None:
        return study.tune.learning_rates
    rate = given.get(CLIENT_RATE, study.experiment.get("training", {}).get("learning_rate"))
    if rate is None:
        raise ConfigError(
            "tune.learning_rates must be given where training.learning_rate is not, got none"
        )
    return [_short(rate * factor) for factor in FACTORS]


def _server_grid(strategy: StrategyTable, given: Sequence[float] | None) -> Sequence[float | None]:
    """Return the server's learning rates to try: those of servers that have a step size to tune.

    A server that moves the model by the mean update (learning rate 1) is left at that, unless a
    grid is given.
    """
    table = {"name": strategy} if isinstance(strategy, str) else strategy
    name = str(table.get("name"))
    options = catalog.entry(name).options if name in catalog.names() else {}
    rate = table.get(SERVER_RATE, options.get(SERVER_RATE))
    if not isinstance(rate, int | float):
        return [None]
    if given is not None:
        return given
    return [None] if rate == 1.0 else [_short(rate * factor) for factor in FACTORS]


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def _with_server(strategy: StrategyTable, rate: float | None) -> StrategyTable:
    if rate is None:
        return strategy
    table = {"name": strategy} if isinstance(strategy, str) else strategy
    return {**table, SERVER_RATE: rate}


def score(folder: Path) -> float | None:
    """Return a finished run's score: the accuracy on its clients' validation examples.

    The mean over the last fifth of its measured rounds, as each round measures its own cohort;
    for a regression the loss, negative. None for a run that is not complete.
    """
    if (results.read_json(folder / "summary.json") or {}).get("status") != "complete":
        return None
    records = read_rounds(folder)
    for key, sign in (("client_accuracy", 1), ("client_loss", -1)):
        values = [record[key] for record in records if record.get(key) is not None]
        if values:
            return sign * fmean(values[-max(1, len(values) // LATE) :])
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
    def at_edge(self) -> list[str]:
        """The learning rates whose grid ends at the choice: the best may lie beyond."""
        edges = []
        for name, mine, all_rates in (
            ("learning_rate", self.best.client, {t.client for t in self.scores}),
            ("server_learning_rate", self.best.server, {t.server for t in self.scores}),
        ):
            known = sorted(rate for rate in all_rates if rate is not None)
            if len(known) > 1 and mine in (known[0], known[-1]):
                edges.append(name)
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


def fingerprint(study: Study) -> str:
    """Return what a choice is good for: the sha256 of the study's experiment and sweep."""
    text = json.dumps([study.experiment, study.sweep], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_of(study: Path) -> Path:
    """Return the file next to a study's that holds the choice."""
    return study.with_suffix(".tuned.toml")


def record(study: Study, choices: Sequence[Choice], plan: Plan, path: Path) -> None:
    """Write a choice, with the scores and the hashes of the runs that it is made from."""
    chosen = []
    for choice in choices:
        grid = [
            _line(trial) | ({"score": value} if value is not None else {"failed": True})
            | {"runs": [plan[name].digest() for name in trial.runs]}
            for trial, value in choice.scores.items()
        ]  # fmt: skip
        best = choice.scores[choice.best]
        chosen.append(
            {"strategy": choice.strategy, **_line(choice.best), "score": best, "grid": grid}
        )
    data = {
        "study": fingerprint(study),
        "measured": "mean accuracy (for a regression: minus the loss) on clients' validation data",
        "chosen": chosen,
    }
    results.replace(path, tomli_w.dumps(data).encode())


def _line(trial: Trial) -> dict[str, Any]:
    rates: dict[str, Any] = {"learning_rate": trial.client}
    return rates if trial.server is None else rates | {"server_learning_rate": trial.server}


def rates(study: Study, path: Path) -> Rates:
    """Read a choice; return what each strategy of a study is to be run with.

    Raises:
        ConfigError: when the file does not belong to the study as it is now.
    """
    again = "run 'sunflower tune' again, or compare with --untuned"
    data = read(path)
    if data.get("study") != fingerprint(study):
        raise ConfigError(
            f"{path} must be made for this experiment and sweep, which have changed; {again}"
        )
    found: Rates = []
    known = {repr(entry["strategy"]): entry for entry in data.get("chosen", [])}
    for strategy in study.strategies:
        entry = known.get(repr(strategy))
        if entry is None:
            raise ConfigError(
                f"{path} must name the strategies of the study, got no {strategy!r}; {again}"
            )
        server = entry.get("server_learning_rate")
        found.append((_with_server(strategy, server), {CLIENT_RATE: entry["learning_rate"]}))
    return found


def lines(choices: Sequence[Choice]) -> Iterator[str]:
    """Yield a warning for every choice at the edge of its grid."""
    for choice in choices:
        for name in choice.at_edge:
            yield (
                f"{name} of {choice.strategy!r} is the last of its grid; "
                f"a wider one may hold a better: tune.{name}s"
            )
