"""What was chosen by tuning, as a file next to the study that ``compare`` then uses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w

from simulation.config.errors import ConfigError
from simulation.config.experiment import read
from simulation.records import files
from simulation.studies.campaign import Plan
from simulation.studies.study import CLIENT_RATE, Rates, StrategyTable, Study, without_label
from simulation.studies.tuning import Choice, Trial, table_of, with_options


def fingerprint(study: Study) -> str:
    """Return what a choice is good for: the sha256 of the study's experiment and sweep."""
    text = json.dumps([study.experiment, study.sweep], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_of(study: Path) -> Path:
    """Return the file next to a study's that holds the choice."""
    return study.with_suffix(".tuned.toml")


def record(study: Study, choices: Sequence[Choice], plan: Plan, path: Path) -> None:
    """Write a choice, with the scores and the hashes of the runs that it is made from.

    What the file says of other strategies stays, where it was chosen for the same experiment.
    """
    chosen = [_entry(choice, plan) for choice in choices]
    mine = [_key(entry["strategy"]) for entry in chosen]
    others = [e for e in _chosen(study, path) if _key(e["strategy"]) not in mine]
    data = {
        "study": fingerprint(study),
        "measured": "mean accuracy (for a regression: minus the loss) on clients' validation data",
        "chosen": [*others, *chosen],
    }
    files.replace(path, tomli_w.dumps(data).encode())


def _key(strategy: StrategyTable) -> str:
    """Return what tells strategies apart, whatever they are called."""
    return repr(sorted(table_of(without_label(strategy)).items()))


def _entry(choice: Choice, plan: Plan) -> dict[str, Any]:
    """Return what the file says of one choice."""
    grid = [
        _line(trial) | ({"score": value} if value is not None else {"failed": True})
        | {"runs": [plan[name].digest() for name in trial.runs]}
        for trial, value in choice.scores.items()
    ]  # fmt: skip
    runs = [plan[name] for trial in choice.scores for name in trial.runs]
    return {
        "strategy": choice.strategy,
        **_line(choice.best),
        "score": choice.scores[choice.best],
        "edges": list(choice.at_edge),
        "seeds": sorted({run.seed for run in runs}),
        "rounds": max(run.rounds for run in runs),
        "grid": grid,
    }


def _chosen(study: Study, path: Path) -> list[dict[str, Any]]:
    """Return the choices of a file; none where there is no such file, or it is of another study."""
    data = read(path) if path.exists() else {}
    return list(data.get("chosen", [])) if data.get("study") == fingerprint(study) else []


def _line(trial: Trial) -> dict[str, Any]:
    line: dict[str, Any] = {"learning_rate": trial.client}
    if trial.server is not None:
        line["server_learning_rate"] = trial.server
    return line | ({"options": dict(trial.options)} if trial.options else {})


def rates(study: Study, path: Path) -> tuple[Rates, list[StrategyTable]]:
    """Read a choice; return what each strategy of a study is to be run with, and who has none.

    A strategy that was not tuned is run as the study says.

    Raises:
        ConfigError: when the file does not belong to the study as it is now.
    """
    if read(path).get("study") != fingerprint(study):
        raise ConfigError(
            f"{path} must be made for this experiment and sweep, which have changed; "
            "run 'sunflower tune' again, or compare with --untuned"
        )
    found: Rates = []
    untuned: list[StrategyTable] = []
    known = {_key(entry["strategy"]): entry for entry in _chosen(study, path)}
    for strategy in study.strategies:
        entry = known.get(_key(strategy))
        if entry is None:
            untuned.append(strategy)
            found.append((strategy, {}))
            continue
        server, options = entry.get("server_learning_rate"), entry.get("options", {})
        table = with_options(strategy, tuple(options.items()), server)
        found.append((table, {CLIENT_RATE: entry["learning_rate"]}))
    return found, untuned
