"""What computed the runs is told: in the methods, among the settings, and where it differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis import load
from analysis.cautions import cautions, footnote
from analysis.methods import methods, settings_of

Make = Callable[..., Path]


@pytest.fixture
def made(tmp_path: Path, make_run: Make) -> Callable[..., Path]:
    """Write a run whose ``config.json`` says more."""

    def make(name: str, **more: Any) -> Path:
        folder = make_run(tmp_path / name, seed=len(list(tmp_path.iterdir())), rounds=2)
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | more))
        return tmp_path

    return make


def values(folder: Path) -> dict[str, tuple[str, bool]]:
    rows = settings_of(load(folder)).to_dict("records")
    return {row["key"]: (row["values"], row["varies"]) for row in rows}


def test_a_run_that_does_not_say_it_ran_on_tensorflow(made: Callable[..., Path]) -> None:
    made("old")
    folder = made("new", backend="tensorflow", lanes=1)
    runs = load(folder)
    assert methods(runs)[0].endswith("Clients are trained by Keras on TensorFlow.")
    assert not cautions(runs) and footnote(runs) == ""
    assert values(folder)["backend"] == ("tensorflow", False)
    assert "lanes" not in values(folder)


def test_lanes_are_told(made: Callable[..., Path]) -> None:
    folder = made("one", backend="jax", lanes=64)
    text, _ = methods(load(folder))
    assert text.endswith("Clients are trained by Keras on JAX, 64 side by side.")
    assert values(folder)["lanes"] == ("64", False)


def test_runs_of_two_backends_are_one_setting_and_said_to_differ(
    made: Callable[..., Path],
) -> None:
    made("old")
    made("one", backend="jax", lanes=64)
    folder = made("two", backend="jax", lanes=8)
    runs = load(folder)
    assert list(runs.settings) == [""]
    assert methods(runs)[0].endswith(
        "Clients are trained by Keras, 2 runs on JAX and 1 run on TensorFlow, 8 and 64 side by "
        "side."
    )
    (said,) = cautions(runs)
    assert said.startswith("Different backends: jax 2; tensorflow 1. Their results are equal to")
    assert footnote(runs) == "Backends: jax 2, tensorflow 1."
    assert values(folder)["backend"] == ("tensorflow, jax", True)


def test_an_app_says_nothing_of_a_backend(tmp_path: Path, make_run: Make) -> None:
    make_run(tmp_path / "app", rounds=2, experiment={"app": "path/to/app"})
    runs = load(tmp_path)
    assert runs.table["backend"].tolist() == [None]
    assert "Keras" not in methods(runs)[0]
