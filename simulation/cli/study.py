"""What ``sunflower compare`` and ``sunflower tune`` do and show."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from simulation.cli.endings import bad_input, endings, first_line, quiet, say
from simulation.config.errors import ConfigError
from simulation.config.overlay import toml_value
from simulation.records import files, reading
from simulation.studies import campaign, tuned, tuning, widening
from simulation.studies.campaign import Outcome, Plan
from simulation.studies.forecast import forecast
from simulation.studies.screen import StudyScreen
from simulation.studies.study import (
    CLIENT_RATE,
    LABEL,
    StrategyTable,
    Study,
    expand,
    parse_study,
    read_study,
)
from simulation.studies.tuning import Choice, Trial

TUNED = "tuned.toml"
"""The choice that a study was run with, in its folder."""

STUDY, COMMANDS = "study.toml", "commands.txt"
"""The study as it was given, in its folder, and the commands that made its runs."""


@dataclass(frozen=True)
class Asked:
    """What the command line asks for.

    Args:
        given: dotted keys of the experiment.
        file: the study's file, if any.
        strategies: names, with commas.
        seeds: numbers, with commas.
        centralised: whether to train the centralised baseline; None: as the file says.
        out: the study's folder.
        at_once: runs that share the pool.
        dry_run: whether to print the plan only.
    """

    given: Mapping[str, Any]
    file: Path | None = None
    strategies: str | None = None
    seeds: str | None = None
    centralised: bool | None = None
    out: Path | None = None
    at_once: int | None = None
    dry_run: bool = False

    @property
    def whole(self) -> Study:
        """The study as its file has it."""
        return Study() if self.file is None else read_study(self.file)

    def study(self, part: bool = False) -> Study:
        """Return the study: the file's, with what is asked for put over it.

        Args:
            part: whether strategies by name are those of the file, with the options that it gives
                them; otherwise a name has its defaults.
        """
        study = self.whole
        changes: dict[str, Any] = {}
        if self.strategies is not None:
            names = [name.strip() for name in self.strategies.split(",")]
            mine = [s for name in names for s in _named(name, study)]
            changes["strategies"] = mine if part else names
        if self.seeds is not None:
            changes["seeds"] = [toml_value(seed.strip()) for seed in self.seeds.split(",")]
        if self.centralised is not None:
            changes["centralised"] = self.centralised
        return parse_study({**study.model_dump(), **changes})

    def folder(self, study: Study) -> Path:
        """Return the study's folder."""
        return self.out if self.out is not None else Path("runs") / (study.name or "study")


def _named(name: str, study: Study) -> list[StrategyTable]:
    """Return the strategies of a study that have a name; the name itself where none has."""
    mine = [s for s in study.strategies if (s if isinstance(s, str) else s.get("name")) == name]
    return mine or [name]


def compare_command(asked: Asked, untuned: bool) -> Mapping[Path, Mapping[str, Any]] | None:
    """Run a study; return the summaries of its runs, or None when one of them failed."""
    with bad_input():
        quiet()
        study = asked.study()
        folder = asked.folder(study)
        choice = None if asked.file is None or untuned else tuned.file_of(asked.file)
        rates = None
        if choice is not None and choice.exists():
            if CLIENT_RATE in asked.given:
                raise ConfigError(
                    f"{CLIENT_RATE} must be left out where {choice} chooses it (or --untuned "
                    f"given), got {asked.given[CLIENT_RATE]!r}"
                )
            rates, untuned_ones = tuned.rates(study, choice)
            console = Console(highlight=False)
            console.print(f"learning rates from {choice}", soft_wrap=True, markup=False)
            for strategy in untuned_ones:
                line = f"{strategy!r} is not tuned: it runs as the study says"
                console.print(line, style="yellow", soft_wrap=True, markup=False)
        plan = expand(study, asked.given, rates)
        outcome = _run(asked, study, plan, folder)
        if outcome is None:
            return {}
        if rates is not None and choice is not None and outcome.complete:
            folder.mkdir(parents=True, exist_ok=True)
            files.replace(folder / TUNED, choice.read_bytes())
        if outcome.complete:
            _record(asked, folder)
    if _tell_failures(outcome, folder):
        return None
    paths = [folder / name for name in outcome.complete]
    return {path: reading.read_json(path / "summary.json") or {} for path in paths}


def _record(asked: Asked, folder: Path) -> None:
    """Keep in a study's folder what made its runs, for whoever makes them again."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / COMMANDS
    told = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    told = list(dict.fromkeys([*told, shlex.join(["sunflower", *sys.argv[1:]])]))
    files.replace(path, ("\n".join(told) + "\n").encode())
    if asked.file is not None:
        files.replace(folder / STUDY, asked.file.read_bytes())


def tune_command(asked: Asked) -> bool:
    """Choose rates and options, write them next to the study; return whether that went well."""
    with bad_input():
        quiet()
        if asked.file is None:
            raise ConfigError("a study's file must be given to tune, got none")
        study, path = asked.study(part=True), tuned.file_of(asked.file)
        folder = asked.out or Path("runs") / f"{study.name}-tuning"
        asked = replace(asked, out=folder)
        found, plan = tuning.trials(study, asked.given, asked.whole.strategies)
        try:
            choices = _tuned(asked, study, found, plan, plan)
            for _ in range(study.tune.widen):
                more, due = widening.further(study, choices, asked.given)
                if not more:
                    break
                found, plan = [*found, *more], plan | due
                choices = _tuned(asked, study, found, plan, due)
        except RuntimeError as error:
            say(str(error))
            return False
        if asked.dry_run:
            if study.tune.widen:
                Console().print(
                    f"and up to {study.tune.widen} values more where the best ends its grid"
                )
            return True
        tuned.record(study, choices, campaign.adopt(plan, folder), path)
    console = Console(highlight=False)
    console.print(_table(choices))
    for line in tuning.lines(choices):
        console.print(line, style="yellow", soft_wrap=True, markup=False)
    console.print(f"{path}  is what 'sunflower compare' uses now", soft_wrap=True, markup=False)
    return True


def _tuned(asked: Asked, study: Study, found: list[Trial], plan: Plan, due: Plan) -> list[Choice]:
    """Carry out the runs that are due; return the best of all trials, none for a dry run.

    Raises:
        RuntimeError: when no trial of a strategy could be finished.
    """
    folder = asked.folder(study)
    outcome = _run(asked, study, due, folder, results_too=False)
    if outcome is None:
        return []
    _tell_failures(outcome, folder)  # A learning rate too high for a run is no failure here.
    homes = dict(zip(plan, campaign.adopt(plan, folder), strict=True))
    at_home = [replace(t, runs=tuple(homes[name] for name in t.runs)) for t in found]
    return tuning.choose(study, at_home, folder)


def _run(
    asked: Asked, study: Study, plan: Plan, folder: Path, results_too: bool = True
) -> Outcome | None:
    """Show a plan and carry it out; None when only the plan was asked for."""
    prospect = campaign.survey(plan, folder)
    screen = StudyScreen(prospect.plan, folder)
    screen.announce(prospect, forecast(prospect, folder), every=asked.dry_run)
    if asked.dry_run:
        return None
    again = shlex.join(["sunflower", *sys.argv[1:]])
    with endings(folder, again, lambda: screen.begun), screen:
        at_once = asked.at_once or study.at_once
        outcome = campaign.carry_on(prospect, folder, screen.watch, at_once)
    if results_too:
        screen.finish(outcome)
    return outcome


def _tell_failures(outcome: Outcome, folder: Path) -> bool:
    for name, error in outcome.failed.items():
        say(f"{name} failed: {first_line(error)}; see {folder / name / 'run.log'}")
    return bool(outcome.failed)


def _title(choice: Choice) -> str:
    named = choice.strategy
    name = named if isinstance(named, str) else str(named.get(LABEL) or named["name"])
    options = ", ".join(f"{key} = {value:g}" for key, value in choice.best.options)
    return f"{name} ({options})" if options else name


def _table(choices: list[Choice]) -> Table:
    table = Table(
        "Strategy", "Learning rate", "Server's", "Score", "Of", title="Best on validation data"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for choice in choices:
        best, scores = choice.best, choice.scores
        table.add_row(
            _title(choice),
            f"{best.client:g}",
            "" if best.server is None else f"{best.server:g}",
            f"{scores[best]:.4f}",
            str(len(scores)),
        )
    return table
