"""What users meet, as plain data: the commands with their options, and what a run folder holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner
from typer.utils import get_params_from_function

from simulation import cli, simulate
from tests.simulation.same_bits import CASES, StopAfter, run

TYPERS_OWN = {"--install-completion", "--show-completion"}

OPEN_TABLES = ("versions",)
"""Keys of JSON files whose content is not ours."""


def commands() -> dict[str, Any]:
    """Return every command by its words, with its help and its parameters."""
    root = typer.main.get_command(cli.main)
    declared: dict[str, Any] = {"sunflower": cli.main.registered_callback}
    for info in cli.main.registered_commands:
        declared[f"sunflower {info.name or info.callback.__name__}"] = info
    found = {"sunflower": root}
    found |= {f"sunflower {name}": one for name, one in getattr(root, "commands", {}).items()}
    return {words: _command(one, declared[words].callback) for words, one in found.items()}


def _command(command: Any, function: Callable[..., Any]) -> dict[str, Any]:
    declared = get_params_from_function(function)
    ours = [p for p in command.params if not TYPERS_OWN & {*p.opts}]
    parameters = [_parameter(p, declared[p.name]) for p in ours]
    return {"help": command.help, "hidden": command.hidden, "parameters": parameters}


def _parameter(parameter: Any, declared: Any) -> dict[str, Any]:
    """Return what a user sees of a parameter.

    Types and help come from the declaration: versions of Typer and Click keep them in different
    places, and Typer 0.20 with Click 8.5 loses the help of arguments.
    """
    info, default = declared.default, parameter.default
    told = isinstance(default, bool | int | float | str | Path)
    described = {
        "name": parameter.name,
        "is": parameter.param_type_name,
        "flags": [*parameter.opts, *parameter.secondary_opts],
        "metavar": parameter.metavar,
        "help": info.help,
        "panel": info.rich_help_panel,
        # The module of pathlib.Path has another name in Python 3.13.
        "type": str(declared.annotation).replace("pathlib._local.", "pathlib."),
        "bounds": [info.min, info.max],
        "default": str(default) if told else None,
        "required": parameter.required,
        "multiple": getattr(parameter, "multiple", False),
        "values": parameter.nargs,
    }
    return {key: value for key, value in described.items() if value not in (None, [None, None])}


def helped(words: str) -> str:
    """Return what ``--help`` of a command prints, in wide lines without colours."""
    wide = {"COLUMNS": "250", "TERMINAL_WIDTH": "250", "NO_COLOR": "1"}
    done = CliRunner().invoke(cli.main, [*words.split()[1:], "--help"], env=wide, color=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def _finished(name: str) -> Callable[[Path], object]:
    return lambda out: run(name, out)


def _stopped(out: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        simulate(CASES["entry/scaffold"].experiment, out=out, listener=StopAfter(2))


def _study(out: Path) -> None:
    options = ["--dataset=fashion-mnist-mini", "--model=logistic", "--clients=4", "--rounds=1"]
    options += ["--engine=inline", "--strategies=fedavg,scaffold", "--seeds=3", "--centralised"]
    done = CliRunner().invoke(cli.main, ["compare", *options, f"--out={out}"])
    assert done.exit_code == 0, done.output


FOLDERS: dict[str, Callable[[Path], object]] = {
    "a run whose clients keep states": _finished("entry/scaffold"),
    "the same, stopped after round 2": _stopped,
    "a run with everything that is measured": _finished("personal"),
    "a run with noise and poisson cohorts": _finished("entry/dp-fedavg"),
    "clients that train alone": _finished("mode/local"),
    "an app": _finished("app/inline"),
    "a study": _study,
    "a run on Ray": _finished("ray/scaffold"),
}
"""What makes each folder."""

ON_RAY = ("a run on Ray",)
QUICK = ("a run whose clients keep states", "the same, stopped after round 2", "an app")
"""Folders of the normal suite; the soak test has all."""


def contents(name: str, out: Path) -> dict[str, Any]:
    """Make a folder at ``out``; return its files, with the keys or the columns that each has."""
    FOLDERS[name](out)
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): _inside(path) for path in files}


def _inside(path: Path) -> Any:
    if path.suffix == ".json":
        return sorted(_keys(json.loads(path.read_text())))
    if path.suffix == ".jsonl":
        return sorted({key for line in path.read_text().splitlines() for key in json.loads(line)})
    if path.suffix == ".parquet":
        return [f"{field.name}: {field.type}" for field in pq.read_schema(path)]
    return "a file"


def _keys(table: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for key, value in table.items():
        yield before + key
        if isinstance(value, Mapping) and key not in OPEN_TABLES:
            yield from _keys(value, f"{before}{key}.")
