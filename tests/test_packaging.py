"""The packages as they are shipped: what is in them, and that they run where nothing else is."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("simulation", "strategies", "analysis")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_what_is_shipped_imports_nothing_that_is_not() -> None:
    ours = {"tests", "examples", "benchmarks", "docs", "pytest", "hypothesis"}
    for path in (p for room in ROOMS for p in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names = [node.module]
            assert not {name.partition(".")[0] for name in names} & ours, path


def test_classifiers_say_what_is_required() -> None:
    versions = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if ":: 3." in c}
    assert versions == {"3.11", "3.12", "3.13"}
    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    for room in ROOMS:
        assert (ROOT / room / "py.typed").exists()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and sdist, built by the project's own build backend in an environment of its own."""
    folder = tmp_path_factory.mktemp("built")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    python = folder / "env/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "hatchling>=1.26"], check=True)
    command = [python, "-m", "hatchling", "build", "-d", folder / "dist"]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder / "dist"


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_wheel_and_sdist_are_complete(built: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = set(kept.stdout.splitlines())
    shipped = {name for name in tracked if name.split("/")[0] in ROOMS}
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert shipped <= inside
    extra = {name.split("/")[0] for name in inside - shipped}
    assert {name.endswith(".dist-info") for name in extra} == {True}
    licences = {name.rpartition("/")[2] for name in inside if "/licenses/" in name}
    assert licences == {"LICENSE", "FASHION_MNIST_LICENSE.txt"}
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    hidden = {name for name in tracked if name.startswith(".")}
    assert tracked - hidden <= names


def interpreter(version: str) -> str:
    """Return a Python of this version, on the path or among pyenv's; skip where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    found = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"))]
    for python in (str(path) for path in found if path is not None):
        done = subprocess.run([python, "--version"], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.startswith(f"Python {version}."):
            return python
    pytest.skip(f"no Python {version} here")


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_wheel_runs_in_an_empty_environment(version: str, built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    subprocess.run([interpreter(version), "-m", "venv", tmp_path / "env"], check=True)
    tools = tmp_path / "env/bin"
    subprocess.run([tools / "python", "-m", "pip", "install", "-q", wheel], check=True)
    subprocess.run([tools / "python", "-m", "pip", "check"], check=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "RAY_"))}

    def sunflower(*words: str) -> str:
        done = subprocess.run(
            [tools / "sunflower", *words],
            cwd=tmp_path,
            env=clean,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert sunflower("--version").startswith("sunflower ")
    sunflower("run", "--dataset", "fashion-mnist-mini", "--rounds", "1", "--out", "run")
    assert (tmp_path / "run/model.keras").exists()
    sunflower("report", "run")
    assert (tmp_path / "run/report/report.html").exists()
