"""The commands, their options and the files of a run folder are those that were recorded.

``python -m tests.simulation.runs.test_surface --write`` records them anew.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from simulation.cli import endings
from tests.simulation.conftest import local_ray
from tests.simulation.runs.surface import FOLDERS, ON_RAY, QUICK, commands, contents, helped
from tests.simulation.same_bits import GOLDEN

COMMANDS, FILES = GOLDEN / "commands.json", GOLDEN / "folders.json"
NAMES = [pytest.param(n, marks=() if n in QUICK else pytest.mark.soak) for n in FOLDERS]


def read(file: Path) -> Any:
    return json.loads(file.read_text())


@pytest.mark.parametrize("words", commands())
def test_a_command_is_the_recorded_one(words: str) -> None:
    assert commands()[words] == read(COMMANDS)[words]


def test_all_commands_are_recorded() -> None:
    assert commands().keys() == read(COMMANDS).keys()


@pytest.mark.parametrize("words", commands())
def test_the_help_says_all_of_it(words: str) -> None:
    shown = " ".join(helped(words).replace("│", " ").split())
    described = read(COMMANDS)[words]
    assert described["help"].partition("\n")[0] in shown
    for parameter in described["parameters"]:
        told = [*parameter["flags"], parameter.get("help", "")]
        # An argument shows as its metavar; whether its help shows is up to Typer and Click.
        told = [] if parameter["is"] == "argument" else told
        assert all(text in shown for text in [*told, parameter.get("metavar", "")])
    assert "--help" in shown and "-h" in shown


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_holds_the_recorded_files(
    name: str, tmp_path: Path, quiet_again: None, request: pytest.FixtureRequest
) -> None:
    if name in ON_RAY:
        request.getfixturevalue("ray_cluster")
    if "noise" in name:
        pytest.importorskip("dp_accounting", reason="the extra dp is not installed")
    assert contents(name, tmp_path / "made") == read(FILES)[name]


def test_all_folders_are_recorded() -> None:
    assert read(FILES).keys() == FOLDERS.keys()


def write() -> None:
    """Record commands and folders."""
    COMMANDS.write_text(json.dumps(commands(), indent=1) + "\n")
    endings.quiet()
    with local_ray(), tempfile.TemporaryDirectory() as folder:
        found = {name: contents(name, Path(folder) / name) for name in FOLDERS}
    FILES.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.simulation.runs.test_surface --write")
    write()
