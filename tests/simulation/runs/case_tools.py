"""Cases of ``tests/cases``: copied into a folder, run there, and compared with Keras."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import pytest
from typer.testing import CliRunner

from simulation.cli import commands
from simulation.datasets import dataset, registry

CASES = Path(__file__).parents[2] / "cases"
FEW = ["--clients", "3", "--rounds", "1"]


@dataclass(frozen=True)
class Ran:
    """A command that was run: how it ended, what it said, and its folder."""

    status: int
    said: str
    path: Path

    @property
    def final(self) -> dict[str, Any]:
        return dict(json.loads((self.path / "summary.json").read_text())["final"])

    @property
    def model(self) -> keras.Model:
        return keras.models.load_model(self.path / "model.keras")


class Case:
    """A case's folder, copied to where it is run."""

    def __init__(self, name: str, folder: Path) -> None:
        for source in CASES.glob(f"{name}-*") if name else ():
            shutil.copytree(source, folder, dirs_exist_ok=True)
        self.folder, self.runs = folder, 0

    def make(self) -> None:
        runpy.run_path("make.py")

    def run(self, *options: str, engine: str = "inline") -> Ran:
        self.runs += 1
        out = self.folder / f"run-{self.runs}"
        command = ["run", "--engine", engine, "--out", str(out), *options]
        found = CliRunner().invoke(commands.main, command)
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            raise found.exception
        return Ran(found.exit_code, found.output, out)

    def refused(self, *options: str) -> str:
        """Run what must be refused: status 2 and one line, which is returned."""
        ran = self.run(*options)
        last = ran.said.strip().splitlines()[-1]
        assert ran.status == 2 and last.startswith("sunflower: "), ran.said
        assert "Traceback" not in ran.said
        return last.removeprefix("sunflower: ")

    def works(self, *options: str) -> Ran:
        ran = self.run(*options)
        assert ran.status == 0, ran.said
        assert "nan%" not in ran.said
        return ran

    def agrees(self, dataset: str, *options: str) -> Ran:
        """Run what works; the saved model, evaluated by Keras, gives what was reported."""
        ran = self.works("--dataset", dataset, *options)
        agree(ran, registry.load(dataset))
        return ran


def agree(ran: Ran, data: dataset.Dataset) -> None:
    found = ran.model.evaluate(
        data.x_test, data.y_test, batch_size=500, verbose=0, return_dict=True
    )
    assert ran.final["server_loss"] == pytest.approx(found["loss"], rel=1e-4, abs=1e-6)
    for name in ("accuracy", "binary_accuracy", "auc", "precision", "recall"):
        if name in found:
            assert ran.final[f"server_{name}"] == pytest.approx(found[name], abs=1e-6), name


@pytest.fixture
def case(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quiet_again: None,
) -> Iterator[Case]:
    """The case that the test's name begins with, in a folder of its own."""
    name = request.node.name.removeprefix("test_")[:2]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = Case(name, tmp_path)
    forget(tmp_path)
    yield made
    forget(tmp_path)


def forget(folder: Path) -> None:
    """Forget imported modules that are called as those of a folder: other cases have such too."""
    own = {path.stem for path in folder.iterdir()}
    for module in [m for m in sys.modules if m.partition(".")[0] in own]:
        del sys.modules[module]


def module(name: str) -> Any:
    import importlib

    return importlib.import_module(name)
