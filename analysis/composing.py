"""What the page of a report says, but for its figures and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis import tuned
from analysis.cautions import cautions
from analysis.clock_tables import clock_findings
from analysis.interactive import interactive
from analysis.methods import Citations, methods
from analysis.page import Contents
from analysis.runs import Runs
from analysis.verdicts import findings

COMMANDS = "commands.txt"
"""The file in a study's folder with the commands that made its runs."""

DEFAULTS = {"style": "default", "band": "ci", "test": "t", "bold": "ties", "format": "png,pdf"}
"""Options that a command need not repeat."""


def composed(
    runs: Runs,
    paths: Sequence[str | Path],
    given: Mapping[str, Any],
    test: str,
    target: float | None,
    baseline: str | None,
    band: str,
    citations: Citations | None,
) -> Contents:
    """Return what the page says, without its figures and tables.

    Args:
        runs: what it is about.
        paths: where they are.
        given: the options of the report by name; None where one was not given.
        test: as of :func:`analysis.report.report`, like all that follow.
        target: of rounds to target.
        baseline: of speed-ups.
        band: over seeds.
        citations: of strategies.
    """
    choices, measured = tuned.choices_of(paths)
    sentences = tuned.sentences(choices, measured, runs)
    paragraph, references = methods(runs, citations, test, sentences)
    return Contents(
        title=title_of(runs),
        runs=runs,
        pictures=(),
        tables=(),
        findings=[*findings(runs, test), *clock_findings(runs, target, baseline, test)],
        methods=paragraph,
        references=references,
        paths=[str(p) for p in paths],
        commands=[line for path in paths for line in commands_of(Path(path))],
        options={k: str(v) for k, v in given.items() if v is not None and v != DEFAULTS.get(k)},
        cautions=[*cautions(runs), *tuned.warnings(choices)],
        curves=interactive(runs, band),
    )


def commands_of(folder: Path) -> list[str]:
    """Return the commands that made the runs of a study's folder, as it says itself."""
    path = folder / COMMANDS
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def title_of(runs: Runs) -> str:
    """Return the study's name where all runs have the same, else what they are about."""
    names = {str(c["experiment"].get("name") or "") for c in runs.configs.values()}
    if len(names) == 1 and (name := names.pop()):
        return name
    datasets = sorted(str(runs.names.dataset(x)) for x in set(runs.table["dataset"]) - {""})
    return "Federated learning" + (f" on {' and '.join(datasets)}" if datasets else "")
