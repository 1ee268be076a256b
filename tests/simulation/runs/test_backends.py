"""A backend that cannot be had: one line and status 2 before anything starts; resumed runs keep it.

Nothing here needs JAX.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from simulation.cli import commands
from simulation.config.errors import RunError
from simulation.config.experiment import Experiment
from simulation.runs import preflight, run
from simulation.runs.resume import as_computed

ROOT = Path(__file__).parents[3]
INSTALL = "'sunflower-fl[jax]' (processors) or 'sunflower-fl[gpu]' (CUDA)"
NEEDS = "resources.backend '{}' needs {}, which is not installed: pip install {}"
NO_JAX = NEEDS.format("jax", "JAX", INSTALL)
NO_TENSORFLOW = NEEDS.format("tensorflow", "TensorFlow", "tensorflow")


@pytest.fixture(autouse=True)
def nothing_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet_again: None) -> None:
    """Fail if data are loaded or an engine is asked for."""

    def started(*_: object) -> None:
        raise AssertionError("something was started")

    monkeypatch.setattr(run, "engine_for", started)
    monkeypatch.setattr(run, "prepare", started)
    monkeypatch.chdir(tmp_path)


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(
        preflight, "find_spec", lambda name: None if name in names else find_spec(name)
    )


def refused(command: str, text: str, folder: Path) -> None:
    found = CliRunner().invoke(commands.main, command.split())
    assert (found.exit_code, found.stderr) == (2, f"sunflower: {text}\n"), found.output
    assert not [p for p in folder.iterdir() if p.is_dir()], "no run folder is left behind"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("--lanes 0", "resources.lanes must be >= 1, got 0"),
        (
            "--lanes 4 --backend tensorflow",
            "resources.lanes must be left out with the backend 'tensorflow', got 4",
        ),
        ("--backend torch", "resources.backend must be one of auto, tensorflow, jax, got 'torch'"),
    ],
)
def test_what_makes_no_sense(options: str, text: str, tmp_path: Path) -> None:
    refused(f"run --dataset fashion-mnist-mini {options}", text, tmp_path)


@pytest.mark.parametrize("engine", ["inline", "ray", "flower"])
@pytest.mark.parametrize(("backend", "text"), [("jax", NO_JAX), ("tensorflow", NO_TENSORFLOW)])
def test_a_library_that_is_not_there(
    engine: str, backend: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, backend)
    base = "--dataset fashion-mnist-mini --clients 4"
    refused(f"run {base} --engine {engine} --backend {backend}", text, tmp_path)
    study = f"compare {base} --strategies fedavg,fedprox --dry-run --out it"
    refused(f"{study} --engine {engine} --backend {backend}", text, tmp_path)


@pytest.mark.parametrize("engine", ["inline", "flower"])
def test_a_process_that_has_keras_on_another_backend(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras: Any = SimpleNamespace(backend=SimpleNamespace(backend=lambda: "torch"))
    monkeypatch.setitem(sys.modules, "keras", keras)
    refused(
        f"run --dataset fashion-mnist-mini --engine {engine}",
        f"resources.backend must be Keras' own (torch) with the engine '{engine}' in a process "
        "that has imported Keras, got 'tensorflow': set KERAS_BACKEND=tensorflow before Keras is "
        "imported, or use the engine 'ray'",
        tmp_path,
    )
    preflight.check(Experiment(), tmp_path / "run")  # Ray's workers are processes of their own.


@pytest.mark.parametrize(("option", "key", "value"), [
    ("--backend jax", "backend", "'jax'"), ("--lanes 4", "lanes", "4"),
])  # fmt: skip
def test_an_app_has_its_own(option: str, key: str, value: str, tmp_path: Path) -> None:
    refused(
        f"run --app {tmp_path} {option}",
        f"resources.{key} must be left out with --app, whose clients train as they do in Flower "
        f"(Keras on KERAS_BACKEND), got {value}",
        tmp_path,
    )


def test_the_driver_looks_for_backends_without_importing_them(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from simulation.config.errors import ConfigError
from simulation.config.experiment import parse
from simulation.runs import preflight, run
for name in ("tensorflow", "jax"):
    try:
        made = parse({{"resources": {{"backend": name}}}})
        preflight.check(made, Path({str(tmp_path)!r}) / "run")
    except ConfigError as error:
        assert name == "jax" and "which is not installed" in str(error), error
print(*{{name.partition(".")[0] for name in sys.modules}})
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not {"tensorflow", "jax", "jaxlib", "keras", "ray"} & {*done.stdout.split()}


RESUMED: list[tuple[dict[str, Any], dict[str, Any], tuple[str, int | None] | str]] = [
    ({"backend": "jax", "lanes": 16}, {}, ("jax", 16)),
    ({"backend": "jax", "lanes": 16}, {"backend": "jax"}, ("jax", 16)),
    ({"backend": "jax", "lanes": 16}, {"backend": "jax", "lanes": 16}, ("jax", 16)),
    ({"backend": "jax", "lanes": 16}, {"lanes": 8}, "resources.lanes must stay 16 .*, got 8"),
    (
        {"backend": "jax", "lanes": 16}, {"backend": "tensorflow"},
        "resources.backend must stay 'jax' .*, got 'tensorflow'",
    ),
    ({"backend": "tensorflow", "lanes": 1}, {"client_gpus": 1.0}, ("tensorflow", None)),
    (
        {"backend": "tensorflow", "lanes": 1}, {"backend": "jax"},
        "resources.backend must stay 'tensorflow' .*, got 'jax'",
    ),
    ({}, {}, ("tensorflow", None)),  # A run of before there were backends.
    ({}, {"backend": "jax"}, "resources.backend must stay 'tensorflow' .*, got 'jax'"),
]  # fmt: skip


@pytest.mark.parametrize(("recorded", "asked", "expected"), RESUMED)
def test_a_resumed_run_computes_as_it_began(
    recorded: Any, asked: Any, expected: Any, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(recorded))
    experiment = Experiment(resources={"engine": "inline", **asked})
    if isinstance(expected, str):
        with pytest.raises(RunError, match=rf"^resume: {expected}$") as caught:
            as_computed(tmp_path, experiment)
        assert str(tmp_path) in str(caught.value)
        return
    found = as_computed(tmp_path, experiment).resources
    assert (found.library, found.lanes) == expected


def test_a_run_on_jax_is_not_resumed_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "jax")
    made = Experiment(dataset="fashion-mnist-mini")
    config = {"hash": made.digest(), "experiment": made.model_dump(mode="json")}
    path = tmp_path / "it"
    path.mkdir()
    (path / "config.json").write_text(json.dumps({**config, "backend": "jax", "lanes": 2}))
    with pytest.raises(ValueError, match=r"^resources.backend 'jax' needs JAX, which is not"):
        run.simulate(made, out=path, resume=True)
